"""gRPC over a local socket without threads: the caller writes, reads and keeps its deadline itself."""
