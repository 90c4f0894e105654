"""What one look at a place showed, and what becomes of a running set of strategies by it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from strategy_client.configuration import ConfigurationError, Problem, StrategyConfig, TicksConfig
from strategy_client.store.section import Place
from strategy_client.store.store import StrategySet


@dataclass(frozen=True, slots=True)
class Entry:
    """One strategy as it stands there; `config` None where anything of it is wrong or not to be taken yet.

    `source` is the file or table, `place` where in it. `strategy_id` is empty and `enabled` None where that
    cannot be read. `at` is for a person.
    """

    source: str
    place: Place
    strategy_id: str
    enabled: bool | None
    config: StrategyConfig | None
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    at: str = ""


# Where each strategy of a running set came from: its source, and the place in it.
Origins = Mapping[str, tuple[str, Place]]


@dataclass(frozen=True, slots=True)
class Look:
    """All entries, in order. `problems` are those of no entry; `unread` the sources not known right now.

    A strategy that came from an unread source, and stands in no entry, is not known to be gone. `stops` are
    entries of what cannot be read, or not be taken yet, but says what to stop.
    """

    entries: tuple[Entry, ...]
    ticks: TicksConfig | None = None
    problems: tuple[Problem, ...] = ()
    unread: frozenset[str] = field(default_factory=frozenset)
    stops: tuple[Entry, ...] = ()


def unique(entries: Iterable[Entry]) -> tuple[tuple[Entry, ...], tuple[Problem, ...]]:
    """Take the configuration from entries whose name stands twice, for none of them is the right one."""
    entries = tuple(entries)
    count = Counter(entry.strategy_id for entry in entries if entry.strategy_id)
    first: dict[str, Entry] = {}
    problems = []
    taken = []
    for entry in entries:
        name = entry.strategy_id
        twice = count[name] > 1
        taken.append(replace(entry, config=None) if twice else entry)
        if twice and first.setdefault(name, entry) is not entry:
            problems.append(Problem(entry.at, f"{name!r} stands twice, the first time in {first[name].at}"))
    return tuple(taken), tuple(problems)


def first_set(look: Look) -> StrategySet:
    """Return the set to start with. Raises ConfigurationError where anything is wrong but what is asleep."""
    entries, twice = unique(look.entries)
    fatal = [problem for entry in entries if entry.enabled is not False for problem in entry.problems]
    if fatal or twice or look.problems:
        raise ConfigurationError(*_in_order(entries, look.problems, twice))
    return StrategySet(
        tuple(entry.config for entry in entries if entry.config is not None),
        look.ticks,
        tuple(problem for entry in entries for problem in entry.problems),
        tuple(note for entry in entries for note in entry.notes),
    )


def next_set(before: StrategySet, look: Look, origins: Origins) -> StrategySet:
    """Return the set that a loop which runs with `before` goes on with; see `StrategyStore.read_again`.

    There are four cases for each strategy of `before`:
    - an entry of its name that is right: it becomes that;
    - one that is wrong: it stays, and stops where the entry says so;
    - none, but it may be the one whose name cannot be read, or its source cannot: it stays;
    - none: it is gone.
    Then stops what is said to stop elsewhere, by its name or, where that cannot be read, by its place.
    """
    entries, twice = unique(look.entries)
    running = {config.strategy_id: config for config in before.strategies}
    taken: dict[str, StrategyConfig] = {}
    places = dict(origins)
    for entry in entries:
        name = entry.strategy_id
        now = entry.config or taken.get(name) or running.get(name)
        if not name or now is None:
            continue
        taken[name] = replace(now, enabled=False) if entry.enabled is False and now.enabled else now
        places[name] = (entry.source, entry.place)
    nameless = [entry for entry in entries if not entry.strategy_id]
    unsure = look.unread | {entry.source for entry in nameless}
    for name, config in running.items():
        origin = places.get(name)
        if name not in taken and unsure and (origin is None or origin[0] in unsure):
            taken[name] = config
    for stop in (*look.stops, *(entry for entry in nameless if entry.enabled is False)):
        by_name = [stop.strategy_id] if stop.strategy_id in taken else []
        for name in by_name or [name for name in taken if places.get(name) == (stop.source, stop.place)]:
            taken[name] = replace(taken[name], enabled=False) if taken[name].enabled else taken[name]
    return StrategySet(
        tuple(sorted(taken.values(), key=lambda config: places.get(config.strategy_id, ("", ())))),
        look.ticks or before.ticks,
        _in_order(entries, look.problems, twice),
        tuple(note for entry in entries for note in entry.notes),
    )


def origins_of(look: Look, now: StrategySet, before: Origins) -> Origins:
    """Return where the strategies of `now` came from, by the look that it was made from."""
    seen = {entry.strategy_id: (entry.source, entry.place) for entry in look.entries if entry.strategy_id}
    names = [config.strategy_id for config in now.strategies]
    known = {**before, **seen}
    return {name: known[name] for name in names if name in known}


def _in_order(
    entries: Iterable[Entry], problems: Iterable[Problem], twice: Iterable[Problem]
) -> tuple[Problem, ...]:
    return (*problems, *(problem for entry in entries for problem in entry.problems), *twice)
