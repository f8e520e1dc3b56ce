"""The numerical tools of the search: bases, least squares, link functions, surrogates, interactions; and its budget."""
