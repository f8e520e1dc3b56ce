"""Fitting candidates: constants by shape, a beam of the best, and tests of the residuals."""
