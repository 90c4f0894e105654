"""The sidecar: hosts ONNX models behind gRPC and swaps them when their files are replaced."""
