"""Checks of this machine and installation: packages, decoders, GPUs, processes, memory, disk.

python -m videomae.doctor prints their findings. An exception in a check becomes a finding too.
"""

import importlib
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from rich.table import Table
from rich.text import Text

from videomae.config import ConfigError, DoctorConfig, UserError
from videomae.data.checks import listed_data
from videomae.data.forgetting import warn_of_unmatched, with_tombstones
from videomae.lists.clips import read_clips
from videomae.run.addresses import is_address
from videomae.run.console import SafeConsole
from videomae.run.cores import available_cores
from videomae.run.devices import can_pin
from videomae.run.files import why_missing
from videomae.video.interface import DecodeError
from videomae.video.opening import DECODERS, decoder, open_clip, reading_here

PACKAGE = Path(__file__).parents[1]
"""Folder of this package."""
CLIP = PACKAGE / "assets" / "check.mp4"
"""Test clip: 16 frames of 64 x 48 px, H.264; all pixels of frame i have the brightness GREYS[i]."""
GREYS = [20 + 14 * number for number in range(16)]
TOLERANCE = 4
"""Largest error of a decoded brightness, in levels of 255, from the conversion from YUV."""
MODULES = {
    "hydra-core": "hydra",
    "decord2": "decord",
    "pyyaml": "yaml",
    "pillow": "PIL",
    "scikit-image": "skimage",
    "scikit-learn": "sklearn",
}
"""Names of the modules of packages that are imported by another name."""
VARIABLES = re.compile(
    r"CUDA_|NCCL_|OMP_|MKL_|SLURM_JOB|TORCH|PYTORCH_|MASTER_|LOCAL_|(\w+_)?RANK$|WORLD_SIZE$"
)
LEAST_SHM, LEAST_DISK = 1 << 30, 20 << 30
"""Smallest recommended shared memory, for batches, and disk space, for checkpoints, in bytes."""
STEPS = 8
"""Number of frames of a listed video that are decoded."""
OK, NOTE, ERROR = "ok", "note", "ERROR"
STYLES = {OK: "green", NOTE: "yellow", ERROR: "bold red"}


class Finding(NamedTuple):
    """A line of the doctor's tables: what was checked, and whether it works."""

    mark: str
    """Status of the finding: OK, NOTE or ERROR."""
    what: str
    found: str
    """Version, size or problem, and what to do about it."""


def print_section(title: str, look: Callable[[], Iterator[Finding]], console: SafeConsole) -> int:
    """Print one table of findings, and return how many of them are errors."""
    table = Table(title=title, title_justify="left", show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    errors = 0
    for finding in _all(look):
        errors += finding.mark == ERROR
        mark = Text(finding.mark, style=STYLES[finding.mark])
        table.add_row(mark, Text(finding.what), Text(finding.found))
    console.print(table)
    return errors


def _all(look: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check; an exception becomes one more finding."""
    try:
        yield from look()
    except Exception as error:  # what is broken may break in any way
        yield Finding(ERROR, "check failed", _short(error))


def packages() -> Iterator[Finding]:
    """Yield the versions of Python, this package and the packages it requires, which are
    imported."""
    yield Finding(OK, "python", f"{platform.python_version()} on {platform.platform()}")
    try:
        yield Finding(OK, "videomae", f"{metadata.version('videomae')} in {PACKAGE}")
    except metadata.PackageNotFoundError:
        tip = f"pip install -e {PACKAGE.parent}"
        yield Finding(ERROR, "videomae", f"in {PACKAGE}, not installed, nor what it needs: {tip}")
        return
    for requirement in metadata.requires("videomae") or []:
        name, marker = _requirement(requirement)
        if "extra" in marker:
            continue
        module = MODULES.get(name, name)
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            if "platform_machine" not in marker:  # else another one stands in here
                tip = f"pip install '{requirement.partition(';')[0].strip()}'"
                yield Finding(ERROR, name, f"is not installed: {tip}")
            continue
        try:
            importlib.import_module(module)
            yield Finding(OK, name, version)
        except Exception as error:  # what is broken may break in any way
            tip = f"pip install --force-reinstall {name}"
            yield Finding(ERROR, name, f"{version} cannot be imported ({_short(error)}): {tip}")


def _requirement(text: str) -> tuple[str, str]:
    """Split a requirement such as "decord>=0.6; python_version..." into name and condition."""
    wanted, _, marker = text.partition(";")
    return re.split(r"[^\w.-]", wanted.strip(), maxsplit=1)[0].lower(), marker


def decoders() -> Iterator[Finding]:
    """Yield for each decoder whether it is installed and decodes CLIP correctly."""
    for name in DECODERS:
        try:
            video = decoder(name)[1](CLIP)
            frames = video.read(range(video.num_frames))
        except ConfigError as error:
            optional = name == "torchcodec"
            yield Finding(NOTE if optional else ERROR, name, str(error).partition(";")[0])
            continue
        except Exception as error:  # what is broken may break in any way
            yield Finding(ERROR, name, f"cannot decode {CLIP.name} ({_short(error)}): reinstall it")
            continue
        levels = frames.mean(axis=(1, 2, 3)) if len(frames) else np.zeros(0)
        right = frames.shape == (len(GREYS), 48, 64, 3) and np.abs(levels - GREYS).max() < TOLERANCE
        found = "decodes the test clip" if right else "returns wrong frames: reinstall it"
        yield Finding(OK if right else ERROR, name, found)
    program = shutil.which("ffmpeg")
    found = program or "not on the PATH; nothing here needs it"
    yield Finding(OK if program else NOTE, "ffmpeg", found)


def devices() -> Iterator[Finding]:
    """Yield the GPUs, their driver, and whether they compute correctly."""
    built = torch.version.cuda or "none: a build for CPUs"
    yield Finding(OK, "torch's CUDA", built)
    driver = _nvidia_driver()
    if not torch.cuda.is_available():
        if driver and torch.version.cuda:
            yield Finding(
                ERROR,
                "GPU",
                f"driver {driver} is there, but torch cannot use it: is it too old for CUDA "
                f"{torch.version.cuda}, or CUDA_VISIBLE_DEVICES empty?",
            )
        elif driver:
            tip = "install a build of torch for CUDA"
            yield Finding(ERROR, "GPU", f"driver {driver} is there, torch is a CPU build: {tip}")
        else:
            yield Finding(NOTE, "GPU", "none: everything runs on the CPU, slowly")
        return
    if driver:
        yield Finding(OK, "driver", driver)
    for index in range(torch.cuda.device_count()):
        yield _device(index)
    if not can_pin():
        tip = "copies to the GPU take the slow way: is there a limit, as by ulimit -l?"
        yield Finding(NOTE, "pinned memory", f"this process cannot pin any; {tip}")


def _device(index: int) -> Finding:
    """Multiply two matrices on one GPU; return its name and memory, and whether the product is
    right."""
    about = torch.cuda.get_device_properties(index)
    name = f"cuda:{index}"
    text = f"{about.name}, compute capability {about.major}.{about.minor}"
    try:
        free, total = torch.cuda.mem_get_info(index)
        text += f", {free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
        a = torch.arange(64.0).view(8, 8)
        product = (a.to(name) @ a.to(name)).cpu()
        torch.testing.assert_close(product, a @ a)
    except (RuntimeError, AssertionError) as error:
        return Finding(ERROR, name, f"{text}: does not compute ({_short(error)})")
    with torch.cuda.device(index):
        half = torch.cuda.is_bf16_supported(including_emulation=False)
    text += ", bf16" if half else ", no bf16: training takes float32"
    return Finding(OK if half else NOTE, name, text)


def _nvidia_driver() -> str | None:
    """Return the version of the NVIDIA driver from nvidia-smi; None if that fails."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    query = [program, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.split("\n")[0].strip() or None


def process_groups() -> Iterator[Finding]:
    """Yield whether gloo and NCCL work in a group of one process, and their environment
    variables."""
    backends = {"gloo": "cpu"} | ({"nccl": "cuda:0"} if torch.cuda.is_available() else {})
    for backend, device in backends.items():
        if not getattr(dist, f"is_{backend}_available")():
            yield Finding(ERROR, backend, "is not in this build of torch: install the usual one")
            continue
        if dist.is_initialized():
            yield Finding(NOTE, backend, "not tried: processes are connected already")
            continue
        version = ""
        if backend == "nccl":
            version = ".".join(map(str, torch.cuda.nccl.version())) + ", "
        try:
            dist.init_process_group(backend, store=dist.HashStore(), rank=0, world_size=1)
            one = torch.ones(1, device=device)
            dist.all_reduce(one)
            works = one.item() == 1
        except RuntimeError as error:
            yield Finding(ERROR, backend, f"{version}{_short(error)}")
            continue
        finally:
            if dist.is_initialized():
                dist.destroy_process_group()
        what = "adds up over a group of one" if works else "adds up wrongly"
        yield Finding(OK if works else ERROR, backend, f"{version}{what}")
    for name in sorted(filter(VARIABLES.match, os.environ)):
        yield Finding(OK, name, os.environ[name])


def resources() -> Iterator[Finding]:
    """Yield the cores, the memory and the disk that this process may use."""
    cores, threads = available_cores(), torch.get_num_threads()
    yield Finding(OK, "cores", f"{cores}; torch computes with {threads} thread(s)")
    memory = _memory()
    if memory:
        yield Finding(OK, "memory", f"{memory / 2**30:.1f} GiB")
    shared = Path("/dev/shm")
    if shared.is_dir():
        size = shutil.disk_usage(shared).total
        enough = size >= LEAST_SHM
        tip = "" if enough else ": decoding processes may die of it; docker run --shm-size=8g, or "
        tip += "" if enough else "run.workers=0"
        yield Finding(OK if enough else NOTE, str(shared), f"{size / 2**30:.1f} GiB{tip}")
    here = shutil.disk_usage(".").free
    enough = here >= LEAST_DISK
    tip = "" if enough else ": a checkpoint of ViT-g takes 12 GiB; output_dir= says where"
    yield Finding(OK if enough else NOTE, "free disk", f"{here / 2**30:.1f} GiB here{tip}")


def _memory() -> int | None:
    """Return the memory that this machine or container has, in bytes; None if it is not known."""
    limits = []
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        file = Path("/sys/fs/cgroup") / name
        if file.is_file() and (text := file.read_text().strip()).isdigit():
            limits.append(int(text))
    return min(limits, default=None)


def videos(config: DoctorConfig) -> Iterator[Finding]:
    """Decode some frames of the first videos of config.list, and yield the result of each."""
    data = listed_data(config)
    if config.root and not is_address(config.root) and (reason := why_missing(config.root)):
        yield Finding(ERROR, "root", f"root={config.root} {reason}: give the folder of the videos")
        return
    try:
        listed = Path(str(config.list))
        clips = read_clips(listed, data, labelled=False, key="list")
        clips = with_tombstones(clips, listed, data, "list").without_forgotten()
        warn_of_unmatched({"list": clips})
    except UserError as error:
        yield Finding(ERROR, "list", str(error))
        return
    yield Finding(OK, str(config.list), f"{len(clips):,} clips; the first {config.first}:")
    damaged = False
    for clip in clips[: config.first]:
        what = f"line {clip.line}"
        began = time.perf_counter()
        try:
            with reading_here(clip.path, data.max_clip_bytes):
                video = open_clip(clip, data)
                count = video.num_frames
                frames = video.read(sorted({count * step // STEPS for step in range(STEPS)}))
        except DecodeError as error:
            yield Finding(ERROR, what, str(error))
            damaged = True
            continue
        took = 1000 * (time.perf_counter() - began)
        height, width = frames.shape[1:3]
        text = f"{clip.name}: {count} frames of {width} x {height} px"
        text += f", {video.fps:.4g} per second" if video.fps else ""
        yield Finding(OK, what, f"{text}, {len(frames)} of them in {took:.0f} ms")
    if damaged:
        tip = (
            f"python -m videomae.scan list={config.list} root={config.root} out=DIR finds all such"
        )
        yield Finding(NOTE, "all of them", tip)


def _short(error: Exception) -> str:
    """Return the type of an exception and the first line of its message."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__
