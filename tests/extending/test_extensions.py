"""Code of the user's own, named by a setting: a decoder, an augmentation, an objective."""

import json
import multiprocessing
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.conftest import ROOT, composed, run_command, write_list
from tests.test_commands import call
from tests.train import (
    CLASSES,
    FINETUNE,
    PRETRAIN,
    assert_same_run,
    json_lines,
    labelled_list,
    metrics,
    video_list,
    weights,
)
from videomae.data.dataset import Item, TrainingClips
from videomae.lists.formats import Clip
from videomae.run.extensions import extension
from videomae.video.opening import open_clip

ARRAYS = 8
OWN_DECODER = "mine.decoder:ArrayVideo"
DECODER = f"data.decoder={OWN_DECODER}"
TRANSFORM = "augment.transform=mine.augmentation:draw"
FORM = "is not of the form package.module:Name"


@pytest.fixture
def arrays(place: Path) -> Path:
    """A folder of videos as NumPy files, 0.npy to 7.npy, and one that is none."""
    folder = place / "arrays"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(ARRAYS):
        np.save(folder / f"{number}.npy", rng.integers(0, 255, (12, 48, 64, 3), np.uint8))
    (folder / "no.npy").write_bytes(b"no video")
    return folder


def pretraining(root: Path, listed: Path, output: str, *overrides: str) -> list[str]:
    return [
        *PRETRAIN,
        f"data.root={root}",
        f"data.train_list={listed}",
        f"output_dir={output}",
        "run.workers=2",
        *overrides,
    ]


# A decoder


@pytest.mark.long
def test_a_decoder_of_ones_own_reads_what_is_trained_and_evaluated_on(
    place: Path, arrays: Path
) -> None:
    listed = write_list(place / "list.txt", [f"{n}.npy {n % CLASSES}" for n in range(ARRAYS)])
    given = [
        *FINETUNE,
        DECODER,
        f"data.root={arrays}",
        f"data.train_list={listed}",
        "run.workers=2",
    ]
    assert (
        call("finetune", *given, f"data.test_list={listed}", "weights=scratch", "output_dir=run")
        == 0
    )
    assert json.loads((place / "run" / "results.json").read_text())["num_unreadable"] == 0
    other = write_list(place / "other.txt", ["0.npy 0", "no.npy 1", "5.npy 2"])
    assert call("evaluate", *given, f"data.test_list={other}", "weights=run", "output_dir=e") == 0
    assert json.loads((place / "e" / "results.json").read_text())["num_unreadable"] == 1
    (bad,) = json_lines(place / "e" / "bad_files.jsonl")
    assert bad["path"] == "no.npy"


def test_its_frames_are_those_of_the_file(place: Path, arrays: Path) -> None:
    data = composed(
        "pretrain", *PRETRAIN, f"data.root={arrays}", "data.decoder=mine.decoder:ArrayVideo"
    )
    video = open_clip(Clip("3.npy", 1), data.data)
    expected = np.load(arrays / "3.npy")
    assert video.num_frames == 12
    np.testing.assert_array_equal(video.read([7, 0, 7]), expected[[7, 0, 7]])
    (part,) = video.parts([2, 5])
    np.testing.assert_array_equal(part.frames, expected[[2, 5]])


@pytest.mark.soak
@pytest.mark.parametrize("start", [pytest.param("python -m", marks=pytest.mark.soak), "videomae"])
def test_the_directory_where_a_command_is_started_is_looked_in(
    place: Path, arrays: Path, tmp_path_factory: pytest.TempPathFactory, start: str
) -> None:
    """The console script has its own directory in the place of the working directory."""
    listed = video_list(place / "list.txt", [f"{n}.npy" for n in range(ARRAYS)])
    words = pretraining(
        arrays, listed, "run", "data.decoder=mine.decoder:ArrayVideo", "max_steps=1"
    )
    if start == "python -m":
        ran = run_command("pretrain", *words, cwd=place)
    else:
        script = tmp_path_factory.mktemp("bin") / "videomae.py"
        script.write_text(
            "import sys\nsys.path[0] = ''\nsys.path.remove('')\n"
            "from videomae.__main__ import main\nmain()\n"
        )
        ran = subprocess.run(
            [sys.executable, str(script), "pretrain", *words],
            cwd=place,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert ran.returncode == 0, ran.stderr
    assert json_lines(place / "run" / "metrics.jsonl")[-1]["num_bad"] == 0


def test_a_decoding_process_that_is_spawned_finds_the_code(place: Path, arrays: Path) -> None:
    """As on macOS: it is started anew, and is sent what it makes batches of."""
    config = composed("pretrain", *PRETRAIN, f"data.root={arrays}", DECODER, TRANSFORM)
    clips = [Clip("3.npy", 1)]
    dataset = TrainingClips(clips, config.data, config.augment, None, 0)
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        example = pool.apply(dataset.__getitem__, (Item(0, 0),))
    assert example.bad is None
    assert torch.equal(example.clip, dataset[Item(0, 0)].clip)


# An augmentation


def test_an_augmentation_of_ones_own_takes_the_place_of_the_projects(
    place: Path, videos: Path
) -> None:
    """What a view gets follows from the item alone, and is turned by quarters."""
    own = composed("pretrain", *PRETRAIN, TRANSFORM, f"data.root={videos}")
    usual = composed("pretrain", *PRETRAIN, f"data.root={videos}")

    def views(config: object, seed: int = 0) -> torch.Tensor:
        data, augment = config.data, config.augment  # type: ignore[attr-defined]
        dataset = TrainingClips([Clip("3.mp4", 1)], data, augment, None, seed)
        return torch.cat([dataset[Item(epoch, 0)].clip for epoch in range(8)])

    found = views(own)
    assert torch.equal(found, views(own))
    assert not torch.equal(found, views(usual))
    turned = [
        extension("augment.transform", "mine.augmentation:draw")(
            48, 64, (32, 32), own.augment, np.random.default_rng(seed), hflip=False
        ).turns
        for seed in range(20)
    ]
    assert set(turned) == {0, 1, 2, 3}


@pytest.mark.soak
def test_a_run_with_an_own_augmentation_goes_on_as_if_it_had_never_stopped(
    place: Path, videos: Path
) -> None:
    listed = video_list(place / "list.txt")
    assert call("pretrain", *pretraining(videos, listed, "whole", TRANSFORM)) == 0
    parts = pretraining(videos, listed, "parts", TRANSFORM, "resume=auto")
    assert call("pretrain", *parts, "max_steps=3") == 0
    assert call("pretrain", *parts, "run.workers=0") == 0
    assert_same_run(place / "whole", place / "parts")
    assert call("pretrain", *pretraining(videos, listed, "usual")) == 0
    assert metrics(place / "usual") != metrics(place / "whole")


def test_another_augmentation_is_another_run(
    place: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = video_list(place / "list.txt")
    words = pretraining(videos, listed, "run", "resume=auto")
    assert call("pretrain", *words, "max_steps=3") == 0
    assert call("pretrain", *words, TRANSFORM) == 2
    expected = "augment.transform: None there, 'mine.augmentation:draw' here"
    assert expected in capsys.readouterr().err


# An objective


@pytest.mark.long
def test_an_objective_of_ones_own_is_minimised_in_both_stages(place: Path, videos: Path) -> None:
    listed, labelled = video_list(place / "list.txt"), labelled_list(place / "labelled.txt")
    usual = pretraining(videos, listed, "usual")
    own = pretraining(videos, listed, "own", "optim.objective=mine.objective:AbsoluteError")
    assert call("pretrain", *usual) == 0
    assert call("pretrain", *own) == 0
    squared, absolute = (
        [row["loss"] for row in json_lines(place / name / "metrics.jsonl")]
        for name in ("usual", "own")
    )
    # From the same weights: a mean of sizes is less than the root of the mean of their squares.
    assert 0.5 < absolute[0] < squared[0] ** 0.5
    tuning = [
        *FINETUNE,
        f"data.root={videos}",
        f"data.train_list={labelled}",
        f"data.test_list={labelled}",
        "weights=own",
        "optim.label_smoothing=0",
    ]
    assert call("finetune", *tuning, "output_dir=classes") == 0
    assert (
        call("finetune", *tuning, "output_dir=focal", "optim.objective=mine.objective:Focal") == 0
    )
    plain, focal = (
        json_lines(place / name / "metrics.jsonl")[0]["loss"] for name in ("classes", "focal")
    )
    # At the start each of three classes has a third.
    assert plain == pytest.approx(np.log(3), abs=0.02)
    assert focal == pytest.approx(np.log(3) * (2 / 3) ** 2, abs=0.02)
    assert weights(place / "classes").keys() == weights(place / "focal").keys()


# What cannot be imported


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "data.decoder=mine.none:Video",
            "data.decoder=mine.none:Video: mine.none cannot be imported (No module named 'mine",
        ),
        ("data.decoder=mine.decoder:Other", "decoder.py defines no Other"),
        ("augment.transform=mine.broken:draw", "mine.broken cannot be imported (invalid syntax"),
        (
            "augment.transform=mine.decoder",
            "augment.transform=mine.decoder is not of the form package.module:Name",
        ),
        (
            "optim.objective=mine.objective:F",
            "objective=mine.objective:F: F is of type module",
        ),
        ("data.decoder=../mine:Video", FORM),
        ("data.decoder=mine.silent:V", "mine.silent cannot be imported (ImportError)"),
        ("data.decoder=mine.wrong:V", "mine.wrong ends in an error when it is imported (NameError"),
        ("data.decoder=mine.script:V", "ends in an error when it is imported (SystemExit: 3)"),
        ("data.decoder=mine.guarded:V", "(ValueError: there is no V)"),
        ("data.decoder=sys:Video", "sys defines no Video"),
    ],
)
def test_what_cannot_be_imported_is_said_before_anything_begins(
    place: Path, videos: Path, capsys: pytest.CaptureFixture[str], override: str, said: str
) -> None:
    modules = {
        "broken": "def draw(:\n",
        "silent": "raise ImportError",
        "wrong": "undefined",
        "script": "import sys\nsys.exit(3)",
        "guarded": "def __getattr__(name):\n    raise ValueError(f'there is no {name}')",
    }
    for name, text in modules.items():
        (place / "mine" / f"{name}.py").write_text(text)
    listed = video_list(place / "list.txt")
    assert call("pretrain", *pretraining(videos, listed, "run", override)) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (place / "run").exists()


def test_the_working_directory_is_not_looked_in_where_python_is_told_so(place: Path) -> None:
    code = f"from videomae.run.extensions import extension; extension('k', {OWN_DECODER!r})"
    ran = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "mine.decoder cannot be imported (No module named 'mine')" in ran.stderr


def test_a_report_on_a_run_of_others_imports_none_of_their_code(
    place: Path, videos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "theirs.py").write_text("open('imported', 'w')\n\ndef anything(*_):\n    pass\n")
    labelled = labelled_list(place / "labelled.txt")
    given = [
        *FINETUNE,
        f"data.root={videos}",
        f"data.train_list={labelled}",
        "max_steps=1",
        f"data.test_list={labelled}",
        "weights=scratch",
        "output_dir=run",
    ]
    assert call("finetune", *given) == 0
    config = place / "run" / "config.yaml"
    text = config.read_text()
    for key in ("decoder: auto", "transform: null", "objective: null", "target: class"):
        assert key in text
        text = text.replace(key, f"{key.partition(':')[0]}: theirs:anything")
    config.write_text(text)
    assert call("report", "runs=run", "out=report") == 0
    assert not (place / "imported").exists()
    page = (place / "report" / "report.html").read_text()
    assert "data:image/jpeg" in page  # the frames were read by a decoder of the project's


# What runs, and is wrong

WRONG = """
from torch import nn


class NoModule:
    pass


class Pair(nn.Module):
    def __init__(self, model, config):
        super().__init__()
        self.model = model

    def inputs(self, batch, step, first):
        from videomae.train.objective import Reconstruct

        return Reconstruct(self.model).inputs(batch, step, first)

    def forward(self, frames, visible, decoded, scored):
        total = next(self.model.parameters()).sum()
        return self.give(total)


class Two(Pair):
    def give(self, total):
        return total.expand(2)


class Text(Pair):
    def give(self, total):
        return "loss"


class Constant(Pair):
    def give(self, total):
        return total.detach()


def draw(*given, **named):
    raise KeyError("oops")
"""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("NoModule", "mine.wrong:NoModule makes no torch module with a method `inputs`"),
        ("Two", "forward of optim.objective returns a tensor of shape (2,), and must return"),
        ("Text", "forward of optim.objective returns str, and must return the sum"),
        ("Constant", "returns a tensor of shape () without a gradient"),
    ],
)
def test_an_objective_that_gives_no_sum_is_told(
    place: Path, videos: Path, capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    (place / "mine" / "wrong.py").write_text(WRONG)
    listed = video_list(place / "list.txt")
    given = pretraining(videos, listed, "run", f"optim.objective=mine.wrong:{name}")
    assert call("pretrain", *given) == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error


@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_of_ones_own_code_ends_with_its_name_and_the_video(
    place: Path, videos: Path, capsys: pytest.CaptureFixture[str], workers: int
) -> None:
    (place / "mine" / "wrong.py").write_text(WRONG)
    listed = video_list(place / "list.txt")
    words = ["augment.transform=mine.wrong:draw", f"run.workers={workers}"]
    assert call("pretrain", *pretraining(videos, listed, "run", *words)) == 1
    last = capsys.readouterr().err.rstrip().splitlines()[-1]
    assert re.fullmatch(
        r"This came about with \d+\.mp4, line \d+ of the list, by code of your own: "
        r"mine\.wrong:draw\.",
        last,
    )
