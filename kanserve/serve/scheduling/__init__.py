"""Which thread computes what, and when."""
