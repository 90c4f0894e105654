"""Our sidecar with one change that was tried for its throughput, and is not in it.

python changed_sidecar.py CHANGE serve ...

uvloop: another event loop. shared-port: its port may be another process's too. batched: calls that wait in
one turn of the event loop for the same model go as one run. docs/performance.md says what came of them.
"""

import asyncio
import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from inference_server.cli import main
from inference_server.core.errors import ServingError
from inference_server.rpc import grpcio_server, inspection
from inference_server.serving.data_plane import Answer, Call, DataPlane

answer_alone: Final = DataPlane.answer


def use_uvloop() -> None:
    """Let `asyncio.run` make uvloop's loops."""
    importlib.import_module("uvloop").install()  # not installed with us, and the others do without


def share_port() -> None:
    """Let other processes listen on the same port; the kernel deals connections out."""
    arguments = grpcio_server._arguments  # noqa: SLF001 - there is no option for it

    def sharing(options: Any) -> tuple[tuple[str, int], ...]:
        return (
            *(each for each in arguments(options) if each[0] != "grpc.so_reuseport"),
            ("grpc.so_reuseport", 1),
        )

    grpcio_server._arguments = sharing  # noqa: SLF001
    # perf_analyzer fails where the statistics that it asks for are another process's.
    inspection.EXTENSIONS = ()  # type: ignore[misc, assignment]


def batch() -> None:
    """Run together what waits in one turn of the loop."""
    waiting: list[_Waiting] = []

    async def answer(
        self: DataPlane, calls: Sequence[Call], deadline_ns: int | None
    ) -> list[Answer | ServingError]:
        if len(calls) != 1 or not isinstance(calls[0].inputs, Mapping):
            return await answer_alone(self, calls, deadline_ns)
        if not waiting:
            asyncio.get_running_loop().call_soon(_run_together, self, waiting)
        came: asyncio.Future[Answer | ServingError] = asyncio.get_running_loop().create_future()
        waiting.append((calls[0], deadline_ns, came))
        return [await came]

    DataPlane.answer = answer  # type: ignore[method-assign]


_Waiting = tuple[Call, int | None, "asyncio.Future[Answer | ServingError]"]
_tasks: set[asyncio.Task[None]] = set()


def _run_together(plane: DataPlane, waiting: list[_Waiting]) -> None:
    groups: dict[Any, list[_Waiting]] = {}
    for one in waiting:
        call = one[0]
        shapes = tuple((name, array.shape[1:]) for name, array in _inputs(call).items())
        key = (call.model, call.version, call.outputs, call.contract_hash, shapes)
        groups.setdefault(key, []).append(one)
    waiting.clear()
    for group in groups.values():
        task = asyncio.get_running_loop().create_task(_answer_group(plane, group))
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)


async def _answer_group(plane: DataPlane, group: list[_Waiting]) -> None:
    call = group[0][0]
    if len(group) > 1:
        inputs = {name: np.concatenate([_inputs(one[0])[name] for one in group]) for name in _inputs(call)}
        call = call._replace(inputs=inputs)
    deadlines = [one[1] for one in group if one[1] is not None]
    [answer] = await answer_alone(plane, [call], min(deadlines, default=None))
    first = 0
    for one, _, came in group:
        rows = len(next(iter(_inputs(one).values())))
        if isinstance(answer, Answer):
            arrays = [array[first : first + rows] for array in answer.arrays]
            part: Answer | ServingError = answer._replace(arrays=arrays, rows=rows)
        else:
            part = answer
        first += rows
        if not came.done():
            came.set_result(part)


def _inputs(call: Call) -> Mapping[str, Any]:
    assert isinstance(call.inputs, Mapping)
    return call.inputs


CHANGES: Final[dict[str, Callable[[], None]]] = {
    "none": lambda: None,
    "uvloop": use_uvloop,
    "shared-port": share_port,
    "batched": batch,
}


if __name__ == "__main__":
    CHANGES[sys.argv.pop(1)]()
    main()
