"""Rewrite expressions: factoring, quotients, identities, and choosing the simplest form."""
