"""Fitting candidates: training shapes, a beam search for names, and tests of the residuals."""
