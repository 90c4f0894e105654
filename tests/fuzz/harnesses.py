"""The harnesses, by name."""

from collections.abc import Mapping
from typing import Any, Final

from fuzz.client_harness import ClientHarness
from fuzz.grpc_harness import GrpcHarness
from fuzz.server_harness import ServerHarness

HARNESSES: Final[Mapping[str, Any]] = {"server": ServerHarness, "client": ClientHarness, "grpc": GrpcHarness}
