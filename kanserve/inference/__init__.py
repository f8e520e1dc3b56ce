"""The Open Inference Protocol: messages generated from protos/kanserve/inference, and `wire`, which binds them."""
