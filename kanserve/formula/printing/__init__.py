"""An expression as text, LaTeX, sympy or code."""
