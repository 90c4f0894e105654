"""What came of verifying a log, in numbers that add up."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from strategy_client.audit.reader import Finding

MAX_DIFFERENCES: Final = 1_000
VERIFIED, DIFFERS, UNVERIFIED = 0, 1, 3


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that did not come out the same: where it stands, what was recorded, what came."""

    segment: int
    line: int
    tick: int
    strategy_id: str
    field: str
    recorded: str
    came: str

    def __str__(self) -> str:
        place = f"audit-{self.segment:06}.jsonl:{self.line}"
        what = f"tick {self.tick}, {self.strategy_id}, {self.field}"
        return f"{place}: {what}: recorded {self.recorded}, came {self.came}"


@dataclass(frozen=True, slots=True)
class MissingModel:
    """Bytes that could not be asked again, why, and what hangs on them."""

    name: str
    version: int
    digest: str
    problem: str
    outcomes: int
    signals: int


@dataclass(slots=True)
class Tally:
    """Outcomes by what came of them; each stands in exactly one number.

    `verified` came out the same, `differs` did not. `of_the_moment` are those that no model answered, because
    of the time or the sidecar (DEADLINE_EXCEEDED, say): there is nothing to run again. `unverified` has those
    that could not be held against anything, by the reason.
    """

    verified: int = 0
    differs: int = 0
    of_the_moment: int = 0
    unverified: Counter[str] = field(default_factory=Counter)

    @property
    def total(self) -> int:
        """All of them."""
        return self.verified + self.differs + self.of_the_moment + sum(self.unverified.values())


@dataclass(slots=True)
class Verdict:
    """A verified log. `head` is the hash of its last line; `unmet` are anchors that are not in it.

    `signals` are the outcomes that are BUY or SELL, counted among `outcomes` too. `rows` are the rows that
    models were asked again, `features` how many of them came out the same from the recorded ticks.
    """

    segments: int = 0
    lines: int = 0
    ticks: int = 0
    dropped: int = 0
    head: str = ""
    being_written: bool = False
    findings: list[Finding] = field(default_factory=list)
    unmet: list[str] = field(default_factory=list)
    outcomes: Tally = field(default_factory=Tally)
    signals: Tally = field(default_factory=Tally)
    shadows: Tally = field(default_factory=Tally)
    rows: int = 0
    features: int = 0
    differences: list[Difference] = field(default_factory=list)
    difference_count: int = 0
    missing: list[MissingModel] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def code(self) -> int:
        """The exit code: 0 all verified, 1 something differs, 3 something could not be verified."""
        broken = any(finding.broken for finding in self.findings)
        if broken or self.unmet or self.difference_count:
            return DIFFERS
        tallies = (self.outcomes, self.shadows)
        if self.findings or self.missing or any(tally.unverified.total() for tally in tallies):
            return UNVERIFIED
        return VERIFIED

    def differ(self, difference: Difference) -> None:
        """Take a difference; beyond a bound it is counted only."""
        self.difference_count += 1
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(difference)

    def to_json(self) -> Mapping[str, Any]:
        """Return everything as plain values."""
        names = {VERIFIED: "verified", DIFFERS: "differs", UNVERIFIED: "not all verified"}
        plain = asdict(self)
        for tally in ("outcomes", "signals", "shadows"):
            plain[tally]["unverified"] = dict(plain[tally]["unverified"])
        return {"verdict": names[self.code], "code": self.code, **plain}
