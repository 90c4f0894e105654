"""A fitted scikit-learn estimator becomes one vetted ONNX file that carries its contract."""

from model_export.errors import Difference, ExportError, ParityError
from model_export.export import ExportReport, export_model

__all__ = ["Difference", "ExportError", "ExportReport", "ParityError", "export_model"]
