"""One caller's connection: bytes in, events to its calls, bytes out."""

import asyncio
import contextlib
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

import ngh2

from inference_server.rpc.h2.call import Call
from inference_server.rpc.h2.expansion import Expander
from inference_server.rpc.h2.goaway import last_goaway
from inference_server.rpc.h2.headers import HeaderReader, NotGrpcError
from inference_server.rpc.h2.held import HELD_MESSAGES, HeldBound
from inference_server.rpc.h2.keepalive import Keepalive, PingBound
from inference_server.rpc.h2.limits import RESETS, announce, bounded_connection
from inference_server.rpc.h2.resets import ResetBound
from inference_server.rpc.h2.rows import Shared
from inference_server.rpc.h2.stream import CallStream
from inference_server.rpc.method import CallContext
from inference_server.rpc.status import Code, StatusError

# With so much of its answers waiting to be read, beside one of any length, a connection gets no further call
# begun.
MAX_UNREAD_BYTES: Final = 16 << 20
# What is written at a time, and in one turn of the event loop: less than a millisecond's work.
WRITE_BYTES: Final = 1 << 18
TURN_BYTES: Final = 1 << 20
# After so long with what came on one connection, others get their turn on the event loop.
TURN_S: Final = 0.001


class Connection(asyncio.Protocol):
    """Answers the calls of one connection. What its caller does wrong ends it alone."""

    def __init__(self, shared: Shared) -> None:
        options = shared.options
        self._shared = shared
        self._loop = asyncio.get_running_loop()
        self._h2 = bounded_connection(options)
        self._transport: asyncio.Transport
        self._handlers: Mapping[type[ngh2.Event], Callable[[Any], None]] = {
            ngh2.RequestReceived: self._request_received,
            ngh2.DataReceived: self._data_received,
            ngh2.TrailersReceived: self._trailers_received,
            ngh2.StreamReset: self._stream_reset,
            ngh2.StreamClosed: self._stream_closed,
            ngh2.PingReceived: self._ping_received,
            ngh2.SettingsReceived: self._settings_received,
        }
        self._expander = Expander(shared.expansion)
        self._headers = HeaderReader(options.max_metadata_bytes)
        self._streams: dict[int, CallStream] = {}
        self._events: deque[ngh2.Event] = deque()
        self._untimed: list[Call] = []
        # What goes on in its turn, and what does so when something was sent; each once, in order.
        self._ready: OrderedDict[Callable[[], None], None] = OrderedDict()
        self._when_read: OrderedDict[Callable[[], None], None] = OrderedDict()
        self._to_reset: list[int] = []
        self._turning = False
        self._writable = True
        self._draining = False
        self._flushing: asyncio.Handle | None = None
        self.gone: asyncio.Future[None] = self._loop.create_future()
        self._pings = PingBound(options.min_ping_interval_s)
        self._resets = ResetBound(*RESETS)
        self._held = HeldBound(HELD_MESSAGES * options.max_message_bytes)
        self._keepalive = Keepalive(
            options.keepalive_s, options.keepalive_timeout_s, self._ping, self._silent
        )
        self._greeted = self._loop.call_later(options.handshake_timeout_s, self._never_greeted)

    def __repr__(self) -> str:
        return f"<Connection with {len(self._streams)} calls>"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say what this side allows."""
        self._transport = cast("asyncio.Transport", transport)  # as of every stream socket
        announce(self._h2, self._shared.options)
        self._keepalive.start()
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Take what came, and answer what can be answered at once."""
        self._keepalive.heard()
        try:
            self._h2.receive_data(data)
        except ngh2.NGH2Error as error:
            self._transport.write(last_goaway(error))
            self.abort()
            return
        self._events.extend(self._h2.events())
        if not self._turning:
            self._turn()

    def pause_writing(self) -> None:
        """Keep what there is to send: the caller does not read."""
        self._writable = False

    def resume_writing(self) -> None:
        """Go on sending."""
        self._writable = True
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel every call: the caller is gone."""
        del exc
        self._shared.connections.discard(self)
        self.gone.set_result(None)
        self._greeted.cancel()
        self._keepalive.stop()
        self._events.clear()
        self._ready.clear()
        self._when_read.clear()
        self._held.clear()
        streams, self._streams = self._streams, {}
        for stream in streams.values():
            if stream.call is not None:
                stream.call.cancel()
                stream.call = None
        # It holds itself by these: the collector would come too late for what the library holds of it.
        self._handlers = {}

    def drain_streams(self) -> None:
        """Let streams end after the answers to what was read of them."""
        for stream in list(self._streams.values()):
            if stream.call is not None:
                stream.call.drain()

    def drain(self) -> None:
        """Begin no more calls, and close once the last has ended."""
        self._draining = True
        if not self._transport.is_closing():
            with contextlib.suppress(ngh2.NGH2Error):
                self._h2.send_shutdown_notice()
            self.drain_streams()
            self.flush_soon()

    def abort(self) -> None:
        """Cut it off; nothing once it is gone, for then its transport takes no call any more."""
        if not self.gone.done():
            self._transport.abort()

    def flush_soon(self) -> None:
        """Send what there is to send, before the event loop waits again."""
        if self._flushing is None and not self._turning:
            self._flushing = self._loop.call_soon(self._flush)

    def answering(self) -> None:
        """Take note that there is an answer to send."""
        self._pings.answered()
        self.flush_soon()

    def ended(self, stream: CallStream) -> None:
        """Forget a stream that has had its answer."""
        self._streams.pop(stream.number, None)
        self._held.forget(stream.number)
        stream.call = None  # they hold each other: without the collector both would stay
        if not stream.caller_ended:
            self._to_reset.append(stream.number)
        self.answering()

    def when_read(self, then: Callable[[], None]) -> None:
        """Call `then` once, when more of the answers may have been sent."""
        self._when_read[then] = None

    def in_turn(self, then: Callable[[], None]) -> None:
        """Call `then` once, after what came before it on this connection, and after others had their turn."""
        self._ready[then] = None
        self._turn_soon()

    def _turn_soon(self) -> None:
        if not self._turning:
            self._turning = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Do what there is to do for TURN_S; what is left has its turn when others have had theirs."""
        self._turning = True
        until_s = self._loop.time() + TURN_S
        while self._events or self._ready:
            if self._events:
                event = self._events.popleft()
                handle = self._handlers.get(type(event))
                if handle is not None:
                    handle(event)
            if self._ready:
                then, _ = self._ready.popitem(last=False)
                then()
            if self._loop.time() > until_s:
                break
        for call in self._untimed:
            if not call.ended and call.context.deadline_ns is not None:
                call.timer = self._loop.call_at(call.context.deadline_ns / 1e9, call.expire)
        self._untimed.clear()
        self._flush()
        if self._events:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
        self._turning = False
        if self._events or self._ready:
            self._turn_soon()

    def _flush(self) -> None:
        """Send what may be sent, and give what waited for that its turn."""
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None
        left = TURN_BYTES
        while self._writable and not self._transport.is_closing():
            data = self._h2.data_to_send(WRITE_BYTES)
            if not data:
                break
            self._transport.write(data)
            self._reset_ended()
            self._ready.update(self._when_read)
            self._when_read.clear()
            left -= len(data)
            if left <= 0:
                self._flushing = self._loop.call_soon(self._flush)
                break
        if self._ready:
            self._turn_soon()
        if self._transport.is_closing():
            return  # the library may answer nothing any more, not even what it wants
        if self._is_drained():
            self._h2.terminate_connection()
            self._transport.write(self._h2.data_to_send())
        if not self._h2.want_read and not self._h2.want_write:
            self._transport.close()

    def _is_drained(self) -> bool:
        """Whether all has been answered, and all answers are on their way."""
        if not self._draining or self._streams or not self._writable or not self._h2.want_read:
            return False
        return self._h2.queued_body_size() == 0

    def _reset_ended(self) -> None:
        """Tell callers who still send that their call has ended, once all of its answer is on its way."""
        still: list[int] = []
        for number in self._to_reset:
            try:
                if self._h2.queued_body_size(number):
                    still.append(number)
                else:
                    self._h2.reset_stream(number, ngh2.ErrorCode.NO_ERROR)
            except ngh2.NGH2Error:
                continue  # both sides have ended it meanwhile
        self._to_reset = still

    def _request_received(self, event: ngh2.RequestReceived) -> None:
        stream = CallStream(self, self._h2, event.stream_id, caller_ended=event.end_stream)
        try:
            stream.call = call = self._open(stream, event.headers)
        except NotGrpcError as error:
            stream.refuse(error.http_status)
            return
        except StatusError as error:
            stream.end(error.code, error.text)
            return
        self._streams[event.stream_id] = stream
        if call.context.deadline_ns is not None:
            self._untimed.append(call)
        if event.end_stream:
            call.receive(b"", last=True)

    def _open(self, stream: CallStream, headers: tuple[Any, ...]) -> Call:
        shared = self._shared
        said = self._headers.read(headers)
        row = shared.rows.get(said.path)
        if row is None:
            raise StatusError(Code.UNIMPLEMENTED, "this server has no such method")
        if self._draining:
            raise StatusError(Code.UNAVAILABLE, "the server is stopping")
        if self._h2.queued_body_size() > MAX_UNREAD_BYTES + shared.options.max_message_bytes:
            raise StatusError(Code.RESOURCE_EXHAUSTED, "too many answers wait to be read on this connection")
        deadline_ns = None if said.timeout_ns is None else shared.clock.monotonic_ns() + said.timeout_ns
        context = CallContext(deadline_ns, shared.ids(), said.metadata)
        return row.open(stream, context, said.encoding, self._expander)

    def _data_received(self, event: ngh2.DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None or stream.call is None:
            with contextlib.suppress(ngh2.NGH2Error):
                self._h2.acknowledge_received_data(len(event.data), event.stream_id)
            return
        stream.caller_ended = event.end_stream
        call = stream.call
        call.receive(event.data, last=event.end_stream)
        if not call.ended and self._held.is_too_much(event.stream_id, call):
            text = "the messages that wait on this connection are too long together"
            call.fail(StatusError(Code.RESOURCE_EXHAUSTED, text))

    def _trailers_received(self, event: ngh2.TrailersReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is not None and stream.call is not None:
            stream.caller_ended = True
            stream.call.receive(b"", last=True)

    def _stream_reset(self, _: ngh2.StreamReset) -> None:
        if self._resets.is_too_much(self._loop.time()):
            self._send_away(ngh2.ErrorCode.ENHANCE_YOUR_CALM, b"too_many_resets")

    def _stream_closed(self, event: ngh2.StreamClosed) -> None:
        stream = self._streams.pop(event.stream_id, None)
        self._held.forget(event.stream_id)
        if stream is not None and stream.call is not None:
            stream.call.cancel()
            stream.call = None

    def _ping_received(self, _: ngh2.PingReceived) -> None:
        if self._pings.is_too_much(self._loop.time()):
            self._send_away(ngh2.ErrorCode.ENHANCE_YOUR_CALM, b"too_many_pings")

    def _settings_received(self, _: ngh2.SettingsReceived) -> None:
        self._greeted.cancel()

    def _ping(self) -> None:
        with contextlib.suppress(ngh2.NGH2Error):  # it is ending already
            self._h2.ping()
        self._flush()

    def _silent(self) -> None:
        self._send_away(ngh2.ErrorCode.NO_ERROR, b"ping_timeout")
        self.abort()

    def _never_greeted(self) -> None:
        self._send_away(ngh2.ErrorCode.NO_ERROR, b"handshake_timeout")
        self.abort()

    def _send_away(self, error: ngh2.ErrorCode, why: bytes) -> None:
        with contextlib.suppress(ngh2.NGH2Error):
            self._h2.send_goaway(error, debug_data=why)
        self._flush()
        self._events.clear()  # what he sent besides is not done any more
        self._transport.close()
