"""The spans: one for each RPC that is sampled, one for each message of a stream, and one for each call in it.

Nothing here waits: a span that ended is put in a bounded queue, and a thread sends what is in it. When the
collector is slow or gone the queue runs full and spans are dropped, never a call.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Final

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, Sampler, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from inference_server.core.errors import Reason, ServingError
from inference_server.rpc.method import CallContext, Method
from inference_server.rpc.status import Code, status_of
from inference_server.rpc.tracing import SAMPLE_RATIO, TracingOptions
from inference_server.serving.data_plane import Answer, RowAnswer
from inference_server.serving.statistics import Timing

CARRIED: Final = ("traceparent", "tracestate")
# They warn of each trace that they cannot read, with its text: any caller could fill the log with his own.
READING_CALLERS: Final = ("opentelemetry.trace.span", "opentelemetry.trace.propagation.tracecontext")
# A server's span is an error when the server is to blame: the RPC conventions of OpenTelemetry.
BLAMED: Final = frozenset({Code.DEADLINE_EXCEEDED, Code.INTERNAL, Code.UNAVAILABLE})


class Tracing:
    """Makes the spans of RPCs, and sends them until `close`."""

    def __init__(self, options: TracingOptions, environ: Mapping[str, str]) -> None:
        for name in READING_CALLERS:
            logging.getLogger(name).setLevel(logging.ERROR)
        self._flush_s: Final = options.flush_s
        self._provider: Final = TracerProvider(
            sampler=_sampler(options.sample_ratio, environ),
            resource=_resource(environ),
            shutdown_on_exit=False,  # it would wait for half a minute
        )
        plaintext = options.endpoint.startswith("http://")
        self._exporter: Final = OTLPSpanExporter(endpoint=options.endpoint, insecure=plaintext)
        self._provider.add_span_processor(BatchSpanProcessor(self._exporter))
        self._tracer: Final = self._provider.get_tracer("tickserve", version("tickserve"))
        self._propagator: Final = TraceContextTextMapPropagator()

    def __repr__(self) -> str:
        return f"<Tracing {self._provider.sampler.get_description()}>"

    def rpc(self, method: Method, call: CallContext) -> "RpcTrace | None":
        """Begin the span of an RPC, under the caller's if it brought one; None where it is not sampled.

        A stream is there in any case, since each of its messages may be sampled.
        """
        service, _, name = method.path[1:].rpartition("/")
        attributes = {
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": name,
            "tickserve.request_id": call.request_id,
        }
        span = self._tracer.start_span(
            method.path[1:], self._callers(call), SpanKind.SERVER, attributes=attributes
        )
        if method.each is None and not span.is_recording():
            return None
        return RpcTrace(self, method, span)

    def message(self, method: Method, stream: Span) -> "RpcTrace | None":
        """Begin the span of a stream's message: a trace of its own, with a link to the stream's."""
        service, _, name = method.path[1:].rpartition("/")
        span = self._tracer.start_span(
            f"{method.path[1:]} message",
            Context(),
            SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": name},
            links=[Link(stream.get_span_context())],
        )
        return RpcTrace(self, method, span) if span.is_recording() else None

    def call(self, name: str, rpc: Span, total_ns: int) -> tuple[Span, int]:
        """Begin the span of a call that took so long and ends now; return it and its end."""
        end_ns = time.time_ns()
        span = self._tracer.start_span(
            name, set_span_in_context(rpc, Context()), start_time=end_ns - total_ns
        )
        return span, end_ns

    async def close(self) -> None:
        """Send what is queued, within the bound; what is not sent by then is lost. Cancelled, it is too."""
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def shut_down() -> None:
            self._provider.shutdown()
            with contextlib.suppress(RuntimeError):  # nobody waits any more, and the loop is closed
                loop.call_soon_threadsafe(sent.set)

        # Its own thread and a daemon: the loop's end waits for those of its executor.
        threading.Thread(target=shut_down, name="traces", daemon=True).start()
        try:
            async with asyncio.timeout(self._flush_s):
                await sent.wait()
        except TimeoutError:
            self._exporter.shutdown()

    def _callers(self, call: CallContext) -> Context:
        carrier = {key: value for key, value in call.metadata if key in CARRIED and isinstance(value, str)}
        return self._propagator.extract(carrier, Context()) if carrier else Context()


class RpcTrace:
    """The span of one RPC, or of one message of a stream; the spans of its calls are its children.

    A stream may last a day. So its messages are no children of it: each is a trace of its own, sampled on its
    own, with a link to the stream's span, which continues the trace of who opened it.
    """

    __slots__ = ("_method", "_span", "_tracing")

    def __init__(self, tracing: Tracing, method: Method, span: Span) -> None:
        self._tracing = tracing
        self._method = method
        self._span = span

    def __repr__(self) -> str:
        return f"<RpcTrace of {self._method.path}>"

    def message(self) -> "RpcTrace | None":
        """Begin the span of a message of this stream; None where it is not sampled."""
        return self._tracing.message(self._method, self._span)

    def answered(self, answer: Answer | RowAnswer, timing: Timing) -> None:
        """Add a call that is answered now."""
        servable = answer.servable
        span, end_ns = self._tracing.call(servable.id.name, self._span, timing.total_ns)
        span.set_attributes(
            {
                "tickserve.model": servable.id.name,
                "tickserve.version": servable.id.version,
                "tickserve.digest": servable.digest,
                "tickserve.rows": answer.rows,
                "tickserve.queue_ns": timing.queue_ns,
                "tickserve.input_ns": timing.input_ns,
                "tickserve.infer_ns": timing.infer_ns,
                "tickserve.output_ns": timing.output_ns,
            }
        )
        span.end(end_ns)

    def failed(self, model: str, version: int, code: Code, reason: Reason, total_ns: int) -> None:
        """Add a call that ends so now; `model` is empty where none of its name is known, `version` 0."""
        span, end_ns = self._tracing.call(model or "unknown model", self._span, total_ns)
        span.set_attributes(
            {
                "tickserve.model": model,
                "tickserve.version": version,
                "tickserve.status": code.name,
                "error.type": reason.value,
            }
        )
        span.set_status(Status(StatusCode.ERROR, reason.value))
        span.end(end_ns)

    def end(self, code: Code) -> None:
        """End the span, with the RPC's status."""
        self._span.set_attribute("rpc.grpc.status_code", code.value)
        if code is not Code.OK:
            self._span.set_attribute("error.type", code.name)
        if code in BLAMED:
            self._span.set_status(Status(StatusCode.ERROR, code.name))
        self._span.end()

    @contextlib.contextmanager
    def ended(self) -> Iterator[None]:
        """End the span with this block, with the status that it ends with."""
        code = Code.OK
        try:
            yield
        except ServingError as error:
            code = status_of(error).code
            raise
        except Exception:  # any other is a bug; it goes on its way
            code = Code.INTERNAL
            raise
        except (asyncio.CancelledError, GeneratorExit):
            code = Code.CANCELLED
            raise
        finally:
            self.end(code)


def _sampler(ratio: float | None, environ: Mapping[str, str]) -> Sampler | None:
    """Return the sampler; None: the one that the standard variables name."""
    if ratio is None and environ.get("OTEL_TRACES_SAMPLER"):
        return None
    return ParentBased(TraceIdRatioBased(SAMPLE_RATIO if ratio is None else ratio))


def _resource(environ: Mapping[str, str]) -> Resource:
    attributes = {SERVICE_VERSION: version("tickserve")}
    named = environ.get("OTEL_SERVICE_NAME") or "service.name=" in environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    if not named:
        attributes[SERVICE_NAME] = "tickserve"
    return Resource.create(attributes)
