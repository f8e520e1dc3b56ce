"""Rewriting an expression: factoring, quotients, identities, and choosing the simplest form."""
