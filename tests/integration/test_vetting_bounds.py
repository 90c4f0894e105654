"""Bounds on a file's vetting: processor time, waiting, room, stack; on real files and real processes."""

import asyncio
import hashlib
import os
import resource
import signal
import sys
import threading
import tracemalloc
import types
from pathlib import Path

import psutil
import pytest
from eventually import eventually
from onnx_files import endless_model, score_model
from vetting_files import deep_tree_model, greedy_model, swelling_model

from inference_server.adapters import vetting_process
from inference_server.adapters.onnx_session import OnnxSession
from inference_server.adapters.vetting import vet
from inference_server.adapters.vetting_process import VettingProcess
from inference_server.adapters.vetting_start import VettingProcessOptions, start_child

MIB = 2**20


def in_process(scenario, options=None, **child):
    """Run a scenario with a vetting process, and end it."""

    async def whole():
        vetting = VettingProcess(options, **child)
        try:
            await asyncio.wait_for(scenario(vetting), 250)
        finally:
            await vetting.close()

    asyncio.run(whole())


def gone(pid):
    """Tell whether no such process is left, not even to be waited for."""
    return not psutil.pid_exists(pid)


def test_a_stopped_judge_that_goes_on_gives_its_verdict():
    """C9: stopped for longer than a file's processor time, a child judges the file all the same."""

    async def scenario(vetting):
        await vetting.start()
        pid = vetting.pid
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        judging = asyncio.create_task(vetting.vet(score_model(), "momentum"))
        done, _ = await asyncio.wait([judging], timeout=1.5)
        assert not done
        os.kill(pid, signal.SIGCONT)
        assert (await judging).refusal == ""
        assert vetting.pid == pid

    in_process(scenario, VettingProcessOptions(cpu_s=1.0))


def test_a_judge_that_stays_stopped_costs_a_good_file_only_time():
    """C9: a child that gives no answer in the time to wait is ended, and a fresh one judges the file."""

    async def scenario(vetting):
        await vetting.start()
        pid = vetting.pid
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: psutil.Process(pid).status() == psutil.STATUS_STOPPED)
        assert (await vetting.vet(score_model(), "momentum")).refusal == ""
        assert vetting.pid != pid
        assert gone(pid)

    in_process(scenario, VettingProcessOptions(wall_s=12.0))


def readiness_to_go(pid):
    """Return how much rather than others the system ends this process: 1000 is first of all."""
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


def test_where_memory_runs_out_it_is_the_judge_that_goes():
    """C9: the system is told to end the vetting process before any other, whatever the bounds allow it."""

    async def scenario(vetting):
        await vetting.start()
        assert readiness_to_go(vetting.pid) == 1000

    in_process(scenario)


def test_handing_a_file_over_makes_no_copy_of_it():
    """C9: what the pipe does not take yet is not copied aside, which would hold up all calls."""

    async def scenario(vetting):
        await vetting.start()
        model = b"x" * (64 * MIB)
        tracemalloc.start()
        assert "cannot be read as ONNX" in (await vetting.vet(model, "momentum")).refusal
        assert tracemalloc.get_traced_memory()[1] < 16 * MIB

    try:
        in_process(scenario)
    finally:
        tracemalloc.stop()


def test_a_failed_files_digest_is_reckoned_off_the_event_loop(monkeypatch):
    """C9: a big file that needs no judge, or kills it, costs the calls beside it no hash of all its bytes."""
    threads = []

    def recorded(content):
        threads.append(threading.current_thread())
        return hashlib.sha256(content)

    monkeypatch.setattr(vetting_process, "hashlib", types.SimpleNamespace(sha256=recorded))

    async def scenario(vetting):
        verdict = await vetting.vet(bytes(MIB), "m")
        assert verdict.digest == hashlib.sha256(bytes(MIB)).hexdigest()

    in_process(scenario, VettingProcessOptions(memory_bytes=MIB))
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


STOPPING = """
import os, signal
from inference_server.adapters import vetting_child
judge = vetting_child.vet
def stop(model, name, memory_bytes=None):
    if name == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
        signal.pause()
    return judge(model, name, memory_bytes)
vetting_child.vet = stop
vetting_child.main()
"""


def test_a_file_that_makes_every_judge_wait_is_refused_after_the_last_attempt():
    """C9: no processor time is used up and no verdict comes: refused, and the reason names both bounds."""

    async def scenario(vetting):
        verdict = await vetting.vet(score_model("stop"), "stop")
        assert verdict.refusal == "vetting gave no verdict in 2 attempts, the last of 0.3 s"
        assert vetting.pid is None

    in_process(scenario, VettingProcessOptions(wall_s=0.3), child=(sys.executable, "-c", STOPPING))


def test_a_file_that_spins_is_not_tried_again():
    """C9: what uses up its processor time once would do so again: one child is spent on it, not two."""

    async def scenario(vetting):
        started = []

        def counted(*arguments):
            started.append(arguments)
            return start_child(*arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vetting_process, "start_child", counted)
            verdict = await vetting.vet(endless_model(), "m")
        assert verdict.refusal == "vetting took more than 1 s of processor time and was ended"
        assert len(started) == 1

    in_process(scenario, VettingProcessOptions(cpu_s=1.0))


def test_processor_time_is_counted_for_each_file_anew():
    """C9: a child that has used more than one file's processor time in all judges the next one."""

    async def scenario(vetting):
        await vetting.start()
        pid = vetting.pid
        slow = endless_model(turns=50_000)
        while sum(psutil.Process(pid).cpu_times()[:2]) < 3.5:
            assert (await vetting.vet(slow, "m")).refusal == ""
            if sys.platform == "linux":
                soft, hard = psutil.Process(pid).rlimit(resource.RLIMIT_CPU)
                assert soft == hard, "between two files nothing is counted"
        assert vetting.pid == pid

    in_process(scenario, VettingProcessOptions(cpu_s=2.0))


@pytest.mark.parametrize(
    ("model", "bound_bytes"),
    [
        pytest.param(lambda: greedy_model(1024 * MIB), 256 * MIB, id="running"),
        pytest.param(lambda: score_model(padding=64 * MIB), 160 * MIB, id="loading"),
        pytest.param(lambda: score_model(padding=64 * MIB), 32 * MIB, id="asking"),
    ],
)
def test_a_file_that_wants_too_much_memory_is_refused_and_the_bound_named(model, bound_bytes):
    """C9: wherever it bloats its judge, it is refused in words that name the bound; the judge lives on."""

    async def scenario(vetting):
        await vetting.start()
        pid = vetting.pid
        verdict = await vetting.vet(model(), "momentum")
        assert verdict.refusal == f"it needs more than the {bound_bytes / MIB:.1f} MiB that vetting may take"
        assert (await vetting.vet(score_model(), "momentum")).refusal == ""
        assert vetting.pid == pid

    in_process(scenario, VettingProcessOptions(memory_bytes=bound_bytes))


def test_a_file_that_swells_in_the_parser_costs_nothing_but_itself():
    """C9: with no room for the parsed form, which kills the parser, it is refused; the next is vetted."""

    async def scenario(vetting):
        assert (await vetting.vet(swelling_model(4 * MIB), "momentum")).refusal
        assert (await vetting.vet(score_model(), "momentum")).refusal == ""

    in_process(scenario, VettingProcessOptions(memory_bytes=24 * MIB))


def test_room_is_counted_over_what_a_warm_judge_has():
    """C9: a bound below the size of the warm child itself leaves room for a file that fits it."""

    async def scenario(vetting):
        assert (await vetting.vet(score_model(padding=4 * MIB), "momentum")).refusal == ""
        assert psutil.Process(vetting.pid).memory_info().vms > 100 * MIB

    in_process(scenario, VettingProcessOptions(memory_bytes=100 * MIB))


def test_a_real_file_that_crashes_its_loader_is_a_verdict():
    """C9: a tree as deep as 20,000 splits overflows the stack in ONNX Runtime; the next file is vetted."""

    async def scenario(vetting):
        verdict = await vetting.vet(deep_tree_model(20_000), "m")
        assert verdict.refusal == "the vetting process was killed by SIGSEGV while it judged this file"
        assert verdict.memory_bytes == 0
        assert (await vetting.vet(score_model(), "momentum")).refusal == ""

    in_process(scenario)


def test_a_file_that_only_the_servers_stack_would_bear_is_refused():
    """C9: the judge has less stack than the server's threads: what passes it does not crash the server."""

    async def scenario(vetting):
        assert (await vetting.vet(deep_tree_model(800), "m")).refusal == ""
        assert "SIGSEGV" in (await vetting.vet(deep_tree_model(2_000), "m")).refusal

    assert OnnxSession(deep_tree_model(2_000)).inputs
    in_process(scenario)


def test_judges_stand_back_behind_the_server():
    """C9: a child runs at a lower priority, so that ticks get the processor first."""

    async def scenario(vetting):
        await vetting.start()
        assert psutil.Process(vetting.pid).nice() == min(19, psutil.Process().nice() + 10)

    in_process(scenario)


def test_close_ends_a_busy_judge_at_once():
    """F3: closed while a file spins, vetting ends its child, tells the caller, and starts none again."""

    async def scenario(vetting):
        await vetting.start()
        pid = vetting.pid
        judging = asyncio.create_task(vetting.vet(endless_model(), "m"))
        used_s = psutil.Process(pid).cpu_times().user
        await eventually(lambda: psutil.Process(pid).cpu_times().user > used_s + 0.1)
        waiting = asyncio.create_task(vetting.vet(score_model(), "momentum"))
        await vetting.close()
        assert gone(pid)
        for task in (judging, waiting):
            assert (await task).refusal == "vetting was ended before it had judged this file"
        assert (await vetting.vet(score_model(), "momentum")).refusal
        assert vetting.pid is None

    in_process(scenario, VettingProcessOptions(cpu_s=1000, wall_s=1000))


def test_close_in_the_middle_of_a_start_leaves_no_child():
    """F3: closed while its child is just being started, vetting leaves no process behind."""

    async def scenario(vetting):
        before = set(psutil.Process().children())
        starting = asyncio.create_task(vetting.vet(score_model(), "momentum"))
        await asyncio.sleep(0)
        await vetting.close()
        assert "was ended before" in (await starting).refusal
        assert set(psutil.Process().children()) <= before

    in_process(scenario)


def test_a_start_that_was_cancelled_leaves_no_half_warm_judge():
    """E4: after a cancelled start the next file is judged by a child whose first word has been heard."""

    async def scenario(vetting):
        starting = asyncio.create_task(vetting.start())
        await eventually(lambda: vetting.pid is not None)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert (await vetting.vet(score_model(), "momentum")).refusal == ""

    in_process(scenario)


def test_a_verdict_without_a_bound_still_names_the_want_of_memory():
    """C9: judged where no bound was set, a file that asks for more than there is gets a plain reason."""
    assert vet(greedy_model(2**60), "m").refusal == "it needs more memory than there is"
