"""What the sidecar answers over HTTP: probes, metrics, and the status page with its data."""
