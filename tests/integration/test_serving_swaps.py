"""Files come, change and go; the right version answers, on real folders and real ONNX files."""

import asyncio
import contextlib
import shutil
import threading

import pytest
from eventually import BOUND_S, eventually
from onnx_files import endless_model, score_contract, score_model
from servables import FunctionServable
from sidecar_inside import VettingInThread, inside, put

from inference_server.adapters.model_repository import FolderRepositoryOptions
from inference_server.adapters.onnx_servable import OnnxServable
from inference_server.adapters.vetting_process import VettingProcess, VettingProcessOptions
from inference_server.core.errors import NotFoundError, UnavailableError
from inference_server.core.servable import ServableId, State
from inference_server.serving.data_plane import Call
from inference_server.serving.lifecycle import Lifecycle
from inference_server.serving.policy import All
from inference_server.serving.settings import ModelSettings


def run(scenario):
    """Run the scenario within a bound of time."""
    asyncio.run(asyncio.wait_for(scenario(), 4 * BOUND_S))


async def unchanged_for(registry, seconds):
    """Let time pass in which the registry must not change."""
    change = asyncio.create_task(registry.wait_changed(registry.revision))
    changed, _ = await asyncio.wait([change], timeout=seconds)
    assert not changed, registry.describe()
    change.cancel()


def nested(folder, version, name="momentum"):
    return folder / name / str(version) / "model.onnx"


def test_an_empty_repository_serves_what_appears_later(tmp_path):
    """A1, F1: no folder at the start; once a file appears it is served, and only then is the server ready."""
    folder = tmp_path / "models"

    async def scenario():
        async with inside(folder) as parts:
            await parts.settled()
            assert not parts.registry.ready()
            put(folder / "momentum.onnx", score_model(bias=1))
            await eventually(parts.registry.ready)
            assert await parts.ask() == (1, 1.0)

    run(scenario)


def test_a_file_that_is_written_without_end_holds_up_no_start(tmp_path):
    """C2, F1: the start settles although one file never rests, which is told; it is served once it does."""
    put(tmp_path / "good.onnx", score_model("good"))
    file, whole = tmp_path / "momentum.onnx", score_model()

    async def write():
        size = 300
        while True:
            size = 300 + (size + 1) % 7
            file.write_bytes(whole[:size])
            await asyncio.sleep(0.005)

    async def scenario():
        writing = asyncio.create_task(write())
        # A writer that the machine keeps from writing for a moment does not look like one that has ended.
        options = FolderRepositoryOptions(quiet_s=1.0, settle_s=60, patience_s=1.5)
        async with inside(tmp_path, repository_options=options) as parts:
            await parts.settled()
            assert parts.model().problem == "momentum.onnx: is still being written after 1.5 s"
            assert await parts.ask("good") == (1, 0.0)
            writing.cancel()
            put(file, whole)
            await eventually(lambda: not parts.model().problem and parts.model().default_version)
            assert await parts.ask() == (1, 0.0)

    run(scenario)


def test_one_bad_model_at_the_start_keeps_nobody_from_serving(tmp_path):
    """A2: the good model serves; the bad one is known, with its reason in status and error."""
    put(tmp_path / "good.onnx", score_model("good"))
    put(tmp_path / "bad.onnx", score_model("bad", contract=score_contract("bad", bias=0.01)))

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.settled()
            assert await parts.ask("good") == (1, 0.0)
            assert "golden row" in parts.model("bad").problem
            with pytest.raises(UnavailableError, match="does not answer as the estimator did"):
                parts.registry.resolve("bad", 0)
            assert not parts.registry.ready(), "bad was found at the start, so it is required"
            put(tmp_path / "bad.onnx", score_model("bad"))
            await eventually(parts.registry.ready)

    run(scenario)


def test_what_is_removed_without_ever_being_served_is_not_waited_for(tmp_path):
    """F1: a bad file that was deleted holds up readiness no longer, nor when it is back."""
    put(tmp_path / "good.onnx", score_model("good"))
    put(tmp_path / "bad.onnx", b"no model")

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.settled()
            assert not parts.registry.ready()
            (tmp_path / "bad.onnx").unlink()
            await eventually(parts.registry.ready)
            put(tmp_path / "bad.onnx", b"no model again")
            await parts.eventually_problem("not an ONNX file", "bad")
            assert parts.registry.ready()

    run(scenario)


def test_a_problem_is_logged_once(tmp_path, caplog):
    """C1: what is wrong with a file that is no candidate is in the log, once for as long as it lasts."""
    put(tmp_path / "cut.onnx", score_model("cut")[:-100])

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.eventually_problem("cut off", "cut")
            await parts.settled()

    run(scenario)
    told = [record.getMessage() for record in caplog.records if "cut off" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("problem model=cut cut.onnx: the file is cut off")


@pytest.mark.parametrize(
    "replace", [put, lambda path, content: path.write_bytes(content)], ids=["rename", "copy"]
)
def test_the_flat_layout_swaps_by_replacing_the_file(tmp_path, replace):
    """C2, A4: renamed into place or copied over the live file, the new bytes answer."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model(bias=1, model_version=3))

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.settled()
            assert await parts.ask() == (3, 1.0)
            replace(file, score_model(bias=2, model_version=4))
            await eventually(lambda: parts.model().default_version == 4)
            assert await parts.ask() == (4, 2.0)
            replace(file, score_model(bias=3, model_version=4))
            await parts.settled()
            assert await parts.ask() == (4, 3.0), "same version, other bytes"
            replace(file, score_model(bias=1, model_version=3))
            await parts.settled()
            assert await parts.ask() == (3, 1.0), "A7: back to a smaller version"
            await eventually(lambda: [v.id.version for v in parts.model().versions] == [3])
            assert parts.loader.sessions == 1

    run(scenario)


def test_versions_side_by_side_answer_by_number(tmp_path):
    """The nested layout under policy all: each version answers for itself, the greatest by default."""
    for version in (1, 2, 10):
        put(nested(tmp_path, version), score_model(bias=version))

    async def scenario():
        async with inside(tmp_path, lifecycle=Lifecycle(default=ModelSettings(policy=All()))) as parts:
            await parts.settled()
            assert [await parts.ask(version=v) for v in (1, 2, 10, 0)] == [(1, 1), (2, 2), (10, 10), (10, 10)]
            with pytest.raises(NotFoundError, match="has no version 7; it has 10, 2, 1"):
                parts.registry.resolve("momentum", 7)

    run(scenario)


def test_the_default_moves_only_once_the_new_version_is_available(tmp_path):
    """A4: while the new version is vetted, the old one answers; afterwards only the new one does."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    class SlowVetting(VettingInThread):
        async def vet(self, model, expected_name):
            if model != first:
                reached.set()
                await go_on.wait()
            return await super().vet(model, expected_name)

    first = score_model(bias=1)
    put(nested(tmp_path, 1), score_model(bias=1))

    async def scenario():
        async with inside(tmp_path, vetting=SlowVetting()) as parts:
            await parts.settled()
            put(nested(tmp_path, 2), score_model(bias=2))
            await reached.wait()
            assert await parts.ask() == (1, 1.0)
            states = {status.id.version: status.state for status in parts.model().versions}
            assert states == {1: State.AVAILABLE, 2: State.LOADING}
            go_on.set()
            await parts.settled()
            assert await parts.ask() == (2, 2.0)
            await eventually(lambda: [v.id.version for v in parts.model().versions] == [2])

    run(scenario)


BAD_FILES = {
    "truncated": (score_model(bias=2)[:-40], "cut off"),
    "no onnx": (b"this is no model\n" * 10, "not an ONNX file"),
    "empty": (b"", "the file is empty"),
    "another signature": (score_model(n_features=4, contract=score_contract()), "it names 3 features"),
    "wrong answers": (score_model(bias=0.01, contract=score_contract()), "golden row 0"),
    "another model's": (score_model("breakout"), "it is for the model 'breakout'"),
}


@pytest.mark.parametrize("layout", ["flat", "nested"])
@pytest.mark.parametrize("bad", BAD_FILES)
def test_a_bad_file_over_a_live_one_leaves_it_serving_until_it_is_mended(tmp_path, bad, layout):
    """A5, A6, C1, C3, C4, C5: the old bytes answer and the reason shows; a mended file takes over."""
    file = tmp_path / "momentum.onnx" if layout == "flat" else nested(tmp_path, 1)
    content, reason = BAD_FILES[bad]
    put(file, score_model(bias=1))

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.settled()
            file.write_bytes(content)
            await parts.eventually_problem(reason)
            assert await parts.ask() == (1, 1.0)
            assert parts.registry.ready()
            put(file, score_model(bias=3))
            await parts.settled()
            assert await parts.ask() == (1, 3.0)
            assert parts.model().problem == ""

    run(scenario)


def test_a_slow_writer_is_no_error_and_is_served_when_done(tmp_path):
    """C2: a file written bit by bit over a live one is no problem on the way and answers when complete."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model(bias=1))
    content = score_model(bias=2, padding=20_000)

    async def scenario():
        patient = FolderRepositoryOptions(quiet_s=0.02, settle_s=20)
        async with inside(tmp_path, repository_options=patient) as parts:
            await parts.settled()
            with file.open("wb", buffering=0) as out:
                *chunks, last = (content[start : start + 2048] for start in range(0, len(content), 2048))
                for chunk in chunks:
                    out.write(chunk)
                    # The writer's pace: longer than a file must be quiet to be looked at.
                    await unchanged_for(parts.registry, 0.04)
                    assert await parts.ask() == (1, 1.0)
                out.write(last)
            await parts.settled()
            assert await parts.ask() == (1, 2.0)
            assert parts.model().problem == ""

    run(scenario)


def test_a_link_that_flips_swaps(tmp_path):
    """C2: a symbolic link turned to another file is a swap, also when the target lies outside the folder."""
    folder = tmp_path / "models"
    for number in (1, 2):
        put(tmp_path / f"store-{number}", score_model(bias=number))
    folder.mkdir()
    (folder / "momentum.onnx").symlink_to(tmp_path / "store-1")

    async def scenario():
        async with inside(folder) as parts:
            await parts.settled()
            assert await parts.ask() == (1, 1.0)
            beside = folder / ".flip"
            beside.symlink_to(tmp_path / "store-2")
            beside.rename(folder / "momentum.onnx")
            await parts.settled()
            assert await parts.ask() == (1, 2.0)

    run(scenario)


def test_a_deleted_file_goes_on_serving_and_shows_as_orphan(tmp_path):
    """A9: the folder of the last version, and then the whole repository, is removed; it answers on."""
    put(nested(tmp_path / "models", 1), score_model(bias=1))

    async def scenario():
        async with inside(tmp_path / "models") as parts:
            await parts.settled()
            shutil.rmtree(tmp_path / "models" / "momentum" / "1")
            await parts.eventually_problem("its file is gone")
            shutil.rmtree(tmp_path / "models")
            await parts.settled()
            assert await parts.ask() == (1, 1.0)
            put(nested(tmp_path / "models", 2), score_model(bias=2))
            await eventually(lambda: parts.model().default_version == 2)

    run(scenario)


def test_a_touched_file_is_not_loaded_again(tmp_path):
    """A13: another time stamp on the same bytes changes nothing that is served."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model(bias=1))

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.settled()
            before = parts.registry.resolve("momentum", 0)
            file.touch()
            await parts.settled()
            assert parts.registry.resolve("momentum", 0) is before

    run(scenario)


def test_equal_bytes_under_two_names_are_one_session(tmp_path):
    """Two models of the same bytes share a session; when one is replaced, the other answers on."""
    for name in ("a", "b"):
        put(tmp_path / f"{name}.onnx", score_model(None, bias=1))

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.settled()
            assert parts.loader.sessions == 1
            put(tmp_path / "a.onnx", score_model(None, bias=2))
            await parts.settled()
            assert await parts.ask("a") == (1, 2.0)
            assert await parts.ask("b") == (1, 1.0)
            assert parts.loader.sessions == 2

    run(scenario)


def test_a_call_in_flight_completes_on_the_version_it_began_with(tmp_path):
    """B5, A18: the swap does not wait for the call, nor cut it; the old version is closed after it."""
    put(tmp_path / "momentum.onnx", score_model(bias=2, model_version=2))
    entered, go_on = threading.Event(), threading.Event()

    def wait(rows):
        entered.set()
        assert go_on.wait(BOUND_S)
        return rows.sum(axis=1, keepdims=True)

    old = FunctionServable(version=1, function=wait, warm_up_ns=10**9)

    async def scenario():
        async with inside(tmp_path) as parts:
            parts.registry.publish(old, 1)
            rows = score_contract().golden.inputs
            in_flight = asyncio.create_task(parts.plane.answer([Call("momentum", rows, version=1)], None))
            await asyncio.to_thread(entered.wait, BOUND_S)
            await parts.settled()
            retiring = asyncio.create_task(parts.registry.retire(ServableId("momentum", 1)).drain())
            assert await parts.ask() == (2, 2.0)
            assert not old.closed
            assert not retiring.done()
            go_on.set()
            (answer,) = await in_flight
            assert answer.servable is old
            await retiring

    run(scenario)


def test_the_old_version_is_destroyed_off_the_request_path(tmp_path, monkeypatch):
    """A18: while the old version takes its time to close, the new one answers on the same event loop."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model(bias=1))
    closing, go_on, closed_by = threading.Event(), threading.Event(), []
    close = OnnxServable.close

    def close_slowly(servable):
        closed_by.append(threading.current_thread())
        closing.set()
        go_on.wait(BOUND_S)
        close(servable)

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.settled()
            monkeypatch.setattr(OnnxServable, "close", close_slowly)
            put(file, score_model(bias=2))
            await asyncio.to_thread(closing.wait, BOUND_S)
            assert await parts.ask() == (1, 2.0)
            assert closed_by != [threading.current_thread()]
            assert parts.loader.sessions == 2, "it is still closing"
            go_on.set()
            await eventually(lambda: parts.loader.sessions == 1)

    run(scenario)


def test_nothing_fails_and_no_answer_is_mixed_while_versions_come_and_go(tmp_path):
    """B1: under a constant stream of calls, 30 swaps in both ways; every answer is wholly of one version."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model(bias=1, model_version=1))

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.settled()
            seen = set()
            done = asyncio.Event()

            async def call_on():
                while not done.is_set():
                    version, bias = await parts.ask()
                    assert version == bias
                    seen.add(version)
                    await asyncio.sleep(0)

            calling = asyncio.create_task(call_on())
            for version in [*range(2, 17), *range(15, 0, -1)]:
                put(file, score_model(bias=version, model_version=version))
                await eventually(lambda v=version: calling.done() or parts.model().default_version == v)
            done.set()
            await calling
            assert seen == set(range(1, 17))
            await eventually(lambda: parts.loader.sessions == 1)

    run(scenario)


def test_the_shell_survives_whatever_its_parts_raise(tmp_path, caplog):
    """A6: a repository or loader that raises is logged; the next file is served without a restart."""
    put(tmp_path / "momentum.onnx", score_model(bias=1))

    async def scenario():
        async with inside(tmp_path) as parts:
            scan, load = parts.reconciler._repository.scan, parts.loader.load
            failures = [OSError("disk"), RuntimeError("bug")]

            def failing_scan():
                if failures:
                    raise failures.pop()
                return scan()

            def failing_load(id_, digest, model, memory_bytes):
                parts.loader.load = load
                raise MemoryError

            parts.reconciler._repository.scan = failing_scan
            parts.loader.load = failing_load
            await parts.settled()
            assert "loading failed unexpectedly" in parts.model().problem
            put(tmp_path / "momentum.onnx", score_model(bias=2))
            await parts.settled()
            assert await parts.ask() == (1, 2.0)

    run(scenario)
    assert "MemoryError" in caplog.text


def test_a_file_that_changes_before_it_is_read_is_looked_at_again(tmp_path):
    """A15: replaced between the look and the reading, the later file is served, no problem told."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model(bias=1))

    async def scenario():
        async with inside(tmp_path) as parts:
            read = parts.reconciler._repository.read

            def replaced_meanwhile(candidate):
                parts.reconciler._repository.read = read
                put(file, score_model(bias=2))
                return read(candidate)

            parts.reconciler._repository.read = replaced_meanwhile
            await parts.settled()
            assert await parts.ask() == (1, 2.0)
            assert parts.model().problem == ""

    run(scenario)


def test_events_are_logged_a_line_each(tmp_path, caplog):
    """Found, vetted, available, refused and retired: one line each with model, version and digest."""
    caplog.set_level("INFO", logger="inference_server")
    put(tmp_path / "momentum.onnx", score_model(bias=1))

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.settled()
            digest = parts.model().versions[0].digest[:12]
            lines = [record.getMessage() for record in caplog.records]
            for event in ("found", "vetted", "available"):
                assert any(
                    line.startswith(f"{event} model=momentum version=1 digest={digest}") for line in lines
                )
            put(tmp_path / "momentum.onnx", score_model("breakout"))
            await parts.eventually_problem("breakout")

    run(scenario)
    lines = [record.getMessage() for record in caplog.records]
    assert (
        sum(line.startswith("refused model=momentum version=1") and "breakout" in line for line in lines) == 1
    )
    assert sum(line.startswith("retired model=momentum version=1") for line in lines) == 1


def test_a_file_that_hangs_its_judge_costs_the_model_nothing(tmp_path):
    """C9: with the real vetting process, a file whose run never ends is refused while the old one answers."""
    file = tmp_path / "momentum.onnx"
    put(file, score_model(bias=1))
    vetting = VettingProcess(VettingProcessOptions(cpu_s=0.5))

    async def scenario():
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(vetting.close)
            parts = await stack.enter_async_context(inside(tmp_path, vetting=vetting))
            await parts.settled()
            put(file, endless_model())
            settling = asyncio.create_task(parts.settled())
            while not settling.done():
                assert await parts.ask() == (1, 1.0)
                await asyncio.wait([settling], timeout=0.01)
            assert "vetting took more than 0.5 s of processor time" in parts.model().problem
            put(file, score_model(bias=2))
            await parts.settled()
            assert await parts.ask() == (1, 2.0)

    run(scenario)


def test_a_verdict_on_other_bytes_lets_nothing_in(tmp_path):
    """C9: a judge that answers for another file than the one it was given is not believed."""
    put(tmp_path / "momentum.onnx", score_model(bias=1))
    other = score_model(bias=2)

    class Mixing(VettingInThread):
        async def vet(self, model, expected_name):
            return await super().vet(other, expected_name)

    async def scenario():
        async with inside(tmp_path, vetting=Mixing()) as parts:
            await parts.settled()
            assert "vetting judged other bytes" in parts.model().problem
            assert not parts.registry.ready()

    run(scenario)


def test_stop_in_the_middle_of_a_load_leaves_nothing_open(tmp_path):
    """F3: stopped while a thread loads, the servable is closed as soon as the load ends."""
    put(tmp_path / "momentum.onnx", score_model())
    reached, go_on = threading.Event(), threading.Event()

    async def scenario():
        async with inside(tmp_path) as parts:
            load = parts.loader.load

            def slow_load(*arguments):
                reached.set()
                assert go_on.wait(BOUND_S)
                return load(*arguments)

            parts.loader.load = slow_load
            await asyncio.to_thread(reached.wait, BOUND_S)
            stopping = asyncio.create_task(parts.reconciler.stop())
            assert not (await asyncio.wait([stopping], timeout=0.05))[0]
            go_on.set()
            await stopping
            assert parts.loader.sessions == 0

    run(scenario)


def test_stop_retires_everything_and_closes_it(tmp_path):
    """F3: after stop nothing answers, every session is closed, and nothing is left to wait for."""
    for name in ("a", "b"):
        put(tmp_path / f"{name}.onnx", score_model(name))

    async def scenario():
        async with inside(tmp_path) as parts:
            await parts.settled()
            await parts.reconciler.stop()
            assert parts.loader.sessions == 0
            with pytest.raises(UnavailableError):
                parts.registry.resolve("a", 0)

    run(scenario)
