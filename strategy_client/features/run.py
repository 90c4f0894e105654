"""Streams of the catalogue, which take many prices in one call as well as one."""

from collections.abc import Sequence


class RunStream:
    """Never raises for finite prices above 0, so that many can be taken before anybody looks at the first."""

    __slots__ = ()

    def update(self, price: float) -> None:
        """Take the next price."""
        raise NotImplementedError

    def value(self) -> float:
        """Return the value at the last price; NaN before the window is full."""
        raise NotImplementedError

    def run(self, prices: Sequence[float]) -> list[float]:
        """Take the next prices; return the value at each, to the bit what `value` gives there."""
        values = []
        for price in prices:
            self.update(price)
            values.append(self.value())
        return values
