"""OpenTelemetry traces, when they are configured: the options, and the message of a stream as a trace.

Without an endpoint nothing of OpenTelemetry is imported, and a call costs one comparison more. `rpc.spans`
has what is done with one; the extra `tracing` installs it.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from inference_server.rpc.method import CallContext

if TYPE_CHECKING:  # at run time only where it is configured
    from inference_server.rpc.spans import Tracing

log: Final = logging.getLogger(__name__)

ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
# Of calls that come without a trace: one in a hundred. Those that bring one are traced when it is.
SAMPLE_RATIO: Final = 0.01


class TracingError(Exception):
    """Traces cannot be sent as configured; the text says why."""


@dataclass(frozen=True, slots=True)
class TracingOptions:
    """Where traces go, and how many.

    `endpoint` is `http://HOST:PORT` (plaintext) or `https://HOST:PORT` of an OTLP collector's gRPC; empty:
    what the standard variables say, the first of ENDPOINTS first, and where these say nothing there are no
    traces. `sample_ratio`, from 0 to 1, is of the calls that bring no trace of their own; None: as
    OTEL_TRACES_SAMPLER says, else SAMPLE_RATIO. `flush_s` bounds what the end of the sidecar waits for spans
    that are not sent yet.
    """

    endpoint: str = ""
    sample_ratio: float | None = None
    flush_s: float = 2.0

    def __post_init__(self) -> None:
        if self.endpoint:
            check_endpoint(self.endpoint)
        if self.sample_ratio is not None and not 0 <= self.sample_ratio <= 1:
            raise ValueError(f"expected a sample ratio from 0 to 1, came {self.sample_ratio}")


def check_endpoint(text: str) -> str:
    """Return the endpoint; ValueError where it is none."""
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port == 0:
        raise ValueError(f"expected http://HOST:PORT or https://HOST:PORT, came {text!r}")
    return text


def open_tracing(options: TracingOptions, environ: Mapping[str, str]) -> "Tracing | None":
    """Return what makes spans; None where none are asked for.

    TracingError where the configuration names an endpoint and OpenTelemetry is not installed. Where only the
    environment does, which a cluster may set for everyone, that is a warning.
    """
    endpoint = options.endpoint or next(filter(None, map(environ.get, ENDPOINTS)), "")
    off = environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    off = off or environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "none"
    if not endpoint or off:
        return None
    try:
        from inference_server.rpc.spans import Tracing  # noqa: PLC0415 - it costs time, and may not be there
    except ModuleNotFoundError:
        text = "traces are asked for, and OpenTelemetry is not installed: pip install 'tickserve[tracing]'"
        if options.endpoint:
            raise TracingError(text) from None
        log.warning("%s", text)
        return None
    log.info("traces go to %s", endpoint)
    return Tracing(replace(options, endpoint=endpoint), environ)


@contextlib.contextmanager
def traced_message(call: CallContext) -> Iterator[CallContext]:
    """Return the context for one message of a stream, which is a trace of its own; see `spans.RpcTrace`."""
    trace = call.trace and call.trace.message()
    if trace is None:
        yield call if call.trace is None else replace(call, trace=None)
        return
    with trace.ended():
        yield replace(call, trace=trace)
