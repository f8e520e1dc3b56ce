"""Rewriting an expression: factors, quotients, identities, and the simplest of many forms."""
