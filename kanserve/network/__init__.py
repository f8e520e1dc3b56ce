"""A trained network as data, and its mathematics: evaluation, derivatives, training ranges, serialization."""
