"""Strategies from YAML: one file, or a folder of them."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from strategy_client.configuration import ConfigurationError, Problem, TicksConfig
from strategy_client.factory import StrategyFactory
from strategy_client.store.columns import read_columns
from strategy_client.store.document import Document, parse_document, read_bytes
from strategy_client.store.look import Entry, Look, first_set
from strategy_client.store.section import Kind, Place, Section
from strategy_client.store.store import StrategySet
from strategy_client.store.strategy import StrategyReader, note_brokers

SUFFIXES: Final = (".yaml", ".yml")
MAX_FILES: Final = 1_000
_DASH: Final = re.compile(r"^ *- +(?=\w+ *:)")
_STOP: Final = re.compile(r"^( *(?:- +)?)enabled *: *(?:false|no|off)\s*(?:#.*)?$", re.IGNORECASE)
_NAME: Final = re.compile(r"^( *(?:- +)?)strategy_name *: *(['\"]?)(.*?)\2\s*(?:#.*)?$")


@dataclass(frozen=True, slots=True)
class FileLook:
    """What one file holds; not `known` where it cannot be read as YAML, and then perhaps with `stops`."""

    entries: tuple[Entry, ...] = ()
    ticks: TicksConfig | None = None
    problems: tuple[Problem, ...] = ()
    known: bool = True
    stops: tuple[Entry, ...] = ()

    def still(self, coming: "FileLook") -> "FileLook":
        """Return this look for as long as another is not to be taken yet, but for what that one stops."""
        sleeping = tuple(entry for entry in coming.entries if entry.enabled is False)
        return replace(self, stops=(*self.stops, *coming.stops, *sleeping))


def read_strategies(path: Path, factory: StrategyFactory) -> StrategySet:
    """Read one YAML file, or every `*.yaml` and `*.yml`, in capitals too, of a folder by name.

    A file is one strategy, or a mapping with a `strategies:` list; `ticks:` may stand in one of
    the files. Each strategy's processor is made once by `factory`, so that its type and
    parameters are checked as well. Raises ConfigurationError with a problem for everything that is wrong in
    any of the files, each naming file, line, column and key.
    """
    reader = StrategyReader(factory)
    return first_set(combined({file: look_into(file, reader) for file in strategy_files(path)}))


def strategy_files(path: Path) -> list[Path]:
    """Return the files of a place in their order. Raises ConfigurationError where it holds none."""
    try:
        if not path.is_dir():
            return [path]
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and _is_shown(file))
    except OSError as error:
        raise ConfigurationError(Problem(str(path), f"cannot be read: {error.strerror}")) from error
    if not 0 < len(files) <= MAX_FILES:
        raise ConfigurationError(
            Problem(str(path), f"expected 1 to {MAX_FILES} files ending in {' or '.join(SUFFIXES)}")
        )
    return files


def look_into(file: Path, reader: StrategyReader) -> FileLook:
    """Read one file; never raises for what is wrong with it."""
    try:
        content = read_bytes(file)
    except ConfigurationError as error:
        return FileLook(problems=error.problems, known=False)
    try:
        document = parse_document(file, content)
    except ConfigurationError as error:
        return FileLook(problems=error.problems, known=False, stops=stops_in(file, content))
    return _look_at(document, reader)


def combined(looks: Mapping[Path, FileLook]) -> Look:
    """Return the look at all files together."""
    problems: list[Problem] = []
    entries: list[Entry] = []
    ticks, ticks_in = None, None
    for file, look in looks.items():
        problems += look.problems
        entries += look.entries
        if look.ticks is None:
            continue
        if ticks_in is not None:
            problems.append(Problem(f"{file}: ticks", f"stands in two files, the first time in {ticks_in}"))
        ticks, ticks_in = ticks or look.ticks, ticks_in or file
    unread = frozenset(str(file) for file, look in looks.items() if not look.known)
    stops = tuple(stop for look in looks.values() for stop in look.stops)
    return Look(tuple(entries), ticks, tuple(problems), unread, stops)


def stops_in(file: Path, content: bytes) -> tuple[Entry, ...]:
    """Find what a file says to stop that is no YAML: somebody stops a strategy in haste.

    A file of one strategy says `enabled: false` at the left, an item of a list beside its name.
    """
    items = [_Item(0)]
    for line in content.decode("utf-8", errors="replace").splitlines():
        dash = _DASH.match(line)
        if dash and (len(items) == 1 or len(dash[0]) == items[1].column):
            items.append(_Item(len(dash[0])))
        item = items[-1]
        if (name := _NAME.match(line)) and len(name[1]) == item.column:
            item.name = name[3].strip()
        if (stop := _STOP.match(line)) and len(stop[1]) == item.column:
            item.stop = True
    return tuple(Entry(str(file), (), item.name, enabled=False, config=None) for item in items if item.stop)


@dataclass(slots=True)
class _Item:
    column: int
    name: str = ""
    stop: bool = False


def _look_at(document: Document, reader: StrategyReader) -> FileLook:
    problems: list[Problem] = []
    top = Section(document, (), document.value, problems)
    if not isinstance(document.value, dict):
        return FileLook(problems=tuple(problems), known=False)
    if "strategies" not in top:
        entry, ticks = _entry(document, (), top, reader, problems)
        return FileLook((entry,), ticks)
    entries = [_item(document, place, value, reader) for place, value in _listed(top)]
    ticks = _ticks(top, problems)
    top.finish()
    return FileLook(tuple(entries), ticks, tuple(problems), known=bool(entries))


def _listed(top: Section) -> Iterable[tuple[Place, Any]]:
    items = top.take("strategies", Kind("a list of at least one strategy", _read_items), [])
    return [(("strategies", index), item) for index, item in enumerate(items)]


def _item(document: Document, place: Place, value: Any, reader: StrategyReader) -> Entry:
    problems: list[Problem] = []
    section = Section(document, place, value, problems)
    if not isinstance(value, dict):
        return Entry(str(document.path), place, "", None, None, tuple(problems))
    return _entry(document, place, section, reader, problems)[0]


def _entry(
    document: Document, place: Place, section: Section, reader: StrategyReader, problems: list[Problem]
) -> tuple[Entry, TicksConfig | None]:
    notes: list[Problem] = []
    config = reader.read_file_keys(section, notes)
    note_brokers(section, "brokers", config, notes)
    # In a file that is one strategy this is one more key of it.
    ticks = None if place else _ticks(section, problems)
    section.finish()
    entry = Entry(
        source=str(document.path),
        place=place,
        strategy_id=config.strategy_id,
        enabled=section.flag("enabled", default=True),
        config=None if problems else config,
        problems=tuple(problems),
        notes=tuple(notes),
        at=section.problem(("strategy_name",), "").place,
    )
    return entry, ticks


def _ticks(top: Section, problems: list[Problem]) -> TicksConfig | None:
    before = len(problems)
    section = top.section("ticks")
    ticks = None if section is None else read_columns(section)
    return ticks if len(problems) == before else None


def _is_shown(file: Path) -> bool:
    # What an editor or a copy writes beside the file is hidden until it is whole.
    return not file.name.startswith(".")


def _read_items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError
    if not value:
        raise ValueError
    return value
