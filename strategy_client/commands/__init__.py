"""The commands of `strategy-client`, one a module; `cli` puts them together."""
