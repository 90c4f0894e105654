"""The bindings of all learned strategies, kept up to date away from the tick path."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

from strategy_client.binding import NOT_BOUND_YET, Binding, Bound, Unbound, Wanted, bind
from strategy_client.events import Reason
from strategy_client.predictor.backoff import Backoff, BackoffOptions
from strategy_client.predictor.description import Description, ModelDescription
from strategy_client.predictor.status import InferenceError

NS_PER_S: Final = 1_000_000_000
MAX_DOUBTED: Final = 64

log = logging.getLogger(__name__)


class Bindings:
    """The binding of every learned strategy, read on the tick path and renewed on a thread.

    Renewed when a strategy is in doubt about its model; again and again, with growing pauses, while one of
    them is unbound: a sidecar or a model that appears later is found (H1); and now and then in any case,
    because a model that is not asked, for its age, say, cannot show that it was replaced. The pauses begin
    anew with a doubt and with each change: one whose model never comes makes no other one wait. `describe`
    asks the sidecar about the models named, and raises InferenceError. `look_again_s` is the longest time
    between two looks. All methods may be called from any thread.
    """

    def __init__(
        self,
        wanted: Sequence[Wanted],
        describe: Callable[[Sequence[str]], Description],
        pauses: Backoff | None = None,
        look_again_s: float = 10.0,
    ) -> None:
        self._wanted = _by_id(wanted)
        self._describe = describe
        self._pauses = pauses or Backoff(BackoffOptions(first_ms=50.0, longest_ms=2_000.0))
        self._look_again_s = look_again_s
        self._bindings: Mapping[str, Binding] = dict.fromkeys(self._wanted, NOT_BOUND_YET)
        self._described: dict[str, ModelDescription | None] = {}
        # Versions that answered and are not those bound; each is a doubt once, until a binding changes.
        self._doubted: set[tuple[str, int, str]] = set()
        self._refreshing = threading.Lock()
        # Held for moments only, so that `change` does not wait for a sidecar.
        self._changing = threading.Lock()
        self._in_doubt = threading.Event()
        self._closed = threading.Event()
        self._keeping = False
        self._thread = threading.Thread(target=self._renew, name="tickserve-bindings", daemon=True)

    def __repr__(self) -> str:
        bound = sum(isinstance(binding, Bound) for binding in self._bindings.values())
        return f"<Bindings {bound} of {len(self._bindings)} bound>"

    @property
    def all(self) -> Mapping[str, Binding]:
        """The binding of each learned strategy, by its id."""
        return MappingProxyType(dict(self._bindings))

    def of(self, strategy_id: str) -> Binding:
        """Return a strategy's binding; the same object until it changes."""
        return self._bindings.get(strategy_id, NOT_BOUND_YET)

    def start(self) -> None:
        """Bind once now, and keep the bindings up to date from then on."""
        self.refresh()
        self._keeping = True
        self._keep()

    def change(self, wanted: Sequence[Wanted]) -> None:
        """Take what another line-up asks of its models; never waits for the sidecar.

        A strategy that asks what it asked before keeps its binding. Another one is bound at once if the
        sidecar has been heard of its model, and soon if not.
        """
        with self._changing:
            before, self._wanted = self._wanted, _by_id(wanted)
            kept = {
                strategy_id: self._bindings[strategy_id]
                for strategy_id, each in self._wanted.items()
                if _same(before.get(strategy_id), each)
            }
            self._bindings = {
                strategy_id: kept.get(strategy_id) or self._bind(each)
                for strategy_id, each in self._wanted.items()
            }
            unbound = any(isinstance(binding, Unbound) for binding in self._bindings.values())
        if unbound:
            self.doubt()
        if self._keeping:
            self._keep()

    def refresh(self) -> None:
        """Ask the sidecar now and wait for its answer; one that does not answer changes nothing bound."""
        with self._refreshing:
            models = sorted({each.model.name for each in self._wanted.values()})
            # No names would ask for all models there are.
            if not models:
                return
            try:
                description = self._describe(models)
            except Exception as error:  # what is no InferenceError is a bug, and must not end the renewing
                if not isinstance(error, InferenceError):
                    log.exception("the sidecar's models could not be read")
                with self._changing:
                    unreached = Unbound(Reason.UNAVAILABLE, str(error) or type(error).__name__)
                    self._bindings = {
                        strategy_id: binding if isinstance(binding, Bound) else unreached
                        for strategy_id, binding in self._bindings.items()
                    }
                return
            with self._changing:
                self._take(description, models)

    def saw(self, model: str, version: int, digest: str) -> None:
        """Take note of an answer by other bytes or another version than those bound; returns at once.

        The bindings are renewed soon, once for each such version.
        """
        seen = model, version, digest
        if seen not in self._doubted:
            if len(self._doubted) >= MAX_DOUBTED:
                self._doubted.clear()
            self._doubted.add(seen)
            self.doubt()

    def doubt(self) -> None:
        """Have the bindings renewed soon; returns at once."""
        self._in_doubt.set()

    def close(self) -> None:
        """Stop renewing."""
        self._closed.set()
        self._in_doubt.set()
        if self._thread.is_alive():
            self._thread.join()

    def _take(self, description: Description, asked: Sequence[str]) -> None:
        self._described = {name: description.models.get(name) for name in asked}
        fresh: dict[str, Binding] = {}
        changed = False
        for strategy_id, each in self._wanted.items():
            before = self._bindings[strategy_id]
            binding = self._bind(each)
            if binding == before:
                binding = before
            else:
                changed = True
                log.info("strategy %s: %s", strategy_id, binding)
            fresh[strategy_id] = binding
        self._bindings = fresh
        if changed:
            self._doubted.clear()
            self._pauses.reset()

    def _bind(self, wanted: Wanted) -> Binding:
        name = wanted.model.name
        if name not in self._described:  # the line-up changed while the sidecar was asked
            return NOT_BOUND_YET
        model = self._described[name]
        try:
            return bind(wanted, Description({name: model} if model is not None else {}, ready=True))
        except Exception as error:  # noqa: BLE001 a contract that contradicts itself is its strategies' outcome
            text = f"model {name!r}: the contract cannot be read: {type(error).__name__}: {error}"
            return Unbound(Reason.CONTRACT_MISMATCH, text)

    def _keep(self) -> None:
        with self._changing:
            if self._wanted and self._thread.ident is None and not self._closed.is_set():
                self._thread.start()

    def _renew(self) -> None:
        while not self._closed.is_set():
            unbound = any(isinstance(binding, Unbound) for binding in self._bindings.values())
            if self._in_doubt.wait(self._pauses.next_ns() / NS_PER_S if unbound else self._look_again_s):
                # Doubts come with every tick while a model is replaced; this holds them back.
                self._pauses.reset()
                if self._closed.wait(self._pauses.next_ns() / NS_PER_S):
                    return
            self._in_doubt.clear()
            self.refresh()


def _by_id(wanted: Sequence[Wanted]) -> dict[str, Wanted]:
    return {each.strategy_id: each for each in wanted}


def _same(before: Wanted | None, now: Wanted) -> bool:
    return before is not None and (before.model, before.features.names) == (now.model, now.features.names)
