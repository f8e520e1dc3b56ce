"""Levenberg-Marquardt, in NumPy and in compiled kernels, without torch."""
