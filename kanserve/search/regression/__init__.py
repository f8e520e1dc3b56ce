"""The regressions behind the search: bases, least squares, link functions, surrogates, interactions; and its budget."""
