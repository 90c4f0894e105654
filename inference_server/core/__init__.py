"""The vocabulary of the sidecar. Imports nothing of ours."""
