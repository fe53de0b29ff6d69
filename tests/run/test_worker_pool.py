"""The pool of programs: when another process takes a program's place, and what becomes of its
requests."""

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.curate.footage import panned, render
from videomae.config import UserError
from videomae.run import worker_pool
from videomae.run.worker_pool import run_all
from videomae.video.inspecting import Job, inspect_all
from videomae.video.inspection import inspect_video

PROGRAM = """
import os
from dataclasses import dataclass
from videomae.run.worker_pool import end_if_spent, serve

@dataclass
class Answer:
    process: int
    number: int

def answer(number, hungry, most):
    if hungry:
        end_if_spent()
    return Answer(os.getpid(), number)

serve(answer)
"""
INSPECTION = """
from videomae.config import UserError
from videomae.run import worker_pool
from videomae.video import inspection

worker_pool.OWN_BYTES = 0
kept = []

def answer(*request):
    found = inspection.inspect(*request)
    for size in (1000000, 100000):  # the heap grows to the limit
        try:
            while len(kept) < 1000:
                kept.append(bytearray(size))
        except MemoryError:
            continue
    return found

worker_pool.serve(answer)
"""


def answers(requests: list[tuple[int, bool]], workers: int = 1) -> list[tuple[int, int]]:
    """Process and number of each answer, in their order."""
    command = (sys.executable, "-c", PROGRAM)
    given = ((number, [number, hungry, 10**9]) for number, hungry in requests)
    found = []
    for key, answer in run_all(command, given, workers, 60):
        assert isinstance(answer, dict), answer
        assert answer["number"] == key
        found.append((answer["process"], key))
    return found


def test_a_program_is_replaced_after_so_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "MOST_REQUESTS", 3)
    found = answers([(number, False) for number in range(5)])
    assert [number for _, number in found] == [0, 1, 2, 3, 4]
    assert list(Counter(process for process, _ in found).values()) == [3, 2]


def test_several_programs_answer_each_request_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_pool, "MOST_REQUESTS", 3)
    found = answers([(number, False) for number in range(6)], workers=2)
    assert sorted(number for _, number in found) == [0, 1, 2, 3, 4, 5]
    assert max(Counter(process for process, _ in found).values()) <= 3


def test_a_request_that_lacks_memory_in_a_used_process_is_answered_by_a_fresh_one() -> None:
    first, *found = answers([(0, True), (1, False), (2, True), (3, False)])
    assert [number for _, number in [first, *found]] == [0, 1, 2, 3]
    assert [process == first[0] for process, _ in found] == [True, False, False]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is not limited")
def test_a_sound_video_is_not_damaged_because_others_took_the_memory(tmp_path: Path) -> None:
    jobs = [Job(render(tmp_path / f"{number}.mp4", panned(number, 30))) for number in range(3)]
    command = (sys.executable, "-c", INSPECTION)
    found = list(inspect_all(jobs, 1, 60, command, max_bytes=50_000_000))
    assert [job for job, _ in found] == jobs
    assert [each.error for _, each in found] == [None] * 3


def test_a_video_for_which_memory_does_not_suffice_is_not_called_damaged(tmp_path: Path) -> None:
    def refuse(frame: object) -> None:
        raise MemoryError("as the limit does")

    found = inspect_video(render(tmp_path / "a.mp4", panned(0, 3)), refuse)
    assert found.error == "memory does not suffice to read it (as the limit does)"


def test_a_program_that_cannot_start_is_an_error_that_says_why() -> None:
    command = (sys.executable, "-c", "import a_package_that_is_missing")
    with pytest.raises(UserError, match=r"cannot start \(ModuleNotFoundError.*a_package"):
        list(run_all(command, [("first", []), ("second", [])], 2, 60))


def test_an_exception_in_a_program_is_the_answer_and_costs_one_request() -> None:
    program = PROGRAM.replace("return Answer(", "1 / (number - 1); return Answer(")
    given = ((number, [number, False, 10**9]) for number in range(3))
    found = dict(run_all((sys.executable, "-c", program), given, 1, 60))
    assert found[1] == "decoder crashed (ZeroDivisionError: division by zero)"
    assert all(isinstance(found[number], dict) for number in (0, 2))
