"""Checkpoints that other libraries wrote, with what these answered: see `make`, which makes them anew."""
