"""The way to the sidecar: one long-lived stream behind a breaker, and the friendly client around it."""
