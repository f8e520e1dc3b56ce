"""Flags, environment and file become settings, in a process of its own that then becomes the server."""
