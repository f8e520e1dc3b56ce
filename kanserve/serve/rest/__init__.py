"""The REST half of the Open Inference Protocol: HTTP requests become the messages of the gRPC calls, and go through the
same handlers."""
