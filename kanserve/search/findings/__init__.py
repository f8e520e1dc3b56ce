"""The stages of find_formulas: preprocess, decompose, search, postprocess."""
