"""The record of a long job: what is resumed, what is refused, what a crash may leave."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from videomae.run.journal import Journal, OtherJobError

SETTINGS = {"version": 1, "sizes": (1, 2)}


def test_a_later_call_finds_what_an_earlier_one_did(tmp_path: Path) -> None:
    path = tmp_path / "job" / "progress.jsonl"
    with Journal(path, SETTINGS) as journal:
        assert journal.entries == []
        journal.note({"file": "a", "ok": True})
        assert json.loads(path.read_text().splitlines()[-1]) == {"file": "a", "ok": True}
    with path.open("a") as file:
        file.write('[1]\n{]\n{"file": "b", "o')  # damage, and a line that was never finished
    with Journal(path, SETTINGS) as journal:
        assert journal.entries == [{"file": "a", "ok": True}]
        journal.note({"file": "c"})
    with Journal(path, SETTINGS, alone=True) as journal:
        assert journal.entries == [{"file": "a", "ok": True}, {"file": "c"}]
    assert path.read_text().count("settings") == 1


def test_the_file_of_another_job_is_refused_where_a_job_has_its_own(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    with Journal(path, SETTINGS, alone=True):
        pass
    with pytest.raises(OtherJobError) as raised, Journal(path, {"version": 2}, alone=True):
        pass
    assert raised.value.settings == {"version": 1, "sizes": [1, 2]}
    path.write_text('{"file": "a"}\n')
    with pytest.raises(OtherJobError) as raised, Journal(path, SETTINGS, alone=True):
        pass
    assert raised.value.settings is None
    with Journal(path, SETTINGS) as journal:  # an earlier commit's, which had no such line
        assert journal.entries == [{"file": "a"}]
    assert path.read_text().splitlines()[0] == '{"file": "a"}'


def test_two_processes_do_not_write_one_record(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    script = (
        "import sys; from pathlib import Path; from videomae.run.journal import Journal\n"
        "try:\n    Journal(Path(sys.argv[1]), {}, alone=True).__enter__()\n"
        "except BlockingIOError:\n    print('locked')\n"
    )

    def other() -> str:
        line = [sys.executable, "-c", script, str(path)]
        return subprocess.run(line, capture_output=True, text=True, check=True).stdout

    with Journal(path, {}, alone=True):
        assert other() == "locked\n"
    assert other() == ""
