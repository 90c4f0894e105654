"""A sidecar as a process: signals, a service manager, and an exit that nothing holds up."""

import asyncio
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable
from typing import Final

from inference_server.adapters.head_start import HeadStart
from inference_server.adapters.service_manager import Announcer, ServiceManager
from inference_server.app import ServeOptions, Sidecar, serving
from inference_server.core.clock import SystemClock

log = logging.getLogger(__name__)

# How long the process may take to end once nothing is served any more.
EXIT_S: Final = 2.0


async def serve_until_stopped(
    options: ServeOptions,
    read_again: Callable[[], ServeOptions] | None = None,
    head_start: HeadStart | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT; a second one ends the process at once.

    At SIGHUP, what `read_again` says of the models is taken over; where it raises, nothing changes. Without
    it, SIGHUP is a signal to stop as well. One that comes during the start is answered at its end. A service
    manager that the environment names is told how it stands. The process is to end after this: it is ended,
    with exit code 0, where a run that hangs would keep it.
    """
    manager = ServiceManager.take(os.environ, os.getpid())
    stop, reload_asked = asyncio.Event(), asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            os._exit(1)
        stop.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    loop.add_signal_handler(signal.SIGHUP, on_signal if read_again is None else reload_asked.set)
    # A SIGINT that came before has cancelled this task: that is to arrive here, where nothing is built yet.
    await asyncio.sleep(0)
    async with serving(options, head_start) as sidecar:
        announcer = Announcer(manager, sidecar.registry, SystemClock(), sidecar.reconciler.settled)
        if read_again is not None:
            loop.add_signal_handler(signal.SIGHUP, _reload, sidecar, read_again, announcer)
            if reload_asked.is_set():
                _reload(sidecar, read_again, announcer)
        tasks = [asyncio.create_task(_freeze(sidecar)), asyncio.create_task(announcer.run())]
        await stop.wait()
        for task in tasks:
            task.cancel()
        announcer.stopping()
    log.info("stopped")
    # Python waits at its exit for threads, and nothing can stop the one of a run or load that hangs.
    leaving = threading.Timer(EXIT_S, _leave)
    leaving.daemon = True
    leaving.start()


async def _freeze(sidecar: Sidecar) -> None:
    """Leave what the start made out of garbage collection, which would stop all calls to walk through it."""
    await sidecar.reconciler.settled()
    gc.collect()
    gc.freeze()


def _reload(sidecar: Sidecar, read_again: Callable[[], ServeOptions], announcer: Announcer) -> None:
    announcer.reloading()
    try:
        options = read_again()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with the file, the sidecar goes on as it was
        log.error("SIGHUP: nothing is changed: %s", error)  # noqa: TRY400 - an operator's mistake, no bug
        announcer.reloaded(str(error))
        return
    sidecar.reload(options)
    announcer.reloaded()
    log.info("SIGHUP: took over what the configuration says of the models")


def _leave() -> None:
    busy = sorted(thread.name for thread in threading.enumerate() if not thread.daemon)
    log.warning("ending although work goes on that cannot be stopped threads=%s", ",".join(busy))
    os._exit(0)
