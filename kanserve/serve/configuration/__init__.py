"""Reads settings from flags, environment and file, in a process that is then replaced by the server (exec)."""
