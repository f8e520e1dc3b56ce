"""Parts of the NumPy exporter."""
