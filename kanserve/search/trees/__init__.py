"""Candidate networks by the shape of their expression: enumerated, composed, and made a network."""
