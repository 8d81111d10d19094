import threading
import time
from multiprocessing import get_context

import pytest

from worker.errors import LeaseLost
from worker.heartbeat import Heartbeat, Pace

SOON = 5.0  # seconds in which what is to happen must have happened


class Lease:
    """Counts how often it is renewed; `held` says whether it still is ours."""

    def __init__(self) -> None:
        self.renewed, self.held, self.seen = 0, True, threading.Event()

    def renew(self) -> bool:
        self.renewed += 1
        self.seen.set()
        return self.held

    def next(self) -> bool:
        self.seen.clear()
        return self.seen.wait(SOON)


def test_a_lease_is_renewed_while_there_is_progress():
    lease = Lease()
    with Heartbeat(lease.renew, lease=0.04, patience=60) as heartbeat:
        for _ in range(3):
            heartbeat.moved()
            assert lease.next()
    count = lease.renewed
    time.sleep(0.05)
    assert lease.renewed == count


def test_without_progress_the_lease_is_let_go():
    lease = Lease()
    with Heartbeat(lease.renew, lease=0.04, patience=0.1):
        assert lease.next()
        time.sleep(0.2)
        count = lease.renewed
        time.sleep(0.1)
        assert lease.renewed == count


def test_who_has_lost_its_lease_is_told_at_its_next_step():
    lease = Lease()
    lease.held = False
    with Heartbeat(lease.renew, lease=0.04, patience=60) as heartbeat:
        assert lease.next()
        time.sleep(0.1)
        assert lease.renewed == 1
        with pytest.raises(LeaseLost, match="taken this over"):
            heartbeat.moved()


def test_a_database_that_is_gone_for_a_moment_does_not_end_the_renewing():
    lease, failed = Lease(), threading.Event()

    def renew() -> bool:
        if not failed.is_set():
            failed.set()
            raise OSError("gone")
        return lease.renew()

    with Heartbeat(renew, lease=0.04, patience=60):
        assert lease.next()


def test_each_of_several_is_renewed_at_its_own_pace():
    slow, fast = Lease(), Lease()
    with Heartbeat(slow.renew, lease=60, patience=60), Heartbeat(fast.renew, lease=0.04, patience=60):
        assert fast.next()
        assert fast.next()
    assert slow.renewed == 0


def test_a_process_that_was_forked_renews_as_well():
    with Heartbeat(lambda: True, lease=0.04, patience=60):
        child = get_context("fork").Process(target=_renew_once)
        child.start()
        child.join(SOON)
    assert child.exitcode == 0


def _renew_once() -> None:
    lease = Lease()
    with Heartbeat(lease.renew, lease=0.04, patience=60):
        assert lease.next()


def test_it_is_looked_once_in_a_while_however_often_there_is_progress(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("worker.heartbeat.LOOK_SECONDS", 0.1)
    pace = Pace()
    assert not pace.is_due()
    time.sleep(0.11)
    assert [pace.is_due(), pace.is_due()] == [True, False]
    time.sleep(0.11)
    assert pace.is_due()
