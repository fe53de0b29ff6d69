"""A process that hangs ends, and sooner when it is told to end."""

import re
import signal
import subprocess
import sys
import time

import pytest

from videomae.run import watchdog
from videomae.run.watchdog import Watchdog

HANGING = """
import ctypes, signal
from videomae.run import watchdog
from videomae.run.signals import at_once, stop_signals

watchdog.LEAST_S = 1
dog = watchdog.Watchdog(1000)
with stop_signals(), at_once(lambda _: dog.hurry()), dog:
    dog.alive()
    # As in a collective, nothing of Python runs any more: the lock is never given.
    lock = ctypes.CDLL(None).pthread_mutex_lock
    mutex = ctypes.create_string_buffer(64)
    lock(mutex)
    print("waiting", flush=True)
    lock(mutex)
"""


@pytest.mark.long
def test_one_that_waits_for_another_ends_soon_after_it_was_told_to() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HANGING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.terminate()
        _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"no step for [1-3] s, 1 s at most", said)
    assert "in <module>" in said


STOPPED = """
import time
from videomae.run.watchdog import Watchdog
from videomae.run import worker_pool as programs

programs.SLOW_S = 0.5
with Watchdog(4) as dog:
    print("waiting", flush=True)
    time.sleep(2)  # of which most is left when it goes on
    print("went on", flush=True)
    time.sleep(60)
"""


@pytest.mark.long
def test_time_in_which_it_was_stopped_does_not_count() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STOPPED],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waiting\n"
        process.send_signal(signal.SIGSTOP)
        time.sleep(6)
        process.send_signal(signal.SIGCONT)
        went_on, said = process.communicate(timeout=60)
    assert went_on == "went on\n"
    assert process.returncode == 1  # in the end it hangs
    assert "4 s at most" in said


def test_it_has_a_few_of_its_longest_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(watchdog.time, "monotonic", lambda: now)
    with Watchdog(1000) as dog:
        dog.hurry()
        assert dog.timeout_s == 1000  # the first step may compile for minutes
        now += 20
        dog.alive()
        now += 300
        dog.rest()  # what takes so long is no step
        dog.alive()
        dog.hurry()
        assert dog.timeout_s == 100
        dog.hurry()
        assert dog.timeout_s == 100
    with Watchdog(1000) as dog:
        dog.alive()
        dog.hurry()
        assert dog.timeout_s == watchdog.LEAST_S
    with Watchdog(5) as dog:
        dog.alive()
        dog.hurry()
        assert dog.timeout_s == 5
