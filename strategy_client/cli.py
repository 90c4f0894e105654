"""`strategy-client COMMAND`; each command is a module of `commands`.

Exit codes: 0 done; 1 the sidecar or a model is not as asked, with the reason; 2 wrong usage, configuration
or input, one line for each thing that is wrong; 3 nothing of a log differs, but not all of it could be
verified; 130 interrupted.
"""

import os
import signal
import sys
from typing import Final, NoReturn

INTERRUPTED: Final = 130


def main() -> None:
    """Run the command line. Ctrl-C and SIGTERM unwind it, so that a sidecar that was started is stopped."""
    # Whoever runs us in the background may have said that Ctrl-C is not for us.
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signals = {signal.SIGTERM, signal.SIGINT} if interruptible else {signal.SIGTERM}
    for number in signals:
        signal.signal(number, _leave)
    if sys.argv[1:2] == ["run"]:
        # It asks a run to read again what this one has not read yet; `run` has a handler of its own soon.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    from strategy_client.commands.command_line import run_app  # noqa: PLC0415 long enough to be interrupted

    try:
        for number in signals:
            signal.signal(number, _interrupt)
        run_app()
    except KeyboardInterrupt:  # before a command runs, or after it
        sys.exit(INTERRUPTED)


def _leave(_number: int, _frame: object) -> NoReturn:
    # Nothing has begun that could be left behind, and an exception within an import may be lost there.
    os._exit(INTERRUPTED)


def _interrupt(_number: int, _frame: object) -> NoReturn:
    raise KeyboardInterrupt
