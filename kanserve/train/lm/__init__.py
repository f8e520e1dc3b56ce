"""Levenberg-Marquardt, in NumPy and in compiled kernels; torch is not needed."""
