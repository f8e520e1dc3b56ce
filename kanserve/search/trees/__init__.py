"""Expression trees of candidate networks: enumerating shapes, composing trees, and converting them to networks."""
