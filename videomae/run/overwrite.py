"""Replacing of a run: which files of an output directory may be removed, and their removal.

Only files that this package's commands wrote, as their record says, are removed. Anything else
stays: evaluations, probes, features and reports in their own folders, other files, and the targets
of links.
"""

import logging
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path, PurePosixPath

from videomae.run.directory import (
    BAD_FILES,
    BEST,
    BEST_WEIGHTS,
    CHOICES,
    ENVIRONMENT,
    METRICS,
    MLFLOW,
    PREDICTIONS,
    PROFILE,
    RESULTS,
    RUN_FILE,
    SPIKES,
    TEST_FEATURES,
    WANDB,
    WARNINGS,
    WEIGHTS,
    RunExistsError,
)
from videomae.run.files import remove_temporaries
from videomae.run.record import RECORD, recorded, write_record

logger = logging.getLogger(__name__)

CHECKPOINTS = "checkpoints"
MADE_BY_A_RUN = (
    ENVIRONMENT,
    "config.yaml",
    CHOICES,
    METRICS,
    "tensorboard",
    CHECKPOINTS,
    WEIGHTS,
    BEST,
    BEST_WEIGHTS,
    BAD_FILES,
    SPIKES,
    WARNINGS,
    RESULTS,
    PREDICTIONS,
    TEST_FEATURES,
    "figures",
    PROFILE,
    WANDB,
    MLFLOW,
    ".hydra",
)
"""Names that a run may write. In a directory without a record, whatever has such a name beside an
environment.json counts as written by a run."""
OCTAL = re.compile(rb"\\([0-7]{3})")
"""Pattern of an octal escape, as /proc/self/mountinfo writes blanks in names."""
GO_ON = "go on with it by resume=auto, replace it by overwrite=true, or choose another output_dir"
"""Advice where output_dir holds a run that a training could go on with."""
RESULTS_OF_A_RUN = (WEIGHTS, RESULTS)
REMOVED_LAST = (METRICS, ENVIRONMENT)
"""Files that mark the directory of a run: with them, an interrupted removal can be continued."""


def check_unused(
    directory: Path, *, overwrite: bool, restart: bool = False, remedy: str = GO_ON
) -> None:
    """Check that a new run would neither mix with nor replace the files of a directory.

    Args:
        overwrite: whether files that this package's commands wrote there may be replaced.
        restart: whether the files of a run that was killed before its first checkpoint may be
            replaced. Such a directory holds environment.json, which a run writes first.
        remedy: advice where the directory holds a run, for the error.

    Raises:
        RunExistsError: it would.
    """
    if os.path.exists(directory) and not os.path.isdir(directory):
        raise RunExistsError(f"output_dir={directory} is a file: choose another output_dir")
    names = written_in(directory)
    found = [name for name in MADE_BY_A_RUN if os.path.lexists(directory / name)]
    if strange := [name for name in (*found, *_steps(directory)) if not _covered(name, names)]:
        what = "besides a run, things that it did not write" if names else "no run, but things"
        raise RunExistsError(
            f"output_dir={directory} holds {what} named like one's ({', '.join(strange)}): choose "
            "another output_dir, or move them away"
        )
    if overwrite:
        return
    link = directory / CHECKPOINTS
    if link.is_symlink() and not os.path.exists(link):
        raise RunExistsError(
            f"{link} leads to {os.readlink(link)}, which is not there: mount or make it and go on "
            "by resume=auto, or replace the run by overwrite=true"
        )
    kept = RESULTS_OF_A_RUN if restart else MADE_BY_A_RUN
    if found := [name for name in found if name in kept]:
        raise RunExistsError(
            f"output_dir={directory} already holds a run ({', '.join(found)}): {remedy}"
        )


def check_no_training(directory: Path) -> None:
    """Check that a directory holds no training run, and no run's file that no command recorded.

    Raises:
        RunExistsError: it does.
    """
    if os.path.exists(directory / METRICS):
        raise RunExistsError(
            f"output_dir={directory} holds a training run: choose another output_dir"
        )
    check_unused(directory, overwrite=True)


def check_replaceable(directory: Path) -> None:
    """Check that a training run can replace the files of a directory.

    Raises:
        RunExistsError: it holds results without a training, or files that cannot be removed.
    """
    if os.path.exists(directory / RESULTS) and not os.path.exists(directory / METRICS):
        raise RunExistsError(
            f"output_dir={directory} holds results and no training ({RESULTS}, as of an evaluation "
            "or a probe), which no training run replaces: choose another output_dir"
        )
    targets = _targets(directory, written_in(directory))
    folders = [folder for path in targets for folder in (path.parent, *_folders_in(path))]
    for folder in dict.fromkeys(folders):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise RunExistsError(
                f"output_dir={directory}: the run there cannot be removed, as {folder} cannot be "
                "written to: mend that, or choose another output_dir"
            )


def would_remove(directory: Path, path: Path) -> bool:
    """Return whether removing the run in `directory` would remove `path`."""
    real = Path(os.path.realpath(path))
    return any(
        real.is_relative_to(os.path.realpath(target.parent) / Path(target.name))
        for target in _targets(directory, written_in(directory))
        if not target.is_symlink()
    )


def begin_record(directory: Path) -> None:
    """Start the record of a directory that has none, with the files of a run that are there."""
    if recorded(directory) is None:
        write_record(directory, written_in(directory))


def clear_run(directory: Path, *, keep_links: bool = False) -> None:
    """Remove the files that this package's commands wrote into a directory, and nothing else.

    A link is removed, but not its target. The files that make checkpoints complete are removed
    first. If the removal is interrupted, calling this again continues it.

    Args:
        keep_links: whether links are left, such as one that leads to a larger disk.

    Raises:
        RunExistsError: something cannot be removed.
    """
    names = written_in(directory)
    targets = _targets(directory, names)
    if keep_links:
        targets = [path for path in targets if not path.is_symlink()]
    if mounted := [place for place in mounts() if any(_lies_in(place, path) for path in targets)]:
        raise RunExistsError(
            f"output_dir={directory}: {', '.join(mounted)} is mounted there, and may be others': "
            "unmount it, or choose another output_dir"
        )
    targets.sort(key=lambda path: path.name in REMOVED_LAST and 1 + REMOVED_LAST.index(path.name))
    try:
        for link in _links_in(targets):
            _unlink(link, directory)
        for folder in (path for path in targets if path.is_dir()):
            for run_file in (folder / RUN_FILE, *folder.glob(f"step_*/{RUN_FILE}")):
                run_file.unlink(missing_ok=True)
        for path in targets:
            _remove(path)
        _tidy(directory, names)
        (directory / RECORD).unlink(missing_ok=True)
    except OSError as error:
        raise RunExistsError(
            f"output_dir={directory}: {error.filename} cannot be removed ({error.strerror}): mend "
            "that; the same command then goes on"
        ) from error


def written_in(directory: Path) -> list[str]:
    """Return the files that this package's commands wrote into a directory, by its record.

    Without a record, they are told by their names. The names are relative, with slashes.
    """
    names = recorded(directory)
    if names is None:
        names = list(_named_like_a_run(directory)) if _begun(directory) else []
    return [name for name in names if PurePosixPath(name).parts[0] in MADE_BY_A_RUN]


def _begun(directory: Path) -> bool:
    """Return whether a directory holds the environment.json of a run, damaged or not."""
    try:
        with (directory / ENVIRONMENT).open("rb") as file:
            return re.match(rb'\s*(\{\s*"command"|$)', file.read(64)) is not None
    except (OSError, ValueError):
        return False


def _named_like_a_run(directory: Path) -> Iterator[str]:
    for name in MADE_BY_A_RUN:
        parts = [*_steps(directory), f"{name}/last"] if name == CHECKPOINTS else []
        parts = [part for part in parts if os.path.lexists(directory / part)]
        if parts or os.path.lexists(directory / name):
            yield from parts or [name]


def _steps(directory: Path) -> list[str]:
    """Return the checkpoints of a directory; none if their folder is a link."""
    folder = directory / CHECKPOINTS
    if folder.is_symlink():
        return []
    return sorted(f"{CHECKPOINTS}/{path.name}" for path in folder.glob("step_*"))


def _covered(name: str, names: Iterable[str]) -> bool:
    return any(each == name or each.startswith(f"{name}/") for each in names)


def _targets(directory: Path, names: Iterable[str]) -> list[Path]:
    """Return the existing paths of these names; if a folder above one is a link, that link."""
    found: dict[Path, None] = {}
    for name in names:
        path = directory
        for part in PurePosixPath(name).parts:
            path /= part
            if os.path.islink(path):
                break
        if os.path.lexists(path):
            found[path] = None
    return list(found)


def mounts() -> list[str]:
    """Return the mount points of the system (Linux); an empty list elsewhere."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    except OSError:
        return []
    places = (line.split(b" ")[4] for line in lines if line.count(b" ") > 4)
    return [os.fsdecode(OCTAL.sub(lambda found: bytes([int(found[1], 8)]), x)) for x in places]


def _lies_in(place: str, path: Path) -> bool:
    """Return whether a path is a folder or lies in it; a folder that is a link is not followed."""
    folder = os.path.realpath(path.parent) + os.sep + path.name
    return not path.is_symlink() and (place == folder or place.startswith(folder + os.sep))


def _folders_in(path: Path) -> Iterator[Path]:
    """Yield a folder and the folders below it, without following links; nothing for a file."""
    if not os.path.islink(path):
        yield from (Path(folder) for folder, _, _ in os.walk(path))


def _links_in(targets: Sequence[Path]) -> list[Path]:
    """Return the links among some files and folders, and those inside the folders."""
    below = (
        path for target in targets for folder in _folders_in(target) for path in folder.iterdir()
    )
    return [path for path in (*targets, *below) if path.is_symlink()]


def _unlink(link: Path, directory: Path) -> None:
    target = os.readlink(link)
    link.unlink()
    said = f"{link} was a link to {target}: the link is removed, what it led to stays"
    if link == directory / CHECKPOINTS:
        said += f"; new checkpoints go into {link} itself"
    logger.warning(said)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _tidy(directory: Path, names: Iterable[str]) -> None:
    """Remove the temporary files that killed processes left, and folders that are now empty."""
    for folder, name in (os.path.split(name) for name in names):
        place = directory / folder
        if os.path.realpath(place) == os.path.join(os.path.realpath(directory), folder).rstrip("/"):
            remove_temporaries(place, [escape(name)])
            if folder:
                with suppress(OSError):
                    place.rmdir()
