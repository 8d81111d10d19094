"""Only the process that reads a file can be lost to it; and none is left behind, whoever dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from vm.errors import DecoderCrashed, DecodeTimeout
from vm.video import Cage, IsolatedReader, MediaLimits, open_isolated, open_video
from vm.video.channel import Channel
from vm.video.decoders import Decoders

PARITY = Path(__file__).parents[2] / "parity" / "videos"
SIZE = (56, 84)
LINUX = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")


@pytest.fixture
def video(footage) -> Iterator[IsolatedReader]:
    with open_isolated(footage.write("clip.mp4"), cage=Cage(grace_seconds=0.1)) as opened:
        yield opened


def soon(action: Callable[[], None]) -> None:
    threading.Timer(0.1, action).start()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_crash_while_reading_costs_the_reader_and_nothing_else(footage, video, number):
    pid = video.pid
    os.kill(pid, signal.SIGSTOP)
    soon(lambda: [os.kill(pid, each) for each in (number, signal.SIGCONT)])
    with pytest.raises(DecoderCrashed, match=f"clip.mp4: .*{number.name}"):
        video.read([50], SIZE)
    assert not psutil.pid_exists(pid)
    assert footage.numbers_in(video, [50]) == [50]
    with open_isolated(footage.folder / "clip.mp4") as other:
        assert footage.numbers_in(other, [50]) == [50]


def test_a_crash_between_two_calls_is_told_by_the_next(footage, video):
    os.kill(video.pid, signal.SIGKILL)
    with pytest.raises(DecoderCrashed, match="SIGKILL"):
        video.read([50], SIZE)


def test_a_process_that_does_not_answer_is_ended(video):
    pid = video.pid
    os.kill(pid, signal.SIGSTOP)
    video._limits = MediaLimits(timeout=0.2)
    started = time.monotonic()
    with pytest.raises(DecodeTimeout, match=r"longer than 0\.2 s"):
        video.read([50], SIZE)
    assert time.monotonic() - started < 5
    assert not psutil.pid_exists(pid)


def test_ctrl_c_while_reading_leaves_no_process_and_no_stale_answer(footage):
    with open_isolated(footage.write("clip.mp4")) as video:
        pid = video.pid
        os.kill(pid, signal.SIGSTOP)
        soon(lambda: signal.pthread_kill(threading.main_thread().ident, signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            video.read([50], SIZE)
        assert not psutil.pid_exists(pid)
        assert footage.numbers_in(video, [7]) == [7]


@LINUX
def test_computing_time_is_limited():
    with (
        open_isolated(PARITY / "long150s.mp4", cage=Cage(cpu_seconds=1)) as video,
        pytest.raises(DecodeTimeout, match="more than 1 s of computing time"),
    ):
        video.read(range(video.info.frame_count), SIZE)


@LINUX
def test_memory_is_limited_and_its_lack_is_not_taken_for_damage(footage):
    path = footage.write("large.mp4", size=(2560, 1440), times=range(4), options={"preset": "ultrafast"})
    for megabytes in (30, 60):
        with (
            pytest.raises(DecoderCrashed, match=f"more memory than the {megabytes} MB"),
            open_isolated(path, cage=Cage(memory_bytes=megabytes << 20)) as video,
        ):
            video.read(range(4), SIZE)
    with open_isolated(path) as isolated, open_video(path) as own:
        assert torch.equal(isolated.read(range(4), SIZE).pixels, own.read(range(4), SIZE).pixels)


@LINUX
def test_what_a_decoder_has_given_up(video, monkeypatch):
    decoder = psutil.Process(video.pid)
    status = Path(f"/proc/{video.pid}/status").read_text()
    table = Path(f"/proc/{video.pid}/limits").read_text().splitlines()
    limits = {line[:25].strip(): line[25:].split()[0] for line in table}
    assert "NoNewPrivs:\t1" in status
    assert (limits["Max core file size"], limits["Max file size"]) == ("0", "0")
    assert (limits["Max open files"], limits["Max cpu time"]) == ("64", "3600")
    assert int(limits["Max data size"]) < (4 << 30) + (1 << 30)
    assert decoder.nice() == min(19, psutil.Process().nice() + 5)
    assert set(decoder.environ()) <= {
        *("LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PYTHONHOME"),
        *("PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
    }
    opened = {os.readlink(link) for link in Path(f"/proc/{video.pid}/fd").iterdir()}
    assert {name.split(":")[0] for name in opened} <= {"socket", "/dev/null", video.info.path}


def test_nothing_is_left_after_close_however_often(footage, video):
    pid = video.pid
    video.close()
    video.close()
    assert video.pid is None
    assert not psutil.pid_exists(pid)
    assert footage.numbers_in(video, [9]) == [9]


def test_a_reader_that_is_forgotten_ends_too(footage):
    path = footage.write("clip.mp4")
    pid = open_isolated(path).pid
    open_isolated(path).close()
    assert not psutil.pid_exists(pid)


def test_a_crash_while_prefetching_is_told_by_the_read(video):
    os.kill(video.pid, signal.SIGSTOP)
    video.prefetch(range(100), SIZE)
    os.kill(video.pid, signal.SIGKILL)
    with pytest.raises(DecoderCrashed, match="SIGKILL"):
        video.read([1], SIZE)


def test_a_failure_nobody_foresaw_is_told_and_reading_goes_on(footage, video):
    with pytest.raises(DecoderCrashed, match=r"clip.mp4: reading it failed .*RuntimeError"):
        video.read([50], (0, 0))
    video.prefetch([50], (0, 0))
    assert footage.numbers_in(video, [50]) == [50]


def test_an_answer_that_makes_no_sense_ends_the_process(footage, video):
    """Someone else answers, as a decoder would that a file has taken over."""
    pid = video.pid
    ours, theirs = socket.socketpair()
    video._decoder.channel.close()
    video._decoder.channel = Channel(ours)
    Channel(theirs).send({"times": [float("nan")], "warnings": []})
    with pytest.raises(DecoderCrashed, match="no longer talks sense"):
        video.read([1], SIZE)
    assert not psutil.pid_exists(pid)
    theirs.close()


def opened_by_a_thread_that_ends(path: Path, decoders: Decoders) -> IsolatedReader:
    opened = []
    thread = threading.Thread(target=lambda: opened.append(IsolatedReader(path, decoders=decoders)))
    thread.start()
    thread.join()
    return opened[0]


def test_a_template_outlives_the_thread_that_started_it_and_is_replaced_when_it_dies(footage):
    path, decoders = footage.write("clip.mp4"), Decoders()
    with opened_by_a_thread_that_ends(path, decoders) as video:
        assert footage.numbers_in(video, [2]) == [2]
        template = psutil.Process(video.pid).parent()
        template.kill()
        gone(template.pid, video.pid)
        with pytest.raises(DecoderCrashed, match="unknown"):
            video.read([1], SIZE)
        assert footage.numbers_in(video, [2]) == [2]
        pid = video.pid
        decoders.close()
        gone(pid, template.pid)


def gone(*pids: int) -> None:
    until = time.monotonic() + 5
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        assert time.monotonic() < until, "a process was left behind"
        time.sleep(0.01)


def read_for_ever(path: Path, told: Any) -> None:
    with open_isolated(path) as video:
        told.put((video.pid, psutil.Process(video.pid).ppid()))
        while True:
            video.read(video.sample(None, 2.0, 100), SIZE)


@LINUX
def test_no_process_outlives_a_parent_that_is_killed_and_that_was_a_daemon_and_forked():
    fork = multiprocessing.get_context("fork")
    told = fork.SimpleQueue()
    parent = fork.Process(target=read_for_ever, args=(PARITY / "long150s.mp4", told), daemon=True)
    parent.start()
    pids = told.get()
    os.kill(pids[0], signal.SIGSTOP)  # so that it cannot notice by itself
    parent.kill()
    parent.join()
    gone(*pids)
