"""What the tests share: real little videos, and configs composed as the commands compose them."""

import ctypes
import gc
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import settings
from omegaconf import DictConfig

from videomae.config import config_dir
from videomae.run.schema import COMMANDS, config_object, register

settings.register_profile("without a clock", deadline=None)  # others may work beside the tests
settings.load_profile("without a clock")
torch.set_num_threads(1)  # as many tests run beside each other as there are cores
GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[1]

QUICK = (
    *("config/test_config.py", "run/test_plain_yaml.py", "pictures/test_figures.py"),
    *("run/test_log.py", "run/test_sidefiles.py", "lists/test_clips.py", "lists/test_tolerance.py"),
    *("video/test_bitstream.py", "video/test_reader.py", "weights/test_weights.py"),
    *("model/test_golden.py", "model/test_mae.py", "model/test_classifier.py"),
    *("model/test_layers.py", "model/test_pixels.py", "data/test_dataset.py"),
    *("data/test_mask.py", "data/test_frame_sampling.py", "data/test_mix.py"),
    *("data/test_augment.py", "report/test_plane.py"),
    *("evaluation/test_metrics.py", "evaluation/test_predictions.py"),
    *("train/test_schedule.py", "train/test_optimizer.py", "train/test_step.py"),
    *("train/test_average.py", "train/test_checkpoint.py", "train/test_logged_numbers.py"),
    *("curate/test_sources.py", "curate/test_selection.py", "curate/test_fingerprint.py"),
    *("test_rooms.py", "test_sizes.py", "test_platforms.py", "mutants/test_mistakes.py"),
)
"""Files whose tests are marked quick, the long ones aside: two minutes on two cores, by the times
that pytest --durations=0 gives. tests/test_rooms.py sees that no room is left out."""
OPTIONS = {"crf": "18", "bf": "0", "mbtree": "0"}


def write_video(
    path: Path, *, frames: int = 12, height: int = 48, width: int = 64, seed: int = 0
) -> Path:
    """A real H.264 MP4. Frame i has grey level 20 + 12 i in its left half, moving noise right.

    Its bytes are always the same: with several threads or mbtree x264 gives others now and then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 255, (height // 8, width // 8, 3), dtype=np.uint8)
    texture = texture.repeat(8, axis=0).repeat(8, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=OPTIONS)
        stream.codec_context.thread_count = 1
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            image = np.roll(texture, 2 * number, axis=1).copy()
            image[:, : width // 2] = min(255, 20 + 12 * number)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    return path


def write_list(path: Path, lines: list[str]) -> Path:
    """A clip list."""
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of twelve videos, 0.mp4 to 11.mp4, all of 12 frames of 48 x 64."""
    root = tmp_path_factory.mktemp("videos")
    for number in range(12):
        write_video(root / f"{number}.mp4", seed=number)
    return root


@pytest.fixture(autouse=True)
def schemas() -> Iterator[None]:
    """Hydra copies all schemas in its store whenever it composes: those of a test leave with it."""
    yield
    for command in COMMANDS:
        ConfigStore.instance().repo.pop(f"{command}_schema.yaml", None)
    register.cache_clear()


@pytest.fixture(autouse=True, scope="module")
def memory() -> Iterator[None]:
    """What the tests of a file have used goes back: to start a process takes the longer, the more
    memory there is to share with it, a tenth of a second for a gigabyte.
    """
    yield
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # where the C library is glibc
    if trim:
        trim(0)


def soaked(*legs: Any) -> list[Any]:
    """Legs of a parametrised test that the soak alone runs, as another shows the same."""
    return [pytest.param(leg, marks=pytest.mark.soak) for leg in legs]


def composed(command: str, *overrides: str) -> Any:
    """The config object that `python -m videomae.COMMAND OVERRIDES` works with.

    It cannot be changed. The groups of settings that it chooses are composed once: that takes a
    tenth of a second.
    """
    return _composed(config_dir(), command, overrides)


@cache
def _composed(directory: Path, command: str, overrides: tuple[str, ...]) -> Any:
    groups = {path.name for path in directory.iterdir() if path.is_dir()}
    chosen = tuple(word for word in overrides if word.partition("=")[0].lstrip("+~") in groups)
    values = [word for word in overrides if word not in chosen]
    config = _with_groups(directory, command, chosen).copy()
    parsed = OverridesParser.create().parse_overrides(values)
    ConfigLoaderImpl._apply_overrides_to_config(parsed, config)  # as Hydra does, last of all
    return config_object(config, command)


@cache
def _with_groups(directory: Path, command: str, chosen: tuple[str, ...]) -> DictConfig:
    register(command)
    with initialize_config_dir(str(directory), version_base="1.3"):
        return compose(command, overrides=list(chosen))


def compose_groups(command: str, words: list[str]) -> DictConfig:
    """What hydra.compose makes, in a command, of the words that choose groups: composed once."""
    groups = {path.name for path in config_dir().iterdir() if path.is_dir()} | {"hydra.searchpath"}
    chosen = (word for word in words if word.partition("=")[0].lstrip("+~") in groups)
    places = str(GlobalHydra.instance().config_loader().get_search_path())
    return _compose_groups(places, command, tuple(chosen))


@cache
def _compose_groups(_: str, command: str, words: tuple[str, ...]) -> DictConfig:
    return compose(command, overrides=list(words))


TINY = (  # a model that trains in milliseconds, on the clips of `videos`
    "model=vit_tiny",
    "model.dim=32",
    "model.heads=2",
    "model.mlp_dim=64",
    "model.depth=2",
    "model.decoder_dim=16",
    "model.decoder_mlp_dim=32",
    "data.clip.frames=4",
    "data.clip.stride=2",
    "data.clip.size=32",
    "run=debug",
)


def run_command(
    command: str,
    *overrides: str,
    cwd: Path,
    timeout: float = 120,
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command as a user does, and return what it printed."""
    return subprocess.run(
        [sys.executable, "-m", f"videomae.{command}", *overrides],
        cwd=cwd,
        env=os.environ | {"OMP_NUM_THREADS": "1"} | (env or {}),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of QUICK, and put files that take long first, so that none is left alone at
    the end of what several processes do.
    """
    long = Counter(item.path for item in items if item.get_closest_marker("long"))
    items.sort(key=lambda item: -long[item.path])
    files = {ROOT / "tests" / name for name in QUICK}
    for item in items:
        if item.path in files and not item.get_closest_marker("long"):
            item.add_marker(pytest.mark.quick)


def pytest_collection_finish() -> None:
    """What thousands of collected tests hold stays: collections need not go through it again, in
    this process or in one that decodes, where a page that they write to is a page that is copied.
    The commands of one process make so much that it would collect all the time.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def pytest_unconfigure() -> None:
    """Else libraries report at the end that their objects are still there."""
    gc.unfreeze()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many genuine clips were read as ffmpeg reads them, or why none was tried."""
    tried = [
        (outcome, report)
        for outcome in ("passed", "failed", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
        if "test_a_clip_is_read_scanned_and_packed" in report.nodeid
    ]
    passed = sum(outcome == "passed" for outcome, _ in tried)
    skipped = [report.longrepr[2] for outcome, report in tried if outcome == "skipped"]
    if skipped:
        terminalreporter.write_line(f"genuine clips: none ({skipped[0].removeprefix('Skipped: ')})")
    elif tried:
        terminalreporter.write_line(f"genuine clips: {passed} of {len(tried)}")
