"""A file of ticks is let go when a command ends, however it ends, and whoever holds its error."""

import os
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from strategy_client.commands.command_line import app
from strategy_client.configuration import TicksConfig
from strategy_client.sidecar.own_sidecar import SidecarError
from strategy_client.sources.bad_line import BadFileError, BadLines
from strategy_client.sources.tick_file import open_ticks

COLUMNS = {"time": "t", "price": "p", "token": "tok"}
STRATEGIES = """
ticks: {time: t, price: p, token: tok}
strategies:
  - {strategy_name: l, strategy_type: ml_momentum, instrument_tokens: [7], parameters: {model: m}}
"""


def as_csv(folder: Path) -> Path:
    """Write two ticks as text."""
    path = folder / "ticks.csv"
    path.write_text("t,p,tok\n2024-01-01T00:00:00Z,1,7\n2024-01-01T00:00:01Z,2,7\n", encoding="utf-8")
    return path


def as_parquet(folder: Path) -> Path:
    """Write two ticks as Parquet."""
    path = folder / "ticks.parquet"
    times = [datetime(2024, 1, 1, second=second, tzinfo=UTC) for second in range(2)]
    parquet.write_table(pa.table({"t": times, "p": [1.0, 2.0], "tok": [7, 7]}), path)
    return path


def is_open(path: Path) -> bool:
    """Whether this process has the file open."""
    return any(os.path.realpath(each) == str(path.resolve()) for each in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("write", [as_csv, as_parquet])
def test_a_closed_file_is_open_no_more(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """`close` lets go of a file in the middle of its ticks, and does nothing the second time."""
    path = write(tmp_path)
    file = open_ticks(path, TicksConfig(**COLUMNS), None, BadLines())
    ticks = iter(file)
    next(ticks)
    assert is_open(path)
    file.close()
    file.close()
    assert not is_open(path)


@pytest.mark.parametrize("write", [as_csv, as_parquet])
def test_a_file_without_its_columns_is_open_no_more(tmp_path: Path, write: Callable[[Path], Path]) -> None:
    """Though the error is held that says so, and with it whoever read the file."""
    path = write(tmp_path)
    with pytest.raises(BadFileError) as error:
        list(open_ticks(path, TicksConfig(**COLUMNS | {"price": "none"}), None, BadLines()))
    assert error.value.__traceback__ is not None
    assert not is_open(path)


@pytest.mark.parametrize("write", [as_csv, as_parquet])
@pytest.mark.parametrize(("command", "place"), [("replay", "replay.session"), ("parity", "commands.parity")])
def test_a_command_that_finds_no_sidecar_leaves_no_file_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Path], command: str, place: str
) -> None:
    """The error is held here with all that it went through, so that nothing is closed by chance."""
    error = SidecarError("none came")

    def none(*_given: object, **_named: object) -> None:
        raise error

    monkeypatch.setattr(sys.modules[f"strategy_client.{place}"], "open_sidecar", none)
    path = write(tmp_path)
    strategies = tmp_path / "strategies.yaml"
    strategies.write_text(STRATEGIES, encoding="utf-8")
    given = [command, str(path), "--strategies", str(strategies)]
    if command == "replay":
        given += ["--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, given)
    assert result.exit_code != 0
    assert error.__traceback__ is not None
    assert not is_open(path)
