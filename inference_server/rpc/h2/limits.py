"""What the library lets a caller do on one connection, and what the caller is told of it."""

from typing import TYPE_CHECKING, Final

import ngh2

if TYPE_CHECKING:
    from inference_server.rpc.listener import ListenerOptions

# What a caller may send before it is taken: on one stream, on all streams of a connection, in one frame.
# A stream that has to wait keeps its window, so there is room for many of them beside the other calls.
STREAM_WINDOW: Final = 1 << 20
CONNECTION_WINDOW: Final = 256 << 20
MAX_FRAME_BYTES: Final = 1 << 18
# Streams that the caller may reset, at first and a second. A missed deadline is a reset too: it is generous.
# The library's own bound, which says INTERNAL_ERROR, is wider: it counts all that came before any is handled.
RESETS: Final = (10_000, 1_000)
MAX_CONTINUATIONS: Final = 16
# Up to so many times the bound on metadata a call is refused; beyond it the connection ends.
REFUSED_METADATA: Final = 4


def bounded_connection(options: "ListenerOptions") -> ngh2.Connection:
    """Return the library's side of a connection."""
    configuration = ngh2.Configuration(
        auto_window_update=False,
        stream_reset_rate_limit=(2 * RESETS[0], RESETS[1]),
        max_continuations=MAX_CONTINUATIONS,
        max_inbound_header_list_size=REFUSED_METADATA * options.max_metadata_bytes,
    )
    return ngh2.Connection(ngh2.Role.SERVER, configuration)


def announce(h2: ngh2.Connection, options: "ListenerOptions") -> None:
    """Let the settings be the first that is sent."""
    h2.initiate_connection(
        {
            ngh2.Setting.MAX_CONCURRENT_STREAMS: options.max_streams_per_connection,
            ngh2.Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
            ngh2.Setting.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
            ngh2.Setting.MAX_HEADER_LIST_SIZE: options.max_metadata_bytes,
        }
    )
    h2.set_local_window_size(CONNECTION_WINDOW)
