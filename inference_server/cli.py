"""`inference-server`: a plain `serve` at once, and everything else by `command_line`.

Exit codes: 0 done; 1 the file, the address or the sidecar is not as asked, with the reason; 2 wrong usage;
130 interrupted, except where that is how it ends (`serve`, `status --watch`).
"""

import gc
import os
import sys
from pathlib import Path

from inference_server.leaving import interrupt_what_runs, leave_when_told
from inference_server.plain_arguments import Said, read_plain


def main() -> None:
    """Run the command line."""
    leave_when_told()  # until `serve` has handlers of its own, or another command is there
    # numpy's linear algebra, which nothing here calls, has a thread for each processor: they spin when they
    # start, for as long as numpy takes to import, on the processor on which the vetting process loads.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        said = read_plain(sys.argv[1:], os.environ)
        if said is None or not _serve(said):
            from inference_server.command_line import app  # noqa: PLC0415 - it takes long

            interrupt_what_runs()
            app()
    except OSError as error:  # such as of a full disk where the output goes
        sys.stdout = None  # or Python would try again at its end
        print(f"inference-server: {error.strerror or error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


def _serve(said: Said) -> bool:
    """Serve, until it is stopped; False at once where the flags are not what they should be."""
    try:
        gc.disable()  # what is imported stays: to look through it while it grows finds nothing
        # These two bring little: the child is to start before all else.
        from inference_server.adapters.head_start import HeadStart  # noqa: PLC0415
        from inference_server.config_defaults import MODELS  # noqa: PLC0415

        with HeadStart.take(Path(said["models"][0]) if "models" in said else MODELS) as head_start:
            import asyncio  # noqa: PLC0415 - all of these take long

            from inference_server.commands.serve import ServeError, plain_options, serve  # noqa: PLC0415

            gc.enable()
            if (plain := plain_options(said, os.environ)) is None:
                return False
            try:
                asyncio.run(serve(*plain, None, head_start))
            except ServeError as error:
                from inference_server.console import ending  # noqa: PLC0415 - it takes long

                sys.exit(ending(error, code=1).exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    return True
