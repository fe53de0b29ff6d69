"""The benchmarks and the soak run, and print what they are for. How fast, no test can tell."""

import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.conftest import ROOT
from tests.test_commands import call
from tests.train import video_list
from videomae.model import layers
from videomae.model.attention import AttentionKernel
from videomae.video.opening import usable_decoders

pytestmark = pytest.mark.long
SCRIPTS = ROOT / "scripts"


@pytest.fixture(autouse=True)
def scripts_are_importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(SCRIPTS)


def script(name: str) -> ModuleType:
    return importlib.import_module(name)


def main_of(name: str, *arguments: object) -> None:
    """Run a script in this process, which has imported what it needs."""
    status: int | str | None = 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        try:
            script(name).main()
        except SystemExit as end:
            status = end.code
    assert not status


@pytest.mark.parametrize("stage", ["pretrain", pytest.param("finetune", marks=pytest.mark.soak)])
def test_a_step_is_timed(capsys: pytest.CaptureFixture[str], stage: str) -> None:
    few = ("--variants", "plain", "eager", "fastest", "math", "--steps", 1)
    small = ("--model", "vit_tiny", "--size", 32, "--batch", 2)
    main_of("bench_step", *small, *few, "--stage", stage)
    said = capsys.readouterr().out
    assert len(re.findall(r"^\| \w+ \| [\d.]+ \| [\d.]+ \| [\d.]+ ", said, re.MULTILINE)) == 4
    assert re.search(
        r"^- encoder, \d+ tokens, 4 heads of 32: .*flash [\d.]+ ms", said, re.MULTILINE
    )


def test_measuring_is_timed_against_decoding(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("cv2")
    main_of("bench_curate", "--seconds", 1, "--times", 1, "--most", 100)
    assert re.search(r"^measuring costs [\d.]+ times", capsys.readouterr().out, re.MULTILINE)


BARE = """
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused}:
            raise ModuleNotFoundError(f"refused: {{name}}")
sys.meta_path.insert(0, Refused())
sys.path.insert(0, {scripts!r})
import videomae.model
import gpu_check
sys.exit(gpu_check.main({arguments!r}))
"""
REFUSED = (
    *("timm", "torchvision", "yaml", "safetensors", "omegaconf", "hydra", "av", "decord"),
    *("pyarrow", "matplotlib", "PIL", "rich", "tensorboard"),
)


PARTS = ("crashes", "attention", "gemm", "step", "profile", "compare", "vitb", "finetune")


@pytest.mark.parametrize(
    "parts",
    # A new machine compiles headers for a minute before PyTorch can generate code, as crashes asks.
    [("attention", "gemm", "step"), pytest.param(PARTS, marks=pytest.mark.soak)],
    ids=len,
)
def test_the_check_of_gpus_runs_where_there_is_little_else_than_torch(
    tmp_path: Path, parts: tuple[str, ...]
) -> None:
    """Each part leaves its table."""
    arguments = ["--self-test", "--out", str(tmp_path), "--part", *parts]
    program = BARE.format(refused=REFUSED, scripts=str(SCRIPTS), arguments=arguments)
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    rows = {part: json.loads((tmp_path / f"{part}.json").read_text())["rows"] for part in parts}
    assert all(rows.values())
    for part in parts:
        assert (tmp_path / f"{part}.md").read_text() in done.stdout
    timed = [row for row in rows["step"] if "ms" in row]
    assert len(timed) == len(rows["step"]) == 10
    if parts != PARTS:
        return
    results = {row["what"]: row["result"] for row in rows["crashes"]}
    compiler = shutil.which("g++") is not None
    wanted = ["steps: eager", "steps: padded", "fine-tuning, mixed", "a picture in bf16"]
    for what in [*wanted, *(["steps: all"] if compiler else [])]:
        assert results[what].startswith("works"), (what, results[what])
    same = {row["way"]: row["result"] for row in rows["compare"] if "way" in row}
    for way in ("padded", "compiled", "flash", "as VideoMAE V2"):
        assert same[way] == "same", (way, same)
    assert same["copied plainly"] == "same bytes"
    assert {row["kind"] for row in rows["profile"]} >= {"matrix products", "all"}


def test_the_check_of_gpus_asks_for_one(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    assert script("gpu_check").main([]) == 1
    assert "--self-test" in capsys.readouterr().err


def test_the_plain_step_computes_the_same() -> None:
    """Else the benchmark would compare two models."""
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 4, 10, 8)
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    with script("measuring").written_out_attention():
        found = layers.attend(q, k, v, AttentionKernel())
    assert not torch.equal(found, expected)
    torch.testing.assert_close(found, expected)


@pytest.mark.soak
def test_a_long_list_is_timed_and_weighed() -> None:
    """In a process of its own: its memory is what is weighed."""
    command = [sys.executable, str(SCRIPTS / "bench_list.py"), "--clips", "2000", "--workers", "2"]
    wide = os.environ | {"COLUMNS": "200"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=wide)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count(" MB of its own") == 2
    assert re.search(r"read +\d+\.\d s", done.stdout)


def test_the_data_path_is_timed_on_ones_own_list(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clips = video_list(tmp_path / "list.txt", [f"{number}.mp4" for number in range(4)])
    few = ("--videos", 4, "--rounds", 1, "--model", "vit_base", "--clips-per-s", 100)
    main_of("bench_loader", "--list", clips, "--root", videos, *few)
    said = capsys.readouterr().out
    for name in ("plain (V2's way)", "pyav", "decord"):
        assert len(re.findall(rf"^ *{re.escape(name)} ", said, re.MULTILINE)) == 2  # rate, advice
    assert "cores per GPU for vit_base at 100 clips/s" in said


@pytest.mark.soak
def test_damaged_videos_go_through_everything_that_reads_videos(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its commands run in this process, which spares their starts."""
    ran: list[str] = []

    def succeeds(name: str, *overrides: str) -> bool:
        ran.append(name)
        return call(name, *overrides) == 0

    monkeypatch.setattr(script("soak"), "succeeds", succeeds)
    main_of("soak", "damaged", "--damaged", 12)
    assert "damaged: good" in capsys.readouterr().out
    assert ran == ["pretrain", "finetune", "evaluate", "scan", "pack"]


@pytest.mark.skipif(
    importlib.util.find_spec("s3fs") is None or shutil.which("openssl") is None,
    reason="the packages of videomae[remote], or openssl, are not installed",
)
@pytest.mark.long
@pytest.mark.soak
def test_a_run_from_a_bad_server_that_is_killed_ends_as_one_left_alone(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main_of("soak", "remote", "--times", 1, "--steps", 14)
    said = capsys.readouterr().out
    assert "run 1: identical" in said
    assert "remote: good" in said


@pytest.mark.soak
@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="the command ffmpeg is not installed")
def test_files_are_held_against_ffmpeg(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files, kept = tmp_path / "files", tmp_path / "kept"
    files.mkdir()
    shutil.copy(videos / "0.mp4", files)
    (files / "none.mp4").write_bytes(b"no video")
    main_of("soak", "conformance", "--decoder", "all", "--files", files, "--keep", kept)
    said = capsys.readouterr().out
    for decoder in usable_decoders():
        assert f"\n{decoder}: 1 of 1\n" in said
    assert "not made: none.mp4" in said
    assert "| pyav | none.mp4 | not made" in (kept / "conformance.md").read_text()
