import os
import subprocess
import sys

from worker import holder


def test_a_process_has_one_name_and_every_process_its_own():
    assert holder.name() == holder.name()
    assert holder.name().startswith(holder.prefix(os.getpid()))
    assert len(holder.name()) <= 200


def test_a_living_process_is_not_dead_and_one_that_is_gone_is():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert holder.is_dead(holder.prefix(gone.pid) + "x")
    assert not holder.is_dead(holder.name())


def test_of_other_hosts_nothing_is_known():
    assert not holder.is_dead("elsewhere:4026531836:1:abc")
    assert not holder.is_dead("")
