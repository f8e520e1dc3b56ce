"""Print an expression as text, LaTeX, sympy or code."""
