"""A fitted scikit-learn estimator becomes one vetted ONNX file that carries its contract."""
