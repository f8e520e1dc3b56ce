"""Levenberg-Marquardt in NumPy and by the compiled kernels. No torch."""
