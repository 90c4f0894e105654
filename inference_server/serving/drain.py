"""The end of serving, told to what would otherwise go on for ever: open streams and watchers."""

import asyncio


class Drain:
    """Begun once, when the server starts to stop."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def __repr__(self) -> str:
        return f"<Drain {'begun' if self.begun else 'not begun'}>"

    @property
    def begun(self) -> bool:
        """Whether the server is stopping."""
        return self._event.is_set()

    def begin(self) -> None:
        """Let every open stream end once what it has read is answered."""
        self._event.set()

    async def wait(self) -> None:
        """Return when the server begins to stop."""
        await self._event.wait()
