"""Ticks from files of each form, good lines and bad."""

import csv
import gzip
import json
import time
import zipfile
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from strategy_client.configuration import TicksConfig
from strategy_client.events import MarketTick
from strategy_client.sources.bad_line import MAX_KEPT, BadFileError, BadLineError, BadLines
from strategy_client.sources.line import MAX_CHARACTERS
from strategy_client.sources.tick_file import merged, open_ticks

NAMES: dict[str, Any] = {"time": "t", "price": "p", "token": "tok"}
COLUMNS = TicksConfig(**NAMES, volume="v")
WRONG_TOKEN: dict[str, Any] = {"instrument_token": "x"}
GOOD = "t,p,tok,v\n2024-01-01T09:15:00+05:30,100.10,7,3\n2024-01-01T03:45:01Z,100.2,7,\n"


def read(path: Path, config: TicksConfig = COLUMNS, tokens: set[int] | None = None) -> list[MarketTick]:
    """Return the ticks of a file that has no bad line."""
    return list(open_ticks(path, config, tokens, BadLines(strict=True)))


def write(path: Path, text: str) -> Path:
    """Write a file, compressed as its name says."""
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    elif path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ticks.csv", text)
    else:
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.zip"])
def test_csv_plain_and_compressed(tmp_path: Path, name: str) -> None:
    """Prices keep their digits, times become UTC, an empty volume is none."""
    first, second = read(write(tmp_path / name, GOOD))
    assert str(first.last_price) == "100.10"
    assert first.timestamp == datetime(2024, 1, 1, 3, 45, tzinfo=UTC)
    assert (first.instrument_token, first.last_traded_quantity) == (7, 3)
    assert second.last_traded_quantity is None


@pytest.mark.parametrize(
    ("line", "field", "came"),
    [
        ("2024-01-01T00:00:00Z,abc,7,1", "p: expected a number", "'abc'"),
        ("2024-01-01T00:00:00Z,0,7,1", "p: expected a finite number above 0", "'0'"),
        ("2024-01-01T00:00:00Z,nan,7,1", "p: expected a finite number above 0", "'nan'"),
        ("2024-01-01T00:00:00Z,1,x,1", "tok: expected an instrument token", "'x'"),
        ("2024-01-01T00:00:00Z,1,99,1", "tok: expected an instrument of the strategies: 7", "99"),
        ("2024-01-01T00:00:00Z,1e400,7,1", "p: expected a finite number above 0", "'1e400'"),
        ("2024-01-01T00:00:00Z,1e-400,7,1", "p: expected a finite number above 0", "'1e-400'"),
        ("2024-01-01T00:00:00Z,1_0,7,1", "p: expected a finite number above 0", "'1_0'"),
        ("2024-01-01T00:00:00Z,\x00,7,1", "p: expected a number", r"'\x00'"),
        ("2024-01-01T00:00:00Z,1,7,1.5", "v: expected an integer from 0", "'1.5'"),
        ("2024-01-01T00:00:00Z,1,7,inf", "v: expected an integer from 0", "'inf'"),
        ("2024-01-01T00:00:00Z,1,7,1e9999999999", "v: expected an integer from 0", "'1e9999999999'"),
        ("0001-01-01T00:00:00+05:30,1,7,1", "t: expected a time in the years", "'0001-01-01T00:00:00+05:30'"),
        (
            '2024-01-01T00:00:00Z,1,7,"1',
            "line: expected comma-separated values",
            """'2024-01-01T00:00:00Z,1,7,"1'""",
        ),
        ("yesterday,1,7,1", "t: expected an ISO 8601 time", "'yesterday'"),
        ("2024-01-01T00:00:00Z,1,7", "line: expected 4 values", "'2024-01-01T00:00:00Z,1,7'"),
    ],
)
def test_bad_line_is_named_and_skipped(tmp_path: Path, line: str, field: str, came: str) -> None:
    """A bad line is kept with file, line, field, expected, came; strict stops at it, in the same words."""
    path = write(tmp_path / "t.csv", GOOD + line + "\n2024-01-01T00:00:00Z,1,7,1\n")
    bad = BadLines()
    assert len(list(open_ticks(path, COLUMNS, {7}, bad))) == 3
    (found,) = bad.first
    assert str(found).startswith(f"{path}:4: {field}")
    assert str(found).endswith(f"came {came}")
    with pytest.raises(BadLineError) as error:
        list(open_ticks(path, COLUMNS, {7}, BadLines(strict=True)))
    assert str(error.value) == str(found)


def test_bad_lines_kept_are_bounded(tmp_path: Path) -> None:
    """All bad lines are counted, the first ones kept."""
    path = write(tmp_path / "t.csv", "t,p,tok,v\n" + "x,y,z,w\n" * (MAX_KEPT + 5))
    bad = BadLines()
    assert list(open_ticks(path, COLUMNS, None, bad)) == []
    assert (bad.count, len(bad.first)) == (MAX_KEPT + 5, MAX_KEPT)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        (TicksConfig(time="tt", price="p", token=1), "column 'tt' is missing"),
        (TicksConfig(time="t", price="prise", token=1), "column 'prise' is missing"),
        (TicksConfig(time="t", price="p"), "column 'instrument_token' is missing"),
        (TicksConfig(time="t", price="p", token=1, timezone="Mars"), "'Mars'"),
    ],
)
def test_wrong_column_or_zone_is_named(tmp_path: Path, config: TicksConfig, text: str) -> None:
    """A column that is not there, or a zone that is not known, names the file and what was expected."""
    path = write(tmp_path / "t.csv", GOOD)
    with pytest.raises(BadFileError, match=text) as error:
        read(path, config)
    assert str(error.value).startswith(f"{path}:1: ")


def test_quoted_values_are_read(tmp_path: Path) -> None:
    """A value in quotes may hold the comma."""
    path = write(tmp_path / "t.csv", '"t","p","s"\r\n"2024-01-01T00:00:00Z","1.5","A, B"\r\n')
    (tick,) = read(path, TicksConfig(time="t", price="p", symbol="s", token=1))
    assert (tick.last_price, tick.symbol) == (Decimal("1.5"), "A, B")


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl"])
def test_line_without_end_costs_one_bad_line(tmp_path: Path, name: str) -> None:
    """A line of megabytes is one bad line, shown by its beginning; the lines around it are read."""
    head, good = (
        ("", f"{event()}\n") if name.endswith("jsonl") else ("t,p,tok\n", "2024-01-01T00:00:00Z,1,7\n")
    )
    path = write(tmp_path / name, f"{head}{good}{'9' * 3 * MAX_CHARACTERS}\n{good}")
    bad = BadLines()
    config = TicksConfig() if name.endswith("jsonl") else TicksConfig(**NAMES)
    assert len(list(open_ticks(path, config, None, bad))) == 2
    (found,) = bad.first
    assert found.line == head.count("\n") + 2
    assert found.expected == f"at most {MAX_CHARACTERS:,} characters"
    assert len(str(found)) < 300


def test_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Nothing says which of two columns of one name is meant; those that are not read may stand twice."""
    with pytest.raises(BadFileError, match=r"t\.csv:1: column 'p' stands twice"):
        read(write(tmp_path / "t.csv", "t,p,tok,p\n2024-01-01T00:00:00Z,1,7,2\n"), TicksConfig(**NAMES))
    path = write(tmp_path / "t.csv", "t,p,tok,x,x\n2024-01-01T00:00:00Z,1,7,2,3\n")
    assert len(read(path, TicksConfig(**NAMES))) == 1


def test_header_of_another_kind_of_file_is_shown_harmless(tmp_path: Path) -> None:
    """What a terminal could act on is escaped, and a long header cut off."""
    path = write(tmp_path / "t.csv", "\x1b[2J" + "\x00x" * 10_000)
    with pytest.raises(BadFileError, match=r"column 't' is missing.*the file has '\\x1b") as error:
        read(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    "written", ["2024-11-03T01:30:00", "2024-03-10T02:30:00"], ids=["comes twice", "is left out"]
)
def test_time_that_a_change_of_clocks_makes_ambiguous_is_refused(tmp_path: Path, written: str) -> None:
    """An hour that comes twice in a zone, or not at all, is a bad line: which one is meant is not guessed."""
    lines = ["2024-11-03T00:59:59,1,7", f"{written},1,7", "2024-11-03T02:00:00,1,7"]
    path = write(tmp_path / "t.csv", "\n".join(["t,p,tok", *lines]))
    bad = BadLines()
    came = list(open_ticks(path, TicksConfig(**NAMES, timezone="America/New_York"), None, bad))
    assert [tick.timestamp.hour for tick in came] == [4, 7]
    assert "t: expected a time that comes once in America/New_York, came '2024-" in str(bad.first[0])
    assert (bad.first[0].line, bad.first[0].came) == (3, repr(written.replace("T", " ")))


def test_time_without_a_zone_is_never_guessed(tmp_path: Path) -> None:
    """ORIGIN defect 11: a naive time is refused, naming flag and field; with a zone it is read in it."""
    path = write(tmp_path / "t.csv", "t,p,tok\n2024-01-01 09:15:00,1,7\n")
    config = TicksConfig(**NAMES)
    with pytest.raises(BadFileError, match=r"t\.csv:2: t: .*--timezone or ticks\.timezone"):
        read(path, config)
    (tick,) = read(path, TicksConfig(**NAMES, timezone="Asia/Kolkata"))
    assert tick.timestamp == datetime(2024, 1, 1, 3, 45, tzinfo=UTC)


@pytest.mark.parametrize(
    ("time_format", "text"),
    [
        ("s", "1704080700.5"),
        ("ms", "1704080700500"),
        ("us", "1704080700500000"),
        ("ns", "1704080700500000999"),
        ("%d/%m/%Y %H:%M:%S.%f %z", "01/01/2024 09:15:00.5 +0530"),
    ],
)
def test_time_formats(tmp_path: Path, time_format: str, text: str) -> None:
    """Numbers since the epoch in each unit and strptime formats give the same time, to the microsecond."""
    path = write(tmp_path / "t.csv", f"t,p\n{text},1\n")
    (tick,) = read(path, TicksConfig(time="t", price="p", token=1, time_format=time_format))
    assert tick.timestamp == datetime(2024, 1, 1, 3, 45, 0, 500_000, tzinfo=UTC)


@pytest.mark.parametrize("text", ["1e9999999999", "1e999999999999999999", "nan", "-inf", "1e15"])
def test_number_that_is_no_time_is_a_bad_line(tmp_path: Path, text: str) -> None:
    """D11: seconds since the epoch beyond any date cost neither the run nor its memory."""
    path = write(tmp_path / "t.csv", f"t,p\n{text},1\n1704080700,1\n")
    bad = BadLines()
    config = TicksConfig(time="t", price="p", token=1, time_format="s")
    assert len(list(open_ticks(path, config, None, bad))) == 1
    assert bad.first[0].expected == "s since the epoch"


def test_symbol_gives_the_token(tmp_path: Path) -> None:
    """A symbol stands for the token of `instruments`; another one is a bad line that names the known."""
    path = write(tmp_path / "t.csv", "t,p,s\n2024-01-01T00:00:00Z,1,ES\n2024-01-01T00:00:00Z,1,NQ\n")
    bad = BadLines()
    config = TicksConfig(time="t", price="p", symbol="s", instruments={"ES": 5})
    (tick,) = open_ticks(path, config, None, bad)
    assert (tick.instrument_token, tick.symbol) == (5, "ES")
    assert "ticks.instruments: ES, came 'NQ'" in str(bad.first[0])


def event(**data: Any) -> str:
    """Return a line of Alpha Panda's replay format."""
    fields = {"instrument_token": 7, "last_price": 100.1, "timestamp": "2024-01-01T00:00:00Z", **data}
    return json.dumps(
        {
            "topic": "market.ticks",
            "key": "7",
            "data": fields,
            "event_type": "market_tick",
            "broker": "zerodha",
        }
    )


def test_jsonl_of_alpha_panda(tmp_path: Path) -> None:
    """A replay event becomes a tick with its optional fields; other events are passed over."""
    other = json.dumps({"topic": "paper.signals.raw", "data": {}, "event_type": "trading_signal"})
    full = event(volume_traded=5, oi=3, mode="full", ohlc={"open": 1}, change=0.5, symbol="X")
    path = write(tmp_path / "t.jsonl", f"{event()}\n{other}\n\n{full}")
    first, second = read(path, TicksConfig())
    assert (first.last_price, first.volume_traded) == (Decimal("100.1"), None)
    assert (second.volume_traded, second.oi, second.mode, second.symbol) == (5, 3, "full", "X")
    assert (second.ohlc, second.change) == ({"open": 1}, Decimal("0.5"))


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("{", "line"),
        ("[]", "line"),
        ('{"data": 1}', "data"),
        (event(last_price=None), "last_price"),
        (event(last_price="x"), "last_price"),
        (event(last_price=0), "last_price"),
        (event(timestamp=5), "timestamp"),
        (event(**WRONG_TOKEN), "instrument_token"),
        (event(oi="x"), "oi"),
        (event(depth=5), "depth"),
        (event(oi=-1), "oi"),
        (event(oi=12.7), "oi"),
        (event().replace("100.1", '100.1, "oi": 1e9999999999'), "oi"),
        (event(change="NaN"), "change"),
        (event(tradable="false"), "tradable"),
        ("[" * 100_000, "line"),
        (event(last_trade_time="x"), "last_trade_time"),
    ],
)
def test_bad_jsonl_line_is_named_and_skipped(tmp_path: Path, line: str, field: str) -> None:
    """A line that is no event, or holds a wrong field, is named; the next one is read."""
    path = write(tmp_path / "t.jsonl", f"{line}\n{event()}\n")
    bad = BadLines()
    assert len(list(open_ticks(path, TicksConfig(), None, bad))) == 1
    assert (bad.first[0].line, bad.first[0].field) == (1, field)


@pytest.mark.parametrize("zone", ["UTC", None])
def test_parquet(tmp_path: Path, zone: str | None) -> None:
    """Timestamps with or without a zone, integer tokens and float prices are read; a bad row is named."""
    at = datetime(2024, 1, 1, 3, 45, tzinfo=UTC)
    times = [at if zone else at.replace(tzinfo=None)] * 2
    table = pa.table({"t": pa.array(times, pa.timestamp("ns", zone)), "p": [100.1, 0.0], "tok": [7, 7]})
    parquet.write_table(table, tmp_path / "t.parquet")
    bad = BadLines()
    config = TicksConfig(**NAMES, timezone=None if zone else "UTC")
    file = open_ticks(tmp_path / "t.parquet", config, {7}, bad)
    (tick,) = file
    assert (tick.timestamp, tick.last_price, tick.instrument_token) == (at, Decimal("100.1"), 7)
    assert (bad.first[0].line, bad.first[0].field, file.progress()) == (2, "p", 1.0)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:-20]),
        ("t.csv.gz", gzip.compress(GOOD.encode(), mtime=0)[:10] + b"\xff" * 30),
        ("t.zip", b"PK no"),
        ("t.parquet", b"PAR1 no"),
        ("t.xlsx", b""),
        ("t.csv", b""),
    ],
    ids=["gzip", "deflate", "zip", "parquet", "unknown", "empty"],
)
def test_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    """A cut, broken, empty or unknown file is one error that begins with its name."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BadFileError) as error:
        list(open_ticks(path, COLUMNS, None, BadLines()))
    assert str(error.value).startswith(str(path))


def test_parquet_that_breaks_off_is_named(tmp_path: Path) -> None:
    """A Parquet file whose pages are spoiled behind a whole footer is one error that begins with its name."""
    path = tmp_path / "t.parquet"
    table = pa.table({"t": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 5_000), "p": [1.5] * 5_000})
    parquet.write_table(table, path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[4:60] = b"\xff" * 56
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=f"^{path}: after row 0: "):
        list(open_ticks(path, TicksConfig(time="t", price="p", token=1), None, BadLines()))


def test_encrypted_archive_is_named(tmp_path: Path) -> None:
    """An archive that wants a password is one error that begins with its name."""
    path = write(tmp_path / "t.zip", GOOD)
    content = bytearray(path.read_bytes())
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(BadFileError, match=f"^{path}: .*encrypted"):
        list(open_ticks(path, COLUMNS, None, BadLines()))


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A path without a file says so."""
    with pytest.raises(BadFileError, match=r"gone\.csv: expected a file of ticks"):
        open_ticks(tmp_path / "gone.csv", COLUMNS, None, BadLines())


def test_bytes_that_are_no_text_spoil_their_own_line(tmp_path: Path) -> None:
    """A byte that is no UTF-8, a byte-order mark and Windows line ends leave the other lines readable."""
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbft,p,tok\r\n2024-01-01T00:00:00Z,\xff,7\r\n2024-01-01T00:00:00Z,1,7\r\n")
    bad = BadLines()
    assert len(list(open_ticks(path, TicksConfig(**NAMES), None, bad))) == 1
    assert bad.first[0].field == "p"


def test_files_merge_by_time(tmp_path: Path) -> None:
    """Several files give one stream in the order of time; each keeps its own order within equal times."""
    files = []
    for name, seconds in (("a", (0, 2, 4)), ("b", (1, 2, 3))):
        lines = [f"{datetime(2024, 1, 1, second=s, tzinfo=UTC).isoformat()},1,{ord(name)}" for s in seconds]
        path = write(tmp_path / f"{name}.csv", "\n".join(["t,p,tok", *lines]))
        files.append(open_ticks(path, TicksConfig(**NAMES), None, BadLines()))
    came = [(chr(tick.instrument_token), tick.timestamp.second) for tick in merged(files)]
    assert came == [("a", 0), ("b", 1), ("a", 2), ("b", 2), ("b", 3), ("a", 4)]


def test_hundred_thousand_ticks_in_seconds(tmp_path: Path) -> None:
    """100,000 lines of CSV are read within a few seconds of processor time."""
    began = datetime(2024, 1, 1, tzinfo=UTC)
    path = tmp_path / "t.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["t", "p", "tok", "v"])
        for index in range(100_000):
            rows.writerow([(began + timedelta(milliseconds=137 * index)).isoformat(), "1640.25", 7, 1])
    started_s = time.thread_time()
    assert sum(1 for _ in open_ticks(path, COLUMNS, {7}, BadLines())) == 100_000
    assert time.thread_time() - started_s < 5
