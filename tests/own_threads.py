"""Threads that we have started, so that a test can say that it leaves none of its own."""

import threading


def own_threads(*more: str) -> set[threading.Thread]:
    """The threads of ours that run now; `more` are beginnings of names besides."""
    return {thread for thread in threading.enumerate() if thread.name.startswith(("tickserve-", *more))}
