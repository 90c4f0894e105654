"""A log verified: whether it is whole, and whether everything in it comes out the same again."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from strategy_client.audit.comparison import Comparison
from strategy_client.audit.decoder import Decoder, NamedModel, Recorded, RecordedTick, RecordError
from strategy_client.audit.lineup import code_digest, digest_of, software, strategy_record
from strategy_client.audit.reader import MAX_FINDINGS, Entry, Finding, LogReader
from strategy_client.audit.rerun import Rerun, RowKey
from strategy_client.audit.served import ServedModels
from strategy_client.audit.verdict import MissingModel, Verdict
from strategy_client.factory import StrategyFactory
from strategy_client.predictor.port import Answer
from strategy_client.predictor.security import Security
from strategy_client.predictor.transport import Transport
from strategy_client.processors.model import MODEL_NAME

WINDOW_RECORDS: Final = 512
PROGRESS_EVERY_LINES: Final = 1_024

# Called now and then with the part that is done, 0 to 1.
Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class VerificationOptions:
    """What to verify: a folder, with the model files found under `models` or served at `target`.

    `anchors` are hashes noted elsewhere that must be in the chain. `tolerance` is how far a probability may
    be from the recorded one, relative; 0 asks for the same bits, which another kind of processor may not
    give.
    """

    folder: Path
    models: Sequence[Path] = ()
    target: str | None = None
    security: Security | None = None
    anchors: Sequence[bytes] = ()
    tolerance: float = 0.0
    transport: Transport = "auto"


@dataclass(frozen=True, slots=True)
class Shadow:
    """What a shadow said, as it was recorded."""

    index: int
    said: Recorded


@dataclass(slots=True)
class _Window:
    """Some records, in order, and the rows that they hold."""

    entries: list[tuple[Entry, RecordedTick | Shadow | None]] = field(default_factory=list)
    rows: dict[RowKey, NDArray[np.float32]] = field(default_factory=dict)

    def add(self, entry: Entry, item: RecordedTick | Shadow | None) -> None:
        self.entries.append((entry, item))
        outcomes = item.outcomes if isinstance(item, RecordedTick) else (item.said,) if item else ()
        for each in outcomes:
            if each.model is not None and each.row is not None:
                self.rows.setdefault((each.model.digest, each.row.tobytes()), each.row)


class Verification:
    """Verifies once. Raises on the way: AuditError, OSError, SidecarError, InferenceError."""

    def __init__(self, options: VerificationOptions, factory: StrategyFactory | None = None) -> None:
        self._options = options
        self._verdict = Verdict()
        self._rerun = Rerun(factory or StrategyFactory())
        self._comparison = Comparison(self._verdict, self._rerun, options.tolerance)
        self._lineup: Sequence[Mapping[str, Any]] = ()
        self._run = ""
        self._found = 0
        self._next_index = 0
        self._outcomes: Counter[str] = Counter()
        self._signals: Counter[str] = Counter()

    def __repr__(self) -> str:
        return f"<Verification of {self._options.folder}, {self._verdict.ticks} ticks>"

    def run(self, progress: Progress = lambda _part: None) -> Verdict:
        """Read the log twice: for the chain, and the models that it names; and to run it again."""
        models = self._read_chain(progress)
        with ServedModels(
            models,
            self._options.models,
            self._options.target,
            self._options.security,
            self._options.transport,
        ) as served:
            self._comparison.served = served
            reader = LogReader(self._options.folder)
            for window in self._windows(reader, progress):
                rows = [(digest, row) for (digest, _), row in window.rows.items()]
                answers = dict(zip(window.rows, served.ask(rows), strict=True))
                for entry, item in window.entries:
                    self._take(entry, item, answers)
            for model in sorted(models, key=lambda each: (each.name, each.version, each.digest)):
                problem = served.problems.get(model.digest)
                if problem is not None and self._outcomes[model.digest]:
                    self._miss(model, problem)
        progress(1.0)
        return self._verdict

    def _read_chain(self, progress: Progress) -> list[NamedModel]:
        anchors = frozenset(self._options.anchors)
        reader = LogReader(self._options.folder, anchors)
        decoder = Decoder()
        models: dict[str, NamedModel] = {}
        lineup: Sequence[Mapping[str, Any]] = ()
        verdict = self._verdict
        for entry in reader:
            if entry.kind == "model":
                # One that cannot be read is told when it comes to be used.
                with suppress(RecordError):
                    model = decoder.learn(entry.record)
                    models.setdefault(model.digest, model)
            elif entry.kind in {"segment", "lineup", "bound"}:
                lineup = entry.record.get("strategies", lineup)
                for _, model in _bound_models(lineup, entry.record.get("bindings")):
                    models.setdefault(model.digest, model)
            verdict.segments += entry.kind == "segment"
            if reader.lines % PROGRESS_EVERY_LINES == 0:
                progress(reader.part / 4)
        verdict.lines, verdict.dropped, verdict.head = reader.lines, reader.dropped, reader.head.hex()
        verdict.being_written = reader.being_written
        verdict.findings[:0] = reader.findings
        verdict.unmet = [anchor.hex() for anchor in self._options.anchors if anchor not in reader.heads]
        return list(models.values())

    def _windows(self, reader: LogReader, progress: Progress) -> Iterator[_Window]:
        decoder = Decoder()
        window = _Window()
        for entry in reader:
            if reader.lines > self._verdict.lines:
                # It is being written: what came since the first time is not looked at.
                break
            try:
                window.add(entry, _decoded(decoder, entry))
            except RecordError as error:
                self._find(entry, str(error))
            if len(window.entries) >= WINDOW_RECORDS:
                yield window
                progress(0.25 + reader.part * 0.75)
                window = _Window()
        yield window

    def _take(
        self, entry: Entry, item: RecordedTick | Shadow | None, answers: Mapping[RowKey, Answer]
    ) -> None:
        record = entry.record
        if isinstance(item, RecordedTick):
            if item.index != self._next_index:
                self._begin_after_gap()
            self._next_index = item.index + 1
            self._verdict.ticks += 1
            self._count(item)
            self._comparison.take_tick(entry, item, answers)
        elif isinstance(item, Shadow):
            self._comparison.take_shadow(entry, item.index, item.said, answers)
        elif entry.kind == "segment":
            self._take_header(entry)
        elif entry.kind == "lineup":
            self._take_lineup(entry)
            self._comparison.change(self._lineup)
            self._note_code(entry)
        elif entry.kind == "bound":
            self._bind(record.get("bindings"))
        elif entry.kind == "gap" and record["gap"]:
            self._begin_after_gap()
            self._next_index = record["last"] + 1

    def _take_header(self, entry: Entry) -> None:
        record = entry.record
        before = self._lineup
        self._take_lineup(entry)
        if record.get("run") != self._run:
            self._run, self._next_index = str(record.get("run")), 0
            self._comparison.begin(self._lineup, after_gap=False)
            self._note_software(entry)
            self._note_code(entry)
            self._bind(record.get("bindings"))
        elif self._lineup != before:
            self._find(entry, "its strategies are not those of the segment before it, and nothing says why")
            self._comparison.begin(self._lineup, after_gap=True)

    def _bind(self, bindings: object) -> None:
        for strategy_id, model in _bound_models(self._lineup, bindings):
            self._comparison.bind(strategy_id, model)

    def _take_lineup(self, entry: Entry) -> None:
        lineup = entry.record.get("strategies")
        if not isinstance(lineup, list) or not all(isinstance(each, dict) for each in lineup):
            self._find(entry, "it does not say which strategies ran")
            lineup = []
        if digest_of(lineup) != entry.record.get("configuration_sha256"):
            self._find(entry, "its strategies are not those that its configuration_sha256 was worked out for")
        self._lineup = lineup

    def _begin_after_gap(self) -> None:
        self._comparison.begin(self._lineup, after_gap=True)

    def _note_software(self, entry: Entry) -> None:
        recorded = entry.record.get("software")
        for name, version in software().items():
            was = recorded.get(name) if isinstance(recorded, dict) else None
            if was != version:
                self._note(f"written with {name} {was}, verified with {version}")

    def _note_code(self, entry: Entry) -> None:
        for each in self._lineup:
            executor = self._rerun.executors.get(str(each.get("id")))
            if executor is None:
                why = self._rerun.problems.get(str(each.get("id")), "unknown")
                self._note(f"strategy {each.get('id')} cannot be made: {why}")
            elif code_digest(executor.processor) != each.get("code_sha256"):
                self._note(f"the code of {each.get('code')} is not the one that wrote the log")
            else:
                self._note_made(entry, each, strategy_record(executor))

    def _note_made(self, entry: Entry, told: Mapping[str, Any], made: Mapping[str, Any]) -> None:
        for name in ("code", "model", "features", "window"):
            if told.get(name) != made.get(name):
                text = f"strategy {made['id']}: its {name} is told as {told.get(name)}"
                self._find(entry, f"{text}, and its configuration makes it {made.get(name)}")

    def _note(self, text: str) -> None:
        if text not in self._verdict.notes:
            self._verdict.notes.append(text)

    def _count(self, tick: RecordedTick) -> None:
        for each in tick.outcomes:
            if each.model is not None:
                self._outcomes[each.model.digest] += 1
                self._signals[each.model.digest] += each.is_signal

    def _miss(self, model: NamedModel, problem: str) -> None:
        outcomes, signals = self._outcomes[model.digest], self._signals[model.digest]
        self._verdict.missing.append(
            MissingModel(model.name, model.version, model.digest, problem, outcomes, signals)
        )

    def _find(self, entry: Entry, text: str) -> None:
        self._found += 1
        if self._found <= MAX_FINDINGS:
            self._verdict.findings.append(Finding(entry.segment, entry.line, text, broken=True))


def _bound_models(lineup: object, bindings: object) -> Iterator[tuple[str, NamedModel]]:
    """Return which bytes each strategy was bound to; what cannot be read is left out, and found elsewhere."""
    strategies = [each for each in lineup if isinstance(each, dict)] if isinstance(lineup, list) else []
    asked = {str(each.get("id")): each for each in strategies if isinstance(each.get("model"), dict)}
    for strategy_id, bound in bindings.items() if isinstance(bindings, dict) else ():
        strategy = asked.get(strategy_id)
        if strategy is None or not isinstance(bound, dict) or not bound.get("digest"):
            continue
        name, features = str(strategy["model"].get("name")), strategy.get("features")
        version, digest, contract = (bound.get(each) for each in ("version", "digest", "contract_hash"))
        if isinstance(version, int) and isinstance(features, list) and MODEL_NAME.fullmatch(name):
            names = tuple(map(str, features))
            yield strategy_id, NamedModel(name, version, str(digest), str(contract), names, ())


def _decoded(decoder: Decoder, entry: Entry) -> RecordedTick | Shadow | None:
    if entry.kind == "tick":
        return decoder.read_tick(entry.record)
    if entry.kind == "shadow":
        return Shadow(*decoder.read_shadow(entry.record))
    if entry.kind == "segment":
        decoder.forget()
    elif entry.kind == "model":
        decoder.learn(entry.record)
    return None
