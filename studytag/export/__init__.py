"""From the best model's folder to a bundle: ONNX, int8, the gates both must pass."""
