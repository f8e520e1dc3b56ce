"""find_formulas from samples to results: preprocess, decompose, search, postprocess."""
