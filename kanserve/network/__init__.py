"""A trained network as data, and the mathematics of it: what it computes, its derivatives, its ranges, its file."""
