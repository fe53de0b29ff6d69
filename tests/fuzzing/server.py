"""A process that has everything imported, and forks one for each attempt: python -m this FOLDER.

It reads requests, JSON on a line of stdin, and answers with JSON on a line of stdout:

    {"target": "weights/own pretraining", "number": null}    make the originals, and use them once
    {"target": "weights/own pretraining", "number": 7, ...}  change a copy of them, and use it

Below FOLDER lie the originals of each target, and the folder of an attempt while it lasts.
"""

import contextlib
import gc
import importlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401  # looks for fonts once, outside of an attempt's folder
import torch

from tests.fuzzing.attacks import MARKER
from tests.fuzzing.base import REFUSED, RIGHT, Change, Result, Target, copy_here
from tests.fuzzing.documents import Bait
from tests.fuzzing.guard import End, guarded
from tests.fuzzing.planted import PLANTED
from tests.fuzzing.targets import TARGETS
from tests.fuzzing.training import compose
from tests.fuzzing.weights import tiny
from videomae.run.command import _what_to_do

TIMEOUT_S = 120.0
"""No attempt takes so long: it hangs."""
MORE_MB, KILLED_MB = 1000.0, 2000.0
"""Memory beyond that of the originals from which on an attempt fails, and is killed."""
ATTEMPT = "attempt"
RESULT, CHANGE, SAID, NATIVE = "result.json", "change.json", "said.txt", "native.txt"
MODULES = "modules.txt"
CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What steers a terminal, and must not be printed."""


@dataclass(frozen=True)
class Request:
    """One attempt."""

    target: str
    number: int | None
    """Of the mutation; of an attack, -1 for the first, -2 for the second; None: the originals."""
    seed: int = 0
    address: str = "127.0.0.1:9"
    outside: str = "/outside"
    expected: Any = None
    """What the attempt on the originals has read."""
    usual_mb: float = 0.0
    """The memory that it has taken."""


@dataclass(frozen=True)
class Answer:
    """What came of it."""

    outcome: str
    """One of base.OUTCOMES, or what went wrong."""
    detail: str
    what: str
    """The change."""
    seconds: float
    peak_mb: float
    facts: Any = None
    failed: bool = False
    more_mb: float = 0.0
    """Memory beyond the usual."""


class Server:
    """Answers requests.

    Args:
        folder: absolute.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.targets = {f"{each.kind}/{each.name}": each for each in (*TARGETS, *PLANTED)}

    def answer(self, request: Request) -> Answer:
        """Make the originals, or change a copy, and use it."""
        target = self.targets[request.target]
        originals = self.folder / "originals" / request.target.replace(" ", "_")
        place = self.folder / ATTEMPT
        if not originals.exists():
            originals.mkdir(parents=True)
            made = guarded(lambda: _in_folder(originals, target.make), 600, 1e6)
            if made.status:
                return Answer(
                    "originals not made", _words(originals), "", made.seconds, 0, None, True
                )
            for name in (SAID, NATIVE, "tmp"):
                _remove(originals / name)
        place.mkdir()
        try:
            return self._use(request, target, originals, place)
        finally:
            shutil.rmtree(place)

    def _use(self, request: Request, target: Target, originals: Path, place: Path) -> Answer:
        number = request.number
        root, notes = place / "root", place / "notes"
        notes.mkdir()
        if number is not None and number >= 0:
            _prepare(request, target, originals, root, notes)
        else:  # attacks may take much memory
            guarded(lambda: _prepare(request, target, originals, root, notes), 600, 1e6)
        if not (notes / CHANGE).exists():
            return Answer("not changed", (notes / "error").read_text(), "", 0, 0, None, True)
        content = json.loads((notes / CHANGE).read_text())
        change = Change(**content | {"files": tuple(content["files"])})
        most = request.usual_mb + KILLED_MB if number is not None else 1e6
        end = guarded(lambda: _attempt(target, root, notes), TIMEOUT_S, most)
        if number is None and (notes / MODULES).exists():
            import_all((notes / MODULES).read_text().split())
        return judged(request, target, change, end, root, notes)


def import_all(names: list[str]) -> None:
    """Import what an attempt has imported, so that those after it need not."""
    for name in names:
        with suppress(Exception):
            importlib.import_module(name)
    gc.collect()
    gc.freeze()  # collections in the attempts' processes would copy what they share with this one


def _prepare(request: Request, target: Target, originals: Path, root: Path, notes: Path) -> None:
    """Copy the originals, and change the copy."""
    try:
        root.mkdir()
        os.chdir(root)
        copy_here(originals)
        bait = Bait(request.address, request.outside)
        number = request.number
        if number is None:
            change = Change("nothing")
        elif number < 0:
            attack = target.attacks[-1 - number]
            name = attack.act(bait)
            change = Change(attack.name, (name,) if name else (), attack.forged)
        else:
            rng = random.Random(f"{request.seed} {request.target} {number}")
            change = target.change(rng, bait)
        (notes / CHANGE).write_text(json.dumps(asdict(change)))
    except BaseException:
        (notes / "error").write_text(traceback.format_exc())
    finally:
        os.chdir("/")


@contextlib.contextmanager
def _words_kept(notes: Path) -> Iterator[None]:
    """Keep what is printed: by Python in one file, by native code in another."""
    notes.mkdir(exist_ok=True)
    native = os.open(notes / NATIVE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(native, 1)
    os.dup2(native, 2)
    with (notes / SAID).open("w", buffering=1, errors="backslashreplace") as said:
        sys.stdout = sys.stderr = said
        yield


def _in_folder(folder: Path, work: Callable[[], Any]) -> Any:
    """Do some work in a folder, with a folder of temporary files of its own."""
    os.chdir(folder)
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    with _words_kept(folder):
        try:
            return work()
        except BaseException:
            traceback.print_exc()
            raise


def _attempt(target: Target, root: Path, notes: Path) -> None:
    """Use what lies in `root`, and write how that ended."""
    os.chdir(root)
    temporary = notes / "tmp"
    temporary.mkdir()
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    result, trace, before = None, "", set(sys.modules)
    with _words_kept(notes):
        try:
            result = target.attempt()
        except Exception as error:
            message = _what_to_do(error, "")
            if message is None:
                trace = traceback.format_exc()
            else:
                result = Result(REFUSED, said=message)
        content = {"trace": trace} if result is None else asdict(result)
        (notes / MODULES).write_text("\n".join(set(sys.modules) - before))
        temporary = notes / f"{RESULT}.new"
        temporary.write_text(json.dumps(content))
        temporary.rename(notes / RESULT)


def judged(
    request: Request, target: Target, change: Change, end: End, root: Path, notes: Path
) -> Answer:
    """What came of an attempt."""

    def failed(outcome: str, detail: str = "") -> Answer:
        return Answer(outcome, detail, what, end.seconds, end.peak_mb, None, True)

    what = f"{' '.join(change.files)}: {change.what}" if change.files else change.what
    if end.stopped:
        return failed("killed", f"{end.stopped}; {_words(notes)}")
    if end.status < 0:
        return failed(signal.Signals(-end.status).name, _words(notes))
    if not (notes / RESULT).exists():
        return failed(f"status {end.status}", _words(notes))
    content = json.loads((notes / RESULT).read_text())
    if trace := content.get("trace"):
        return failed("traceback", trace)
    result = Result(**content)
    if (root / MARKER).exists():
        return failed("code was run")
    if request.number is not None and end.peak_mb > request.usual_mb + MORE_MB:
        return failed("memory", f"{end.peak_mb:.0f} MB, usually {request.usual_mb:.0f}")
    printed = (notes / SAID).read_text(errors="replace")
    if found := CONTROL.search(printed):
        return failed("steers the terminal", repr(printed[max(0, found.start() - 80) :][:200]))
    if (reason := _wrong(request, target, change, result)) is not None:
        return failed("wrong", reason)
    detail, more = result.said[:300], end.peak_mb - (request.usual_mb or end.peak_mb)
    return Answer(
        result.outcome, detail, what, end.seconds, end.peak_mb, result.facts, more_mb=more
    )


def _wrong(request: Request, target: Target, change: Change, result: Result) -> str | None:
    """What is wrong with a result, if anything."""
    if request.number is None:
        return (
            None if result.outcome == RIGHT else f"the originals: {result.outcome}: {result.said}"
        )
    if result.outcome != RIGHT:
        names = [*target.named]
        for file in map(Path, change.files):
            names += [file.name, *(str(part) for part in file.parents if str(part) != ".")]
        if not any(name in result.said for name in names):
            return f"names none of {names[:5]}: {result.said[:500]}"
        folder = "folder in its place" in change.what  # that nothing can be written to
        if target.must_go_on and result.outcome == REFUSED and not folder:
            return f"refused, though this file may not stop it: {result.said[:500]}"
        return None
    if (reason := target.absurd(result.facts, request.expected)) is not None:
        return reason
    return None if change.forged else target.differs(result.facts, request.expected)


def _words(notes: Path) -> str:
    """The end of what an attempt printed."""
    found = ""
    for name in (SAID, NATIVE):
        with suppress(OSError):
            found += (notes / name).read_text(errors="replace")[-3000:]
    return found


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def main() -> None:
    """Answer requests until there are no more."""
    torch.set_num_threads(1)
    tiny()
    compose()
    server = Server(Path(sys.argv[1]).absolute())
    import_all([])
    own = os.dup(1)
    os.dup2(2, 1)
    for number, line in enumerate(sys.stdin):
        with suppress(OSError):
            os.open(f"/dev/null/begin/{number}", os.O_RDONLY)
        answer = server.answer(Request(**json.loads(line)))
        with suppress(OSError):
            os.open(f"/dev/null/end/{number}", os.O_RDONLY)
        os.write(own, json.dumps(asdict(answer)).encode() + b"\n")


if __name__ == "__main__":
    main()
