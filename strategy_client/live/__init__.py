"""The live run: ticks as they come, configuration as it changes, and what it tells of itself."""
