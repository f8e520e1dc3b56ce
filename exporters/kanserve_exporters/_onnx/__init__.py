"""Parts of the ONNX exporter."""
