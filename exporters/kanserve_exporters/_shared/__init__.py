"""What the exporters share: expressions, identifiers, tables of a layer, special functions."""
