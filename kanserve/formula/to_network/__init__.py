"""Convert a formula to a network."""
