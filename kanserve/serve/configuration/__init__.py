"""Read settings from flags, environment and file, in a process that the server then replaces (exec)."""
