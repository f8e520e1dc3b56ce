"""From a network to the formula of each output."""
