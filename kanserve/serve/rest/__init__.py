"""The REST half of the Open Inference Protocol: HTTP requests become messages for the handlers of gRPC calls."""
