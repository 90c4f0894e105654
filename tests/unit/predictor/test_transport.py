"""What carries the calls, and why another cannot."""

import importlib.util
import sys
from pathlib import Path

import ngh2
import pytest

from strategy_client.predictor.channel import TargetError
from strategy_client.predictor.client import InferenceClient
from strategy_client.predictor.endpoints import Endpoints
from strategy_client.predictor.security import Security, SecurityError
from strategy_client.predictor.transport import Transport, check_transport, choose_transport

TLS = Security(ca=Path("ca.pem"))
PLAIN = Security()


@pytest.mark.parametrize(
    ("target", "security", "chosen"),
    [
        ("unix:/run/s", PLAIN, "h2"),
        ("unix:/run/s", TLS, "h2"),
        ("127.0.0.1:8001", PLAIN, "h2"),
        ("127.1.2.3:8001", PLAIN, "h2"),
        ("[::1]:8001", PLAIN, "h2"),
        ("localhost:8001", PLAIN, "h2"),
        ("127.0.0.1:8001", TLS, "grpcio"),
        ("10.0.0.7:8001", PLAIN, "grpcio"),
        ("model.example:8001", PLAIN, "grpcio"),
    ],
)
def test_auto_takes_h2_where_it_can(target: str, security: Security, chosen: str) -> None:
    """Plaintext on this machine goes over h2, everything else over grpcio; who asks for grpcio has it."""
    assert choose_transport(target, security, "auto") == chosen
    assert choose_transport(target, security, "grpcio") == "grpcio"


@pytest.mark.parametrize(
    ("target", "security", "told"),
    [
        ("10.0.0.7:8001", PLAIN, "Unix sockets and loopback"),
        ("localhost.example:8001", PLAIN, "Unix sockets and loopback"),
        ("127.0.0.1:8001", TLS, "no TLS"),
        ("nonsense", PLAIN, "expected unix:/path or host:port"),
    ],
)
def test_h2_that_cannot_be_says_why(target: str, security: Security, told: str) -> None:
    """Who asks for h2 where it cannot be is told why, and what to ask for."""
    with pytest.raises(TargetError, match=told):
        choose_transport(target, security, "h2")


def test_h2_that_is_not_installed_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the library auto takes grpcio, and h2 is refused with the name of what brings it."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "ngh2" else found(name))
    assert choose_transport("unix:/run/s", PLAIN, "auto") == "grpcio"
    with pytest.raises(TargetError, match=r"tickserve\[fast\]"):
        InferenceClient("unix:/run/s", transport="h2")


def test_h2_of_another_version_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a library that lacks what is used of it auto takes grpcio, and h2 is refused and says what."""
    for name in [name for name in sys.modules if name.startswith("strategy_client.predictor.h2")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(ngh2, "Setting")
    assert choose_transport("unix:/run/s", PLAIN, "auto") == "grpcio"
    with pytest.raises(TargetError, match=r"tickserve\[fast\] is to be installed anew: .*Setting"):
        InferenceClient("unix:/run/s", transport="h2")


def test_another_word_is_refused() -> None:
    """A transport that there is not is refused with those that there are."""
    with pytest.raises(TargetError, match="expected auto, grpcio or h2"):
        check_transport("http3")
    assert [check_transport(name) for name in ("auto", "grpcio", "h2")] == ["auto", "grpcio", "h2"]


@pytest.mark.parametrize("transport", ["h2", "grpcio"])
def test_clients_tell_their_transport(tmp_path: Path, transport: Transport) -> None:
    """One client says what carries its calls, several say it of each target."""
    with InferenceClient(f"unix:{tmp_path}/s", transport=transport) as client:
        assert client.transport == transport
    with Endpoints([f"unix:{tmp_path}/a", f"unix:{tmp_path}/b"], transport=transport) as endpoints:
        assert [state.transport for state in endpoints.states] == [transport] * 2


def test_files_that_cannot_be_used_are_refused_by_h2_too(tmp_path: Path) -> None:
    """A token or certificates that are not there are no matter of the transport."""
    for security in (Security(token_file=tmp_path / "none"), Security(ca=tmp_path / "none")):
        with pytest.raises(SecurityError, match="none"):
            InferenceClient("unix:/run/s", security=security, transport="h2")
