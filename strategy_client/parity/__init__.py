"""Proof over recorded ticks: batch features = streamed, batches = rows alone, estimator = served model."""
