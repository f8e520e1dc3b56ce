"""Expression trees of candidate networks: enumerate shapes, compose trees, convert them to networks."""
