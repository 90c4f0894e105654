"""What a user's own code hands over and the log must bear: ticks that are none, metadata that raises."""

import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fixtures_audit import executors, findings, processed, records, walk_ticks
from typer.testing import CliRunner

from strategy_client.audit import AuditLog, AuditOptions
from strategy_client.audit.decoder import Decoder
from strategy_client.audit.plain import to_text
from strategy_client.audit.verdict import VERIFIED
from strategy_client.audit.verification import Verification, VerificationOptions
from strategy_client.commands.command_line import app
from strategy_client.events import MarketTick, NoSignal, ProcessedTick, Reason

PATIENT = AuditOptions(patient=True)
HUGE = 10**5_000


class NoZone(tzinfo):
    """A zone of a user's own that raises."""

    def utcoffset(self, _when: object) -> timedelta:
        """Raise."""
        raise LookupError


class NoText:
    """What cannot even be written."""

    def __str__(self) -> str:
        """Raise."""
        raise LookupError


NAIVE = datetime(2024, 8, 8)  # noqa: DTZ001 that is the case
FOREIGN: list[tuple[str, Any]] = [
    ("timestamp", None),
    ("timestamp", 1_723_000_000),
    ("timestamp", "2024-08-08"),
    ("timestamp", pd.NaT),
    ("timestamp", NAIVE.replace(tzinfo=NoZone())),
    ("timestamp", NAIVE),
    ("last_price", None),
    ("last_price", "100.5"),
    ("last_price", 'a "price"'),
    ("last_price", True),
    ("last_price", float("nan")),
    ("last_price", Decimal("-Infinity")),
    ("last_price", HUGE),
    ("last_price", NoText()),
    ("last_trade_time", "yesterday"),
    ("last_trade_time", pd.NaT),
    ("last_trade_time", NAIVE.replace(tzinfo=NoZone())),
    ("volume_traded", HUGE),
]


def log_of(folder: Path, given: list[ProcessedTick]) -> AuditLog:
    """Write what came of some ticks; nothing may be dropped or be a gap."""
    with AuditLog(folder, executors(), options=PATIENT) as log:
        for each in given:
            log.took(each)
    assert len(records(folder, "tick")) == len(given)
    assert findings(folder) == []
    return log


def test_a_tick_that_is_no_market_data_has_its_record(tmp_path: Path) -> None:
    """H6: what the edge refuses is in the log as it came, is refused again by verify, and can be shown.

    A time that is none is null there; nothing is a gap, and the strategies' histories stand as they stood.
    """
    true = walk_ticks(40)
    given: list[MarketTick] = []
    for index, each in enumerate(true):
        given.append(each)
        given += [replace(each, **{name: value}) for name, value in FOREIGN[index : index + 1]]
    came = processed(executors(), given)
    log_of(tmp_path, came)
    noticed = {"STALE_TICK", "NON_FINITE"}
    read = [Decoder().read_tick(record) for record in records(tmp_path, "tick")]
    refused = [each.index for each in read if each.outcomes[0].said in noticed]
    assert len(refused) == sum(name in {"timestamp", "last_price"} for name, _ in FOREIGN)
    assert [each["tick"] for each in records(tmp_path, "tick") if each["time"] is None] == refused[:5]
    verdict = Verification(VerificationOptions(tmp_path)).run()
    assert verdict.differences == []
    assert verdict.code == VERIFIED
    for flags in ([], ["--json"], ["--from", "00:00"]):
        shown = CliRunner().invoke(app, ["audit", "show", str(tmp_path), "--reason", "STALE_TICK", *flags])
        assert shown.exception is None, repr(shown.exception)
        assert "cannot be read" not in shown.output
        assert shown.stdout.count("STALE_TICK") == (0 if flags == ["--from", "00:00"] else 6)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (100.5, "100.5"),
        (np.float64(100.5), "100.5"),
        (Decimal("1E+2"), "1E+2"),
        ("100.5", {"$text": "100.5"}),
        (True, {"$text": "True"}),
        (NoText(), {"$text": "NoText that cannot be shown: LookupError"}),
        (HUGE, {"$text": "int that cannot be shown: ValueError"}),
    ],
    ids=["float", "numpy", "decimal", "text", "boolean", "no text", "huge"],
)
def test_a_price_is_told_as_what_it_was(tmp_path: Path, given: Any, text: object) -> None:
    """A number stands as its digits; what the edge takes for none is marked, and never reads as one."""
    tick = replace(walk_ticks(1)[0], last_price=given)
    log_of(tmp_path, [ProcessedTick(0, tick, [], 0)])
    (record,) = records(tmp_path, "tick")
    assert record["price"] == text
    read = Decoder().read_tick(record).tick.last_price
    assert type(read) is (str if isinstance(text, dict) else Decimal)


class Exits:
    """Ends the program, whatever it is asked."""

    def __str__(self) -> str:
        """Exit."""
        raise SystemExit(3)

    def __float__(self) -> float:
        """Exit."""
        raise SystemExit(3)


class ExitingArray:
    """Looks like an array, and is none."""

    def tolist(self) -> list[float]:
        """Interrupt: this thread is not the main one, so it is nobody's Ctrl-C."""
        raise KeyboardInterrupt


class ExitingDict(dict[str, object]):
    """A dict that does not tell what it holds."""

    def items(self) -> Any:
        """Exit."""
        raise SystemExit(3)

    def values(self) -> Any:
        """Exit."""
        raise SystemExit(3)


class ExitingMapping(Mapping[str, object]):
    """A mapping that ends the program."""

    def __getitem__(self, key: str) -> object:
        """Exit."""
        raise SystemExit(3)

    def __iter__(self) -> Any:
        """Exit."""
        raise GeneratorExit

    def __len__(self) -> int:
        """Return one."""
        return 1


class ExitingFloat(float):
    """A float that is none when it is asked."""

    def __float__(self) -> float:
        """Exit."""
        raise SystemExit(3)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (Exits(), {"$text": "Exits that cannot be shown: SystemExit"}),
        ({Exits(): 1}, {"Exits that cannot be shown: SystemExit": 1}),
        (ExitingArray(), {"$text": "ExitingArray that cannot be shown: KeyboardInterrupt"}),
        (ExitingDict(a=1), {"$text": "ExitingDict that cannot be shown: SystemExit"}),
        (ExitingMapping(), {"$text": "ExitingMapping that cannot be shown: GeneratorExit"}),
        (ExitingFloat("inf"), {"$text": "ExitingFloat that cannot be shown: SystemExit"}),
        (HUGE, {"$text": "int that cannot be shown: ValueError"}),
        ([{"deep": (Exits(),)}], [{"deep": [{"$text": "Exits that cannot be shown: SystemExit"}]}]),
    ],
    ids=["text", "key", "array", "dict", "mapping", "float", "huge", "deep"],
)
def test_metadata_that_ends_the_program_ends_no_log(tmp_path: Path, given: Any, shown: object) -> None:
    """H8: whatever metadata raise when they are written, SystemExit too, costs that value alone."""
    now = walk_ticks(1)[0].timestamp
    outcomes = [NoSignal("s", 1, now, Reason.HOLD, "", {"kept": 1, "own": given})]
    log = log_of(tmp_path, [ProcessedTick(i, walk_ticks(1)[0], outcomes, 0) for i in range(2)])
    assert [each["said"]["s"]["more"] for each in records(tmp_path, "tick")] == [
        {"kept": 1, "own": shown}
    ] * 2
    assert log.counts.dropped == log.counts.failures == 0


def test_a_record_whose_encoding_ends_the_program_is_a_gap(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """H10: metadata that are no mapping at all, and exit, cost their own record; the next one is written."""

    class Metadata:
        def __contains__(self, _key: object) -> bool:
            raise SystemExit(3)

    now = walk_ticks(1)[0].timestamp
    own = NoSignal("s", 1, now, Reason.HOLD, "", Metadata())  # type: ignore[arg-type]
    with AuditLog(tmp_path, executors(), options=PATIENT) as log:
        log.took(ProcessedTick(0, walk_ticks(1)[0], [own], 0))
        log.took(ProcessedTick(1, walk_ticks(1)[0], [NoSignal("s", 1, now, Reason.HOLD)], 0))
    (gap,) = records(tmp_path, "gap")
    assert (gap["gap"], gap["first"], gap["last"]) == (1, 0, 0)
    assert [each["tick"] for each in records(tmp_path, "tick")] == [1]
    assert "could not be written" in caplog.text


def test_ctrl_c_while_a_value_is_written_is_nobodys_value() -> None:
    """In the main thread KeyboardInterrupt goes on its way: there it is the user's."""
    for given in (ExitingArray(), [ExitingArray()], {ExitingArray: ExitingArray()}):
        with pytest.raises(KeyboardInterrupt):
            to_text(given)
    assert to_text({"x": math.inf}) == '{"x":{"$float":"inf"}}'
