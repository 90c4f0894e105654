"""Where strategies are configured. Needs more than the base install: imported by who reads a store only."""
