"""What touches the world for `serving`: ONNX Runtime, the model repository on disk, the vetting process."""

import os

# Since 1.29 ONNX Runtime on Linux writes a device id and reports sessions, models and counts to its makers,
# unless this is set before its first import. What a trader runs is nobody's business; who wants it sets 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
