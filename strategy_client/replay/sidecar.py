"""The sidecar that a replay asks: one started for it, or those at its targets."""

from collections.abc import Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from strategy_client.binding import Wanted
from strategy_client.bindings import Bindings
from strategy_client.events import Reason
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.endpoints import Endpoints
from strategy_client.predictor.security import Security
from strategy_client.predictor.status import SidecarUnavailableError
from strategy_client.predictor.transport import Transport, TransportInUse
from strategy_client.sidecar.own_sidecar import OwnSidecar

CONNECT_TIMEOUT_S: Final = 10.0


@dataclass(slots=True)
class Sidecar:
    """What a replay asks, if any strategy is learned; `own` where it was started for this replay.

    `shadows` is a connection of its own, where a strategy has a shadow.
    """

    client: InferenceClient | Endpoints | None = None
    shadows: InferenceClient | Endpoints | None = None
    bindings: Bindings | None = None
    own: OwnSidecar | None = None

    @property
    def transports(self) -> tuple[TransportInUse, ...]:
        """What carries the calls to each target."""
        if self.client is None:
            return ()
        clients = self.client.clients if isinstance(self.client, Endpoints) else (self.client,)
        return tuple(client.transport for client in clients)

    def replace(self, model: str, file: Path) -> str:
        """Put a file in a model's place; return why it was not taken, empty when it was."""
        if self.own is None or self.bindings is None or not isinstance(self.client, InferenceClient):
            raise RuntimeError("this sidecar is somebody else's")
        refused = self.own.replace(self.client, model, file)
        self.bindings.refresh()
        return refused


def open_sidecar(
    stack: ExitStack,
    wanted: Sequence[Wanted],
    *,
    targets: Sequence[str],
    security: Security | None,
    transport: Transport = "auto",
    models: Path,
    allow_contract_change: Collection[str],
    has_shadows: bool,
) -> Sidecar:
    """Return what answers, ready and bound; `stack` stops and closes it.

    Without `targets` a sidecar is started over a copy of `models`. Raises SidecarError or InferenceError
    where there is none in time.
    """
    sidecar = Sidecar()
    if not wanted:
        return sidecar
    if targets:
        endpoints = sidecar.client = stack.enter_context(
            Endpoints(targets, security=security, transport=transport)
        )
        endpoints.wait_ready(CONNECT_TIMEOUT_S)
        if has_shadows:
            sidecar.shadows = stack.enter_context(Endpoints(targets, security=security, transport=transport))
    else:
        # The process first: a fork is safest before gRPC has threads.
        pinned = {each.model.name for each in wanted if each.model.version}
        own = sidecar.own = stack.enter_context(OwnSidecar(models, allow_contract_change, pinned))
        client = sidecar.client = stack.enter_context(InferenceClient(own.target, transport=transport))
        own.wait_ready(client)
        if has_shadows:
            sidecar.shadows = stack.enter_context(InferenceClient(own.target, transport=transport))
    if sidecar.shadows is not None and not sidecar.shadows.wait_connected(CONNECT_TIMEOUT_S):
        text = f"no second connection to it, for shadows, within {CONNECT_TIMEOUT_S:g} s"
        raise SidecarUnavailableError(Reason.UNAVAILABLE, text)
    sidecar.bindings = Bindings(wanted, sidecar.client.describe)
    stack.callback(sidecar.bindings.close)
    sidecar.bindings.start()
    return sidecar
