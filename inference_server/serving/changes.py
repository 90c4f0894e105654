"""What happened to the models, in numbers that only grow: swaps, refusals, rollbacks, vetting, loads.

Like `statistics` for calls: it lives on the event loop's thread, and its readers read there too.
"""

from collections.abc import Mapping
from typing import Final

from inference_server.serving.statistics import Durations

# Where a file can be refused, in the order of its way. The names of vetting's steps come from another
# process, which a bad file may have taken over, so whatever is not in this list is counted as "unexpected".
STEPS: Final = (
    "file",  # what lies there is no candidate: its name, place, size or manifest
    "bytes",  # they were not kept
    "parse",
    "self-contained",
    "operators",
    "load",
    "contract",
    "answers",
    "vetting",  # it killed or outlasted its judge
    "compare",  # with the contract of what it was to replace
    "memory",
    "unexpected",
)
# Of more models, those that changed longest ago are forgotten, and count from 0 when they come back.
MAX_MODELS: Final = 4096


class ModelChanges:
    """What happened to one model.

    `swaps`: calls that name no version began to be answered by another version or other bytes. `refusals` are
    by step, of STEPS. `vetting` holds the verdicts of both kinds, `load` what became a servable, warm-up
    included.
    """

    __slots__ = ("load", "refusals", "rollbacks", "swaps", "vetting")

    def __init__(self) -> None:
        self.swaps = 0
        self.rollbacks = 0
        self.refusals: dict[str, int] = {}
        self.vetting = Durations()
        self.load = Durations()

    def __repr__(self) -> str:
        refusals = sum(self.refusals.values())
        return f"<ModelChanges {self.swaps} swaps, {refusals} refusals, {self.rollbacks} rollbacks>"


class Changes:
    """Counts what happened, by model."""

    def __init__(self) -> None:
        self._models: dict[str, ModelChanges] = {}

    def __repr__(self) -> str:
        return f"<Changes of {len(self._models)} models>"

    def swapped(self, model: str) -> None:
        """Count a swap."""
        self._of(model).swaps += 1

    def rolled_back(self, model: str) -> None:
        """Count a rollback that came about."""
        self._of(model).rollbacks += 1

    def refused(self, model: str, step: str) -> None:
        """Count a refusal; a step that is not of STEPS counts as "unexpected"."""
        step = step if step in STEPS else "unexpected"
        refusals = self._of(model).refusals
        refusals[step] = refusals.get(step, 0) + 1

    def vetted(self, model: str, duration_ns: int) -> None:
        """Count a verdict."""
        self._of(model).vetting.add(duration_ns)

    def loaded(self, model: str, duration_ns: int) -> None:
        """Count a load that ended well."""
        self._of(model).load.add(duration_ns)

    @property
    def models(self) -> Mapping[str, ModelChanges]:
        """By model, those to which anything happened."""
        return self._models

    def _of(self, model: str) -> ModelChanges:
        changes = self._models.pop(model, None) or ModelChanges()
        self._models[model] = changes  # the last one again: those at the beginning changed longest ago
        if len(self._models) > MAX_MODELS:
            del self._models[next(iter(self._models))]
        return changes
