"""Fit candidates: train shapes, name curves by beam search, and test residuals."""
