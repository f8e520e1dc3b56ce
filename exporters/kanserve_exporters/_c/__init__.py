"""Parts of the C exporter."""
