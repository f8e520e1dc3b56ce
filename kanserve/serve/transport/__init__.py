"""How calls reach the server: our own event loop in C, or grpcio."""
