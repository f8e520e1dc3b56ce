"""Parts of the C exporter for processors without floating point: tables of integers, and the proven error bound."""
