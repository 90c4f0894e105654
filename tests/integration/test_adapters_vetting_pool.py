"""Vetting by several processes: a hanging file keeps one busy, and costs the others nothing."""

import asyncio
import os
import signal
import subprocess
import sys

import psutil
from eventually import eventually, until
from onnx_files import endless_model, score_model

from inference_server.adapters.vetting_pool import VettingPool, VettingPoolOptions
from inference_server.adapters.vetting_start import CHILD, VettingProcessOptions, end_child, start_child


def in_pool(scenario, options=None, **child):
    """Run a scenario with a pool, and close it: no child may be left."""

    async def whole():
        before = set(psutil.Process().children())
        pool = VettingPool(options, **child)
        try:
            await asyncio.wait_for(scenario(pool), 250)
        finally:
            await pool.close()
        assert pool.pids == ()
        assert set(psutil.Process().children()) <= before

    asyncio.run(whole())


async def spinning(pid):
    """Return once the child has used processor time since now."""
    used_s = psutil.Process(pid).cpu_times().user
    await eventually(lambda: psutil.Process(pid).cpu_times().user > used_s + 0.1)


def test_a_file_that_hangs_its_judge_delays_no_other():
    """C9: while one file spins, file after file of other models is judged by the other child."""

    async def scenario(pool):
        await pool.start()
        (first,) = pool.pids[:1]
        hanging = asyncio.create_task(pool.vet(endless_model(), "m"))
        await spinning(first)
        for bias in range(10):
            assert (await pool.vet(score_model(bias=bias), "momentum")).refusal == ""
            assert not hanging.done()
        assert repr(pool) == "<VettingPool 1 of 2 busy>"
        hanging.cancel()
        await asyncio.wait([hanging])
        assert repr(pool) == "<VettingPool 0 of 2 busy>"

    in_pool(scenario, VettingPoolOptions(process=VettingProcessOptions(cpu_s=1000, wall_s=1000)))


def test_as_many_hanging_files_as_judges_delay_the_next_by_their_bound_only():
    """C9: with every child busy the next file waits its turn, which the bound on processor time gives it."""

    async def scenario(pool):
        hanging = [asyncio.create_task(pool.vet(endless_model(), "m")) for _ in range(2)]
        await eventually(lambda: len(pool.pids) == 2)
        assert (await pool.vet(score_model(), "momentum")).refusal == ""
        assert any(task.done() for task in hanging)
        for task in hanging:
            assert "of processor time" in (await task).refusal

    in_pool(scenario, VettingPoolOptions(process=VettingProcessOptions(cpu_s=1.0)))


def test_files_beyond_the_number_of_judges_wait_and_all_get_their_own_verdict():
    """C9: twenty files at once, good and bad, by two children: each gets what is said of it."""

    async def scenario(pool):
        models = [(score_model(f"m{number}"), f"m{number}") for number in range(10)]
        models += [(b"no model", "m")] * 10
        verdicts = await asyncio.gather(*(pool.vet(*model) for model in models))
        assert [verdict.contract.model for verdict in verdicts[:10]] == [name for _, name in models[:10]]
        assert all("cannot be read as ONNX" in verdict.refusal for verdict in verdicts[10:])
        await eventually(lambda: len(pool.pids) == 2)

    in_pool(scenario, VettingPoolOptions(others_after_s=0))


def test_no_file_waits_for_a_child_that_is_not_warm(tmp_path):
    """Files that come at once are all judged by the first child while the second does not get warm."""

    async def scenario(pool):
        await pool.start()
        verdicts = [pool.vet(score_model(f"m{number}"), f"m{number}") for number in range(4)]
        assert [verdict.refusal for verdict in await asyncio.gather(*verdicts)] == [""] * 4
        assert repr(pool) == "<VettingPool 0 of 2 busy>"

    child = (sys.executable, "-c", FIRST_ONLY, str(tmp_path / "first"))
    options = VettingPoolOptions(others_after_s=0, process=VettingProcessOptions(start_s=1000))
    in_pool(scenario, options, child=child)


def test_a_child_that_was_started_already_is_the_first():
    """The pool takes over a process that its caller started, and ends it as any other."""

    async def whole():
        child = start_child()
        pool = VettingPool(VettingPoolOptions(others_after_s=1000), started=child)
        assert (await pool.vet(score_model(), "momentum")).refusal == ""
        assert pool.pids == (child.pid,)
        await pool.close()
        assert child.returncode == -signal.SIGKILL

    asyncio.run(whole())


def test_a_child_that_was_started_and_died_is_replaced():
    """C9: one that ended before the pool read from it costs no file its verdict."""

    async def whole():
        child = start_child()
        child.kill()
        child.wait()
        pool = VettingPool(VettingPoolOptions(others_after_s=1000), started=child)
        assert (await pool.vet(score_model(), "momentum")).refusal == ""
        assert pool.pids != (child.pid,)
        await pool.close()

    asyncio.run(whole())


def test_no_signal_to_the_servers_group_reaches_a_child():
    """C9: Ctrl-C in a terminal, or a kill of the whole group, is the server's, also while a child starts."""
    child = start_child()
    try:
        assert os.getpgid(child.pid) == child.pid != os.getpgid(0)
    finally:
        end_child(child)


def test_a_childs_linear_algebra_has_no_threads_of_its_own(monkeypatch):
    """They would spin while it starts, where the server imports; who sets their number is followed."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    for said in ("1", "2"):
        child = start_child()
        try:
            until(
                psutil.Process(child.pid).environ
            )  # for a moment after its start the system has none to show
            assert psutil.Process(child.pid).environ()["OPENBLAS_NUM_THREADS"] == said
        finally:
            end_child(child)
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")


def test_a_child_whose_server_is_gone_says_nothing_and_ends():
    """C9: a server that ended while its child was starting leaves no child and no traceback in the log."""
    told = subprocess.Popen(
        [*CHILD, "30", str(2**32)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    told.stdout.close()
    told.stdin.close()
    assert told.stderr.read() == b""
    told.stderr.close()
    assert told.wait() == 1


def test_a_start_warms_one_child_and_the_others_follow():
    """Started, the pool has one child for the first file at once, and the rest soon after."""

    async def scenario(pool):
        await pool.start()
        assert 1 <= len(pool.pids) <= 2, "the second may just be starting"
        await eventually(lambda: len(pool.pids) == 3)

    in_pool(scenario, VettingPoolOptions(processes=3))


def test_one_file_after_another_goes_to_a_child_that_is_warm():
    """A file does not wait for a child's start while another is warm and free."""

    async def scenario(pool):
        for _ in range(5):
            assert (await pool.vet(score_model(), "momentum")).refusal == ""
            assert len(pool.pids) == 1

    in_pool(scenario, VettingPoolOptions(others_after_s=1000))


def test_a_pool_without_a_start_and_one_whose_child_was_killed_go_on():
    """C9: children are started when they are needed, whatever became of those before."""

    async def scenario(pool):
        assert (await pool.vet(score_model(), "momentum")).refusal == ""
        os.kill(pool.pids[0], signal.SIGKILL)
        assert (await pool.vet(score_model(), "momentum")).refusal == ""

    in_pool(scenario)


def test_a_file_goes_past_a_child_that_died_idle():
    """C9: a child that was killed between two files keeps none waiting while another is warm."""

    async def scenario(pool):
        await pool.start()
        await eventually(lambda: len(pool._free) == 2)
        dead, warm = pool.pids
        os.kill(dead, signal.SIGKILL)
        await eventually(lambda: pool.pids == (warm,))
        assert (await pool.vet(score_model(), "momentum")).refusal == ""
        assert pool.pids == (warm,)

    in_pool(scenario)


def test_closing_a_pool_waits_for_no_hanging_file():
    """F3: closed while every child spins, the pool ends them all and whoever waits is told."""

    async def scenario(pool):
        await pool.start()
        await eventually(lambda: len(pool.pids) == 2)
        pids = pool.pids
        tasks = [asyncio.create_task(pool.vet(endless_model(), "m")) for _ in range(3)]
        for pid in pids:
            await spinning(pid)
        await pool.close()
        assert not any(psutil.pid_exists(pid) for pid in pids)
        for task in tasks:
            assert (await task).refusal == "vetting was ended before it had judged this file"

    in_pool(scenario, VettingPoolOptions(process=VettingProcessOptions(cpu_s=1000, wall_s=1000)))


FIRST_ONLY = """
import os, signal, sys
from inference_server.adapters import vetting_child
try:
    os.close(os.open(sys.argv.pop(1), os.O_CREAT | os.O_EXCL))
except FileExistsError:
    signal.pause()
vetting_child.main()
"""


def test_closing_a_pool_in_the_middle_of_its_start_leaves_nothing(tmp_path):
    """F3: closed while the second child has not said a word yet, the pool ends it without waiting for one."""

    async def scenario(pool):
        await pool.start()
        await eventually(lambda: len(pool.pids) == 2)

    child = (sys.executable, "-c", FIRST_ONLY, str(tmp_path / "first"))
    in_pool(scenario, VettingPoolOptions(process=VettingProcessOptions(start_s=1000)), child=child)


def test_children_that_cannot_be_started_are_verdicts():
    """C9: without vetting processes no file is let through, and the pool goes on."""

    async def scenario(pool):
        for _ in range(3):
            assert "could not be started" in (await pool.vet(score_model(), "momentum")).refusal

    in_pool(scenario, child=("/nonexistent/python",))
