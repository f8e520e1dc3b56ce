"""How calls reach the server: kanserve's own event loop in C, or grpcio."""
