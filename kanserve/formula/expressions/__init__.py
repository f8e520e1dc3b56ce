"""Expressions as trees: their nodes, their text, how complex they are and where they are defined."""
