"""How much of their messages the calls of one connection may hold together."""

from typing import Final

from inference_server.rpc.h2.call import Call

# The messages on one connection that wait, for the rest of them or to be answered, may take so many times the
# bound on one of them.
HELD_MESSAGES: Final = 4


class HeldBound:
    """Adds up what calls hold, as of when something came for them, against a bound."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._held: dict[int, tuple[Call, int]] = {}

    def __repr__(self) -> str:
        return f"<HeldBound of {self._max_bytes} bytes over {len(self._held)} calls>"

    def is_too_much(self, stream: int, call: Call) -> bool:
        """Take note of what the call on a stream holds now, and say whether that is more than may be."""
        held_bytes = call.held_bytes
        if not held_bytes:
            self.forget(stream)
            return False
        self._held[stream] = call, held_bytes
        if self._sum() <= self._max_bytes:
            return False
        # Some may have been answered since.
        calls = [(number, call) for number, (call, _) in self._held.items()]
        self._held = {number: (call, call.held_bytes) for number, call in calls if call.held_bytes}
        return self._sum() > self._max_bytes

    def forget(self, stream: int) -> None:
        """Forget a call that has ended."""
        if self._held:
            self._held.pop(stream, None)

    def clear(self) -> None:
        """Forget all of them."""
        self._held.clear()

    def _sum(self) -> int:
        return sum([held_bytes for _, held_bytes in self._held.values()])
