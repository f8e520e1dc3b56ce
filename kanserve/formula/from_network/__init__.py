"""Convert a network to a formula for each output."""
