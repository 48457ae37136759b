"""ARM Linux: ONNX Runtime."""

OPSET = 21
