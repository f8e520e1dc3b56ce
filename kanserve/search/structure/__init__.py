"""Structure of a law before it is found: separable parts, merged inputs, scales and units."""
