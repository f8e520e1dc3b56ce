"""The command `kanserve`."""
