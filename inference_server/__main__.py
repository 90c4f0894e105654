"""`python -m inference_server` is `inference-server`."""

from inference_server.cli import main

main()
