"""`python -m inference_server` is `inference-server`, and process 1 of a container."""

from inference_server.leaving import leave_when_told

leave_when_told()

from inference_server.cli import main  # noqa: E402 - the import is what takes the time

main()
