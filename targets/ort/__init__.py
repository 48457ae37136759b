"""ARM Linux: ONNX Runtime."""
