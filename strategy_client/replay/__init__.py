"""Recorded sessions: replayed with a sidecar of their own, counted, and shown to a person."""
