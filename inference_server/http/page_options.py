"""What can be said of the status page; apart, so that it can be read before the page is imported."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PageOptions:
    """A sample is taken each `step_s` seconds, and browsers ask as often.

    `hosts` are names under which browsers reach the page, beside addresses, localhost and the machine's own.
    A foreign web page can point a name of its own at this machine and read, through its visitor's browser,
    what answers here. It cannot choose the name in the request, so a name that is not known is refused.
    """

    step_s: float = 2.0
    hosts: tuple[str, ...] = ()
