import threading
import time

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
    with Heartbeat(lease.renew, lease=0.04, patience=0.1) as heartbeat:
        heartbeat._thread.join(SOON)
        assert not heartbeat._thread.is_alive()


def test_who_has_lost_its_lease_is_told_at_its_next_step():
    lease = Lease()
    lease.held = False
    with Heartbeat(lease.renew, lease=0.04, patience=60) as heartbeat:
        assert lease.next()
        heartbeat._thread.join(SOON)
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


def test_it_is_looked_once_in_a_while_however_often_there_is_progress(monkeypatch: pytest.MonkeyPatch):
    clock = iter((100.0, 100.4, 101.1, 101.9, 102.2))
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    pace = Pace()
    assert [pace.is_due() for _ in range(4)] == [False, True, False, True]
