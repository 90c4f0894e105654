"""`--transport` of the commands that ask a sidecar."""

from pathlib import Path

import pytest
from fixtures_session import csv_lines, walk, write_csv
from typer.testing import CliRunner

from strategy_client.commands.command_line import app

STRATEGY = """
strategy_name: learned
strategy_type: ml_momentum
instrument_tokens: [1]
parameters: {model: m, features: [price]}
ticks: {time: time, price: price, token: token}
"""
TARGET = "10.255.255.1:8001"


WORD, PLACE = ("http3", "expected auto, grpcio or h2"), ("h2", "for Unix sockets and loopback")


@pytest.mark.parametrize(
    ("command", "transport", "told"),
    [
        *((command, *WORD) for command in ("run", "replay", "check", "parity", "audit")),
        *((command, *PLACE) for command in ("run", "check")),
    ],
)
def test_a_transport_that_cannot_be_is_refused(
    command: str, transport: str, told: str, tmp_path: Path
) -> None:
    """Another word, and one that cannot reach the target, end each command with code 2 and the reason."""
    ticks, strategies = tmp_path / "t.csv", tmp_path / "s.yaml"
    write_csv(ticks, csv_lines(1, walk(50, 100, 1)))
    strategies.write_text(STRATEGY)
    arguments = {
        "run": ["run", "--source", ticks, "--strategies", strategies],
        "replay": ["replay", ticks, "--strategies", strategies, "--out", tmp_path / "out"],
        "check": ["check", "--strategies", strategies],
        "parity": ["parity", ticks, "--strategies", strategies],
        "audit": ["audit", "verify", tmp_path],
    }[command]
    done = CliRunner().invoke(app, [*map(str, arguments), "--target", TARGET, "--transport", transport])
    assert done.exit_code == 2, done.output
    assert told in " ".join(done.output.split())
