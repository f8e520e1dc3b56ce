"""Regressions that a search is built on: bases, least squares, surrogates, interactions and the budget."""
