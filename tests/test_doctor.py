"""python -m videomae.doctor: what works is said to work, and what is broken is named."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from tests.conftest import write_list
from tests.miniatures import write_clip
from tests.test_commands import call
from videomae.report import machine
from videomae.report.machine import CLIP, ERROR, GREYS, NOTE, OK, Finding
from videomae.video.opening import decoder


def table(capsys: pytest.CaptureFixture[str], *overrides: str, status: int = 0) -> str:
    """What is printed, blanks joined."""
    assert call("doctor", *overrides) == status
    return " ".join(capsys.readouterr().out.split())


def by_name(findings: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def test_a_machine_on_which_everything_works(capsys: pytest.CaptureFixture[str]) -> None:
    said = table(capsys)
    assert f"ok torch {torch.__version__.partition('+')[0]}" in said
    assert "ok decord decodes the test clip" in said
    assert "ok pyav decodes the test clip" in said
    assert "ok gloo adds up over a group of one" in said
    assert "ok cores " in said
    assert said.endswith("no error")
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("name", ["decord", "pyav"])
def test_the_clip_is_what_is_said_of_it(name: str) -> None:
    frames = decoder(name)[1](CLIP).read(range(len(GREYS)))
    assert frames.shape == (16, 48, 64, 3)
    assert np.abs(frames - np.array(GREYS)[:, None, None, None]).max() < machine.TOLERANCE
    assert CLIP.stat().st_size < 4096


def test_a_decoder_that_returns_other_frames_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    right = decoder("pyav")[1](CLIP).read(range(16))
    wrong = {"pyav": right[::-1], "decord": right[:15], "torchcodec": right}

    def fake(name: str) -> tuple[str, Any]:
        video = SimpleNamespace(num_frames=16, read=lambda indices: wrong[name])
        return name, lambda path: video

    monkeypatch.setattr(machine, "decoder", fake)
    found = by_name(machine.decoders())
    assert found["pyav"].mark == found["decord"].mark == ERROR
    assert "wrong frames" in found["pyav"].found
    assert found["torchcodec"].mark == OK


def test_the_first_videos_of_a_list(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = write_clip(tmp_path / "good.mp4")
    (tmp_path / "cut.mp4").write_bytes(good.read_bytes()[:300])
    (tmp_path / "empty.mp4").touch()
    names = ["good.mp4", "cut.mp4", "empty.mp4", "gone.mp4", "late.mp4"]
    listed = write_list(tmp_path / "list.txt", names)
    given = (f"list={listed}", f"root={tmp_path}", "first=4")
    said = table(capsys, *given, status=1)
    assert "ok line 1 good.mp4: 8 frames of 64 x 48 px, 25 per second, 8 of them in" in said
    for line, words in ((2, "cut.mp4"), (3, "empty.mp4 is empty (0 bytes)"), (4, "gone.mp4")):
        assert f"ERROR line {line} " in said
        assert words in said
    assert "line 5" not in said
    assert "videomae.scan" in said
    assert said.endswith("3 error(s)")


def test_a_list_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = table(capsys, f"list={tmp_path / 'none.txt'}", f"root={tmp_path}", status=1)
    assert "ERROR list list=" in said
    assert "cannot be read" in said


def test_a_root_that_is_not_there_is_told_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_list(tmp_path / "list.txt", ["a.mp4", "b.mp4"])
    said = table(capsys, f"list={source}", f"root={tmp_path}/gone", status=1)
    assert f"ERROR root root={tmp_path}/gone does not exist: give the folder of the videos" in said
    assert "a.mp4" not in said


def test_a_process_that_cannot_pin_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(machine, "can_pin", lambda: False)
    found = by_name(machine.devices())["pinned memory"]
    assert found.mark == NOTE
    assert "ulimit -l" in found.found


def doctor_beside(broken: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command as after a failed installation: a package fails when it is imported."""
    (folder / broken).mkdir()
    error = f"lib{broken}.so: cannot open shared object"
    (folder / broken / "__init__.py").write_text(f"raise OSError({error!r})")
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import runpy; "
    code += "runpy.run_module('videomae.doctor', run_name='__main__', alter_sys=True)"
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
    )


def test_where_torch_is_broken_it_says_what_to_do(tmp_path: Path) -> None:
    done = doctor_beside("torch", tmp_path)
    assert done.returncode == 2
    assert "error: a package cannot be loaded (libtorch.so: cannot open" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.soak
@pytest.mark.long
def test_it_runs_where_decord_is_broken(tmp_path: Path) -> None:
    done = doctor_beside("decord", tmp_path)
    said = " ".join(done.stdout.split())
    assert done.returncode == 1, done.stderr
    assert "cannot be imported (OSError: libdecord.so: cannot open shared object)" in said
    assert "ERROR decord data.decoder=decord cannot be used" in said
    assert "ok pyav decodes the test clip" in said
    assert said.endswith("2 error(s)")


def test_what_is_not_installed_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = [
        "einops>=0.8",
        "not-there>=1.0",
        "dead>=2; platform_machine != 'x86_64'",
        "pytest; extra == 'dev'",
    ]
    monkeypatch.setattr(machine.metadata, "requires", lambda name: wanted)
    found = by_name(machine.packages())
    assert found["einops"].mark == OK
    assert found["not-there"] == Finding(
        ERROR, "not-there", "is not installed: pip install 'not-there>=1.0'"
    )
    assert not {"dead", "pytest"} & found.keys()


def test_a_driver_without_a_torch_that_can_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(machine, "_nvidia_driver", lambda: None)
    assert by_name(machine.devices())["GPU"].mark == NOTE
    monkeypatch.setattr(machine, "_nvidia_driver", lambda: "470.1")
    monkeypatch.setattr(torch.version, "cuda", "13.2")
    assert "too old for CUDA 13.2" in by_name(machine.devices())["GPU"].found
    monkeypatch.setattr(torch.version, "cuda", None)
    assert "torch is a CPU build" in by_name(machine.devices())["GPU"].found


def test_small_places_are_worth_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"total": 64 << 20, "free": 1 << 30})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    found = by_name(machine.resources())
    assert "--shm-size" in found["/dev/shm"].found
    assert found["/dev/shm"].mark == found["free disk"].mark == NOTE


def test_a_check_that_fails_is_a_finding() -> None:
    def look() -> Iterator[Finding]:
        yield Finding(OK, "first", "")
        raise ValueError("no idea")

    assert [f.mark for f in machine._all(look)] == [OK, ERROR]


def test_a_checkout_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> str:
        raise machine.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(machine.metadata, "version", none)
    found = by_name(machine.packages())
    assert found["videomae"].mark == ERROR
    assert "not installed, nor what it needs: pip install -e" in found["videomae"].found
    assert found.keys() == {"python", "videomae"}


def test_the_variables_of_an_image_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NV_LIBNCCL_PACKAGE", "NV_CUDA_LIB_VERSION", "NCCL_DEBUG", "SLURM_JOB_ID", "RANK"):
        monkeypatch.setenv(name, "3")
    named = {name for name in by_name(machine.process_groups()) if not name.islower()}
    assert {"NCCL_DEBUG", "SLURM_JOB_ID", "RANK"} <= named
    assert not any(name.startswith("NV_") for name in named)
