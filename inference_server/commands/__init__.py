"""The commands that need a sidecar which runs, a module for each noun; cli.py puts them together."""
