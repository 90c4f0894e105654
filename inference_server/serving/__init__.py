"""Life cycle, version policy, registry and data plane: pure asyncio, no gRPC, no ONNX Runtime, no disk."""
