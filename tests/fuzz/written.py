"""What a server wrote, read by an independent client."""

import struct

import ngh2
import wire_frames as h2

# Streams that the client can open; what was said in a case with a later one is checked without it.
MAX_OPENED = 600


def read_answers(written: bytes, settings: int, last: int) -> dict[int, tuple[bytes, bytes, bool]]:
    """Read what was written with an independent client: DATA, grpc-status and whether it ended, by stream."""
    answers: dict[int, tuple[bytes, bytes, bool]] = {}
    streams = _frames(written)
    if last > MAX_OPENED:
        return dict.fromkeys(streams, (b"", b"", False))
    client = ngh2.Connection(ngh2.Role.CLIENT)
    wide = {ngh2.Setting.INITIAL_WINDOW_SIZE: 2**31 - 1, ngh2.Setting.MAX_FRAME_SIZE: 2**24 - 1}
    client.initiate_connection(wide)
    client.set_local_window_size(2**31 - 1)
    for _ in range(settings):
        client.update_settings(wide)
    # The server's settings come first, and allow fewer streams than were opened over its life.
    fields = h2.call_fields(b"/f.F/Quick")
    while client.next_stream_id <= last:
        client.send_request(fields)
        client.data_to_send()
    client.receive_data(written)
    for event in client.events():
        if isinstance(event, ngh2.DataReceived):
            data, status, ended = answers.get(event.stream_id, (b"", b"", False))
            answers[event.stream_id] = data + event.data, status, ended or event.end_stream
        elif isinstance(event, ngh2.ResponseReceived | ngh2.TrailersReceived):
            data, status, ended = answers.get(event.stream_id, (b"", b"", False))
            assert not ended, f"more headers after the end of stream {event.stream_id}"
            answers[event.stream_id] = data, dict(event.headers).get(b"grpc-status", status), ended
        elif isinstance(event, ngh2.StreamClosed):
            assert event.local_error is None, event.local_error
        elif isinstance(event, ngh2.ConnectionClosed):
            assert event.debug_data is not None
    return answers


def _frames(written: bytes) -> set[int]:
    """Return the streams that whole frames are about; fails where the frames are not whole."""
    streams = set()
    at = 0
    while at < len(written):
        assert at + 9 <= len(written), "a frame's header is cut off"
        high, low, kind, _, stream = struct.unpack_from(">HBBBI", written, at)
        at += 9 + (high << 8 | low)
        assert at <= len(written), "a frame is cut off"
        assert kind in {
            h2.DATA,
            h2.HEADERS,
            h2.RST_STREAM,
            h2.SETTINGS,
            h2.PING,
            h2.GOAWAY,
            h2.WINDOW_UPDATE,
        }, kind
        if kind in {h2.DATA, h2.HEADERS}:
            streams.add(stream)
    return streams


def messages(data: bytes) -> list[bytes]:
    """Return the whole messages in the DATA of a stream."""
    messages = []
    while len(data) >= 5:
        flag, length = struct.unpack_from(">BI", data)
        assert flag == 0
        if len(data) < 5 + length:
            break  # the connection ended here
        messages.append(data[5 : 5 + length])
        data = data[5 + length :]
    return messages
