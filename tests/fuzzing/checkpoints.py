"""Checkpoints: each file of step_N, restored and gone on from, and read as weights."""

import json
import os
import pickle
import random
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata

from tests.fuzzing.attacks import gadgets
from tests.fuzzing.base import (
    REFUSED,
    RIGHT,
    Attack,
    Change,
    Result,
    Target,
    digest,
    mutate_one,
    unequal,
)
from tests.fuzzing.documents import Bait
from tests.fuzzing.sizes import checkpoint_attacks
from tests.fuzzing.training import train_tiny
from tests.fuzzing.weights import larger, load
from tests.train.test_checkpoint import make_state, store
from videomae.run.directory import RUN_FILE
from videomae.run.files import sha256
from videomae.train.resuming import find_checkpoint

FILES = ("checkpoints/step_2/*", "checkpoints/step_2/.metadata", "checkpoints/last")
RUN_FILES = tuple(f"run/{name}" for name in FILES)


def rehash(step: Path) -> None:
    """Make the hashes in run.json fit the files, as whoever forges them would."""
    about = json.loads((step / RUN_FILE).read_text())
    files = [file for file in step.iterdir() if file.name != RUN_FILE and file.is_file()]
    about["sha256"] = {file.name: sha256(file) for file in files if not file.is_symlink()}
    (step / RUN_FILE).write_text(json.dumps(about))


def mutate(files: Sequence[str], step: str, rng: random.Random, bait: Bait) -> Change:
    """Mutate one file; every second time the hashes are made to fit."""
    change = mutate_one(files, rng, bait)
    forged = rng.random() < 0.5 and not change.files[0].endswith((RUN_FILE, "last"))
    if forged:
        rehash(Path(step))
    return Change(change.what + (", rehashed" if forged else ""), change.files, forged)


def make_state_file() -> None:
    """A checkpoint of a few numbers."""
    store(Path()).save(2, *make_state(seed=0, steps=2))


def restore() -> Result:
    """Go on from the newest checkpoint; facts: its step, and a hash of all that came back."""
    found = find_checkpoint(Path("checkpoints"), "auto")
    if found is None:
        return Result(REFUSED, said="no complete checkpoint in checkpoints")
    distributed, optimizer = make_state(seed=1, steps=0)
    step = store(Path()).restore(found, distributed, optimizer)
    tensors = [*distributed.model.state_dict().values()]
    for parameter in distributed.model.parameters():
        tensors += optimizer.state[parameter].values()
    return Result(RIGHT, [step, digest(*(tensor.numpy().tobytes() for tensor in tensors))])


def weights_differ(facts: Any, expected: Any) -> str | None:
    """Whether the tensors of a checkpoint have other sizes."""
    return unequal(facts["sizes"], expected["sizes"])


def go_on() -> Result:
    """Go on with a run for a step; facts: a hash of its weights."""
    before = Path("run/checkpoints/step_2/run.json").exists()
    facts = train_tiny(3, resume="auto", overwrite=not before)
    return Result(RIGHT, facts if before else "anew")


def run_differs(facts: Any, expected: Any) -> str | None:
    """Whether a run that went on ended with other weights. One that began anew may."""
    return None if facts == "anew" else unequal(facts, expected)


def as_bytes(step: str, name: str, _: Bait) -> None:
    """A tensor that is said to be an object, which torch would unpickle."""
    folder = Path(step)
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    key = sorted(metadata.state_dict_metadata)[0]
    place = next(value for index, value in metadata.storage_data.items() if index.fqn == key)
    metadata.state_dict_metadata[key] = BytesStorageMetadata()
    torch.save(gadgets()[name], folder / place.relative_path)
    place.offset, place.length = 0, (folder / place.relative_path).stat().st_size
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    rehash(folder)


def gadget_metadata(step: str, name: str, _: Bait) -> None:
    """Metadata that run code when they are unpickled."""
    (Path(step) / ".metadata").write_bytes(pickle.dumps(gadgets()[name]))
    rehash(Path(step))


def leads_to(step: str, name: Callable[[Bait], str], bait: Bait) -> None:
    """Metadata that place a tensor in another file."""
    folder = Path(step)
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    for place in metadata.storage_data.values():
        place.relative_path = name(bait)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    rehash(folder)


def hash_outside(step: str, bait: Bait) -> None:
    """Hashes of files outside."""
    path = Path(step) / RUN_FILE
    about = json.loads(path.read_text())
    about["sha256"] |= {bait.outside: "0" * 64, "../" * 12 + bait.outside[1:]: "0" * 64}
    path.write_text(json.dumps(about))


def pipe(step: str, _: Bait) -> None:
    """Tensors in a pipe that nobody writes to."""
    path = next(Path(step).glob("*.distcp"))
    path.unlink()
    os.mkfifo(path)


def attacks(step: str) -> tuple[Attack, ...]:
    """Attacks on a checkpoint."""
    ways: dict[str, Callable[[Bait], None]] = {}
    for name in ("system", "exec", "bytearray"):
        ways[f"object {name}"] = partial(as_bytes, step, name)
        ways[f"metadata {name}"] = partial(gadget_metadata, step, name)
    places: dict[str, Callable[[Bait], str]] = {
        "outside": lambda bait: bait.outside,
        "up": lambda bait: "../" * 12 + bait.outside.lstrip("/"),
        "folder": lambda _: ".",
    }
    for name, place in places.items():
        ways[f"leads {name}"] = partial(leads_to, step, place)
    ways |= {"hashes outside": partial(hash_outside, step), "pipe": partial(pipe, step)}
    made = (Attack(f"checkpoint: {name}", act) for name, act in ways.items())
    return (*made, *checkpoint_attacks(step))


TARGETS = (
    Target(
        "checkpoints",
        "restored",
        make_state_file,
        restore,
        named=("checkpoints",),
        attacks=attacks("checkpoints/step_2"),
        mutate=partial(mutate, FILES, "checkpoints/step_2"),
        differs=unequal,
    ),
    Target(
        "checkpoints",
        "weights",
        lambda: void(train_tiny(2)),
        partial(load, "run/checkpoints/step_2"),
        named=("run/checkpoints/step_2",),
        attacks=attacks("run/checkpoints/step_2"),
        mutate=partial(mutate, RUN_FILES, "run/checkpoints/step_2"),
        differs=weights_differ,
        absurd=larger,
    ),
    Target(
        "checkpoints",
        "gone on from",
        lambda: void(train_tiny(2)),
        go_on,
        named=("run/checkpoints",),
        mutate=partial(mutate, RUN_FILES, "run/checkpoints/step_2"),
        differs=run_differs,
    ),
)


def void(_: object) -> None:
    """Forget a value."""
