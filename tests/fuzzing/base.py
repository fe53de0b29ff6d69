"""What a target of the harness is: originals, ways to change a copy of them, and an attempt."""

import hashlib
import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.fuzzing.archives import mutate_file
from tests.fuzzing.documents import Bait

RIGHT, REFUSED, BAD = "right", "refused by name", "bad file"
OUTCOMES = (RIGHT, REFUSED, BAD)
"""The only ways in which an attempt may end."""


@dataclass(frozen=True)
class Result:
    """How an attempt ended."""

    outcome: str
    """One of OUTCOMES."""
    facts: Any = None
    """What was read, as JSON; compared with what is read from the originals."""
    said: str = ""
    """What a user was told, where the outcome is a refusal or a bad file."""


@dataclass(frozen=True)
class Change:
    """What was done to a copy of the originals."""

    what: str
    files: tuple[str, ...] = ()
    """Those that were changed, relative to the copy."""
    forged: bool = False
    """Whether checksums were made to fit, as somebody does who means harm: values may be others."""


@dataclass(frozen=True)
class Attack:
    """A change that is made by hand, in the folder of the copy."""

    name: str
    act: Callable[[Bait], str | None]
    """May return the name that a refusal is to tell."""
    forged: bool = True


Mutator = Callable[[random.Random, Bait], Change]
"""Changes the copy in the working directory."""


@dataclass(frozen=True)
class Target:
    """One way in which files of others are used.

    All callables work in the current directory, which holds the originals or a changed copy: paths
    are relative, so that originals have the same bytes wherever they are made.
    """

    kind: str
    name: str
    make: Callable[[], None]
    """Writes the originals."""
    attempt: Callable[[], Result]
    """Uses them, as a user does. Errors are judged as the commands judge them."""
    files: tuple[str, ...] = ("**/*",)
    """Globs of what is mutated."""
    named: tuple[str, ...] = ()
    """What a refusal may name besides the changed file and its directories."""
    attacks: Sequence[Attack] = ()
    mutate: Mutator | None = None
    """In the place of mutations by what a file is."""
    differs: Callable[[Any, Any], str | None] = field(default=lambda _, __: None)
    """What is wrong with facts of a copy whose checksums nobody forged, given the originals'."""
    absurd: Callable[[Any, Any], str | None] = field(default=lambda _, __: None)
    """What is wrong with the facts of any copy, given the originals'."""
    must_go_on: bool = False
    """Whether damage to these files may not be a reason to refuse."""

    def change(self, rng: random.Random, bait: Bait) -> Change:
        """Mutate the copy in the working directory."""
        return self.mutate(rng, bait) if self.mutate else mutate_one(self.files, rng, bait)


def files_like(globs: Sequence[str]) -> list[Path]:
    """The regular files below the working directory that the globs find, in their order."""
    found = {path for glob in globs for path in Path().glob(glob) if path.is_file()}
    return sorted(found)


def mutate_one(globs: Sequence[str], rng: random.Random, bait: Bait) -> Change:
    """Mutate one file; now and then put something that is no regular file in its place."""
    path = rng.choice(files_like(globs))
    if rng.random() < 0.04:
        return Change(replace_thing(path, rng), (str(path),))
    content, what = mutate_file(path, path.read_bytes(), rng, bait)
    path.write_bytes(content)
    return Change(what, (str(path),))


def replace_thing(path: Path, rng: random.Random) -> str:
    """Put something that is no regular file in the place of a file, or nothing."""
    path.unlink()
    kind = rng.choice(("missing", "empty", "folder", "fifo", "loop", "endless", "dangling"))
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "endless":
        path.symlink_to("/dev/zero")
    elif kind == "dangling":
        path.symlink_to("nowhere")
    return f"{kind} in its place"


def digest(*parts: bytes) -> str:
    """A short hash of some bytes."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()[:16]


def unequal(facts: Any, expected: Any) -> str | None:
    """Whether facts are other ones than those of the originals."""
    return None if facts == expected else f"read {str(facts)[:200]}, not {str(expected)[:200]}"


def copy_here(originals: Path) -> None:
    """Copy originals into the working directory."""
    shutil.copytree(originals, ".", dirs_exist_ok=True, symlinks=True)
