"""The structure of a law before it is known: separable parts, merged inputs, scalings and units."""
