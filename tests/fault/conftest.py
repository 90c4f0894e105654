"""What tests of faults share: each transport in turn."""

import pytest

from strategy_client.predictor import client as module
from strategy_client.predictor.transport import choose_transport


@pytest.fixture(params=["h2", "grpcio"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let clients that may choose their transport choose this one."""
    monkeypatch.setattr(
        module,
        "choose_transport",
        lambda target, security, _asked: choose_transport(target, security, request.param),
    )
    return request.param
