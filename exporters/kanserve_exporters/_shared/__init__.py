"""Shared by the exporters: expressions, identifiers, tables of a layer, special functions."""
