"""A run -> files that classify without this package: ONNX, torch.export, a folder for the web."""
