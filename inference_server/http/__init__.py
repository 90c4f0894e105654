"""What the sidecar answers over HTTP: probes and metrics."""
