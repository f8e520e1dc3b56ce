"""From a formula to a network."""
