"""How one video file is made: a command, and the files that it begins with."""

import hashlib
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tests.video.recipes.edits import EDITS

TIMEOUT_S = 120
"""No recipe takes so long: its command hangs."""


class RecipeError(Exception):
    """A recipe that cannot be made on this machine."""


@dataclass(frozen=True)
class Recipe:
    """How one video file is made: by ffmpeg, or by an edit in Python."""

    name: str
    """The file's name without its ending; unique."""
    ending: str
    """The file's ending without the dot; it stands for the container."""
    codec: str
    """The codec of the pictures."""
    command: tuple[str, ...]
    """Begins with `ffmpeg` or the name of an edit; `{0}`, `{1}`, `{out}` stand for files."""
    sources: tuple["Recipe", ...] = ()
    """What has to be made first."""
    healthy: bool = True
    """Whether ffmpeg can show all that was put in; else the file is damaged."""
    concealed: bool = False
    """Whether the damage may leave the pictures as they are in the first of `sources`."""

    torn: bool = False
    """Whether ffmpeg shows frames built on others than they were made from: a scan may object."""

    def file(self, folder: Path) -> Path:
        """The path of the file below `folder`."""
        return folder / f"{self.name}.{self.ending}"


def ffmpeg(*arguments: str) -> tuple[str, ...]:
    """A command that writes the file of a recipe."""
    return ("ffmpeg", "-v", "error", "-y", *arguments, "{out}")


def derive(
    source: Recipe, what: str, *command: str, ending: str | None = None, more: Sequence[Recipe] = ()
) -> Recipe:
    """A recipe that does something to the file of another one."""
    ending = ending or source.ending
    name = f"{source.name}-{what}"
    return Recipe(name, ending, source.codec, tuple(command), (source, *more))


def damaged(recipe: Recipe, *, concealed: bool = False) -> Recipe:
    """The recipe, of a file that is to be called damaged."""
    return replace(recipe, healthy=False, concealed=concealed)


def make(recipe: Recipe, folder: Path) -> Path:
    """Make the file of a recipe, unless it is there. Several processes may do so at once.

    Raises:
        RecipeError: it cannot be made on this machine.
    """
    path = recipe.file(folder)
    if path.exists():
        return path
    sources = [make(source, folder) for source in recipe.sources]
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"making-{os.getpid()}.{recipe.ending}"
    try:
        if recipe.command[0] == "ffmpeg":
            _run(recipe, sources, partial)
        else:
            edit, *arguments = recipe.command
            EDITS[edit](sources, partial, *arguments)
        if partial.stat().st_size == 0:
            raise RecipeError(f"{recipe.name}: nothing was written")
        partial.replace(path)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise RecipeError(f"{recipe.name}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return path


def fingerprint() -> str:
    """A name for the recipes as they are now, to keep their files apart from those of others."""
    code = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in code)).hexdigest()[:12]


def _run(recipe: Recipe, sources: Sequence[Path], out: Path) -> None:
    """Run the command of a recipe.

    Raises:
        RecipeError: it fails.
    """
    line = [part.format(*sources, out=out) for part in recipe.command]
    done = subprocess.run(
        line, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=TIMEOUT_S
    )
    if done.returncode != 0:
        words = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise RecipeError(f"{recipe.name}: {words[0][:300]}")
