"""What touches the world for `serving`: ONNX Runtime, the model repository on disk, the vetting process."""
