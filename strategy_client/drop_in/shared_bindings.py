"""The bindings of all drop-ins that ask one sidecar: one thread renews them, one request asks for all."""

import itertools
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from strategy_client.binding import Binding, Wanted
from strategy_client.bindings import Bindings
from strategy_client.predictor.description import Description


class SharedBindings:
    """Strategies join and leave, from any thread; `describe` as for `Bindings`."""

    def __init__(self, describe: Callable[[Sequence[str]], Description]) -> None:
        self._bindings = Bindings((), describe)
        self._joining = threading.Lock()
        self._wanted: dict[str, Wanted] = {}

    def __repr__(self) -> str:
        return f"<SharedBindings of {len(self._wanted)} strategies, {self._bindings!r}>"

    def join(self, wanted: Wanted) -> "OwnBinding":
        """Take a strategy in; it is bound by `OwnBinding.start`."""
        with self._joining:
            # Two strategies may have been given one name, and ask different models.
            names = (f"{wanted.strategy_id} ({number})" for number in itertools.count(2))
            name = wanted.strategy_id
            while name in self._wanted:
                name = next(names)
            self._wanted[name] = replace(wanted, strategy_id=name)
            self._bindings.change(list(self._wanted.values()))
        return OwnBinding(self, self._bindings, name)

    def leave(self, name: str) -> None:
        """Forget a strategy."""
        with self._joining:
            del self._wanted[name]
            self._bindings.change(list(self._wanted.values()))

    def close(self) -> None:
        """Stop renewing."""
        self._bindings.close()


class OwnBinding:
    """The binding of one strategy among those of its sidecar; a `BindingsView` for its own runners."""

    def __init__(self, shared: SharedBindings, bindings: Bindings, name: str) -> None:
        self._shared = shared
        self._bindings = bindings
        self._name = name

    def __repr__(self) -> str:
        return f"<OwnBinding of {self._name}: {self.now}>"

    @property
    def now(self) -> Binding:
        """What the strategy is bound to; the same object until it changes."""
        return self._bindings.of(self._name)

    def of(self, strategy_id: str) -> Binding:  # noqa: ARG002 - its runners know one strategy, by a name that others may have
        """Return the strategy's binding."""
        return self._bindings.of(self._name)

    def saw(self, model: str, version: int, digest: str) -> None:
        """Take note of an answer by another version; see `Bindings`."""
        self._bindings.saw(model, version, digest)

    def doubt(self) -> None:
        """Have the bindings renewed soon; returns at once."""
        self._bindings.doubt()

    def start(self) -> None:
        """Bind once now, and keep the binding up to date from then on."""
        self._bindings.start()

    def refresh(self) -> None:
        """Ask the sidecar now and wait for its answer; one that does not answer changes nothing bound."""
        self._bindings.refresh()

    def leave(self) -> None:
        """Forget the strategy; call it once."""
        self._shared.leave(self._name)
