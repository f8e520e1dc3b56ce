"""Find the structure of an unknown law: separable parts, merged inputs, scalings and units."""
