"""Scheduling: which thread computes what, and when."""
