"""The conditions under which a run began: environment.json, config.yaml and .hydra/."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import datetime
from importlib import metadata
from pathlib import Path

import torch

from videomae.run.directory import CONFIG, ENVIRONMENT
from videomae.run.files import write_text
from videomae.run.overwrite import begin_record
from videomae.run.record import made
from videomae.run.run import Run
from videomae.run.schema import as_yaml, composition
from videomae.run.sidefiles import is_environment, mended_object
from videomae.run.text import redacted

PACKAGES = ("torch", "torchvision", "timm", "decord", "decord2", "numpy", "hydra-core", "omegaconf")


def describe_run(
    run: Run, config: object, hashes: Mapping[str, str], began: datetime | None = None
) -> None:
    """Write environment.json, which marks the directory of a run, then config.yaml and .hydra/.

    Args:
        hashes: SHA-256 of the lists and of the starting weights, by setting.
        began: when the run began, with its time zone; None: now.
    """
    directory = run.directory
    begin_record(directory)
    texts = {CONFIG: as_yaml(config)} | composition()
    for name in (ENVIRONMENT, *texts):
        made(directory, name)
    write_environment(directory, run.device, hashes, began)
    for name, text in texts.items():
        write_text(directory / name, text)


def write_environment(
    directory: Path,
    device: torch.device,
    hashes: Mapping[str, str],
    began: datetime | None = None,
) -> None:
    """Write environment.json; an earlier one, as of a resumed run, is kept below "before".

    Args:
        hashes: SHA-256 of the lists and of the starting weights, by setting.
        began: when the run began, with its time zone; None: now.
    """
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    cuda = device.type == "cuda"
    facts: dict[str, object] = {
        "command": [redacted(argument) for argument in sys.argv],
        "began": (began or datetime.now().astimezone()).isoformat(timespec="seconds"),
        "commit": commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions,
        "device": torch.cuda.get_device_name(device) if cuda else "cpu",
        "cuda": torch.version.cuda if cuda else None,
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
        "threads": torch.get_num_threads(),
        "sha256": dict(hashes),
    }
    if earlier := mended_object(directory / ENVIRONMENT, is_environment):
        facts["before"] = [*earlier.pop("before", []), earlier]
    write_text(directory / ENVIRONMENT, json.dumps(facts, indent=2) + "\n")


def commit() -> str | None:
    """Return the git commit of the checkout that this package is in, with "-dirty" if it was
    edited.

    None if the package is not in the top folder of a checkout.
    """
    top = Path(__file__).parents[2]
    if not (top / ".git").exists():
        return None
    command = ["git", "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
