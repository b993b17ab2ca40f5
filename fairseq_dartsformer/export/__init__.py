"""Export of trained models: ONNX graphs with explicit caches, and a program that translates with
them."""
