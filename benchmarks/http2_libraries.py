"""What one small gRPC exchange costs each sans-IO HTTP/2 library, both sides in memory, in turns.

    pip install h2 jh2 && python benchmarks/http2_libraries.py [--rounds N]

A request of headers and a message, an answer of headers, a message and trailers, over one connection. What is
not installed is left out. `ngh2` is ours; docs/transports.md says why.
"""

import argparse
import importlib
import statistics
from collections.abc import Callable
from typing import Any, Final

import ngh2
from interleaved import Ratio, Subject, interleave

REQUEST: Final = [
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/inference.GRPCInferenceService/ModelInfer"),
    (b":authority", b"localhost"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-c++/1.54.0"),
]
RESPONSE: Final = [(b":status", b"200"), (b"content-type", b"application/grpc")]
TRAILERS: Final = [(b"grpc-status", b"0")]
QUESTION: Final = bytes(100)
ANSWER: Final = bytes(200)
OURS: Final = "ngh2"


def by_ngh2() -> Callable[[], None]:
    """Return an exchange by ngh2."""
    client, server = ngh2.Connection(ngh2.Role.CLIENT), ngh2.Connection(ngh2.Role.SERVER)
    client.initiate_connection()
    server.initiate_connection()

    def exchange() -> None:
        stream = client.send_request(REQUEST)
        client.send_data(stream, QUESTION, end_stream=True)
        server.receive_data(client.data_to_send())
        server.events()
        server.send_response(stream, RESPONSE)
        server.send_data(stream, ANSWER)
        server.send_trailers(stream, TRAILERS)
        client.receive_data(server.data_to_send())
        client.events()

    return exchange


def by_hyper(package: str) -> Callable[[], None]:
    """Return an exchange by `h2`, or by `jh2`, which has the same surface."""
    connection: Any = importlib.import_module(f"{package}.connection")
    config: Any = importlib.import_module(f"{package}.config")

    def side(*, client: bool) -> Any:
        made = connection.H2Connection(config.H2Configuration(client_side=client, header_encoding=None))
        made.initiate_connection()
        return made

    client, server = side(client=True), side(client=False)

    def exchange() -> None:
        stream = client.get_next_available_stream_id()
        client.send_headers(stream, REQUEST)
        client.send_data(stream, QUESTION, end_stream=True)
        server.receive_data(client.data_to_send())
        server.acknowledge_received_data(len(QUESTION), stream)
        server.send_headers(stream, RESPONSE)
        server.send_data(stream, ANSWER)
        server.send_headers(stream, TRAILERS, end_stream=True)
        client.receive_data(server.data_to_send())
        client.acknowledge_received_data(len(ANSWER), stream)

    return exchange


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds: int = parser.parse_args().rounds
    subjects = [Subject(OURS, by_ngh2(), 2000)]
    for package in ("h2", "jh2"):
        try:
            subjects.append(Subject(package, by_hyper(package), 500))
        except ImportError:
            print(f"{package} is not installed")
    series = interleave(subjects, rounds)
    for name, one in series.items():
        print(f"{name:6} {statistics.median(one.values):8.1f} us  {Ratio.of(one, series[OURS])} x {OURS}")


if __name__ == "__main__":
    main()
