"""What is looked at before a run begins; nothing is written yet."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from videomae.config import ConfigError, DataConfig, Precision, RunConfig, TrainConfig
from videomae.files import DOES_NOT_EXIST, why_missing
from videomae.lists.clips import Clip, ClipList, read_clips
from videomae.model.formats import read_weights
from videomae.model.weights import Link, Weights
from videomae.report.console import Say
from videomae.report.overwrite import check_replaceable, check_unused, would_remove
from videomae.train.checkpoint import find_checkpoint, parents_of
from videomae.video.opening import check_decoder, pack_at

MEANINGS = {
    "data.train_list": ("the clip list to train on", "/path/to/train.txt"),
    "data.test_list": ("the clip list to evaluate on", "/path/to/test.txt"),
    "data.val_list": ("the clip list to choose the best weights on", "/path/to/val.txt"),
    "data.root": ("the folder that the list's paths are relative to", "/path/to/videos"),
    "data.classes": ("how many classes the labels have", "101"),
    "weights": ("the weights to start from", "/path/to/weights.safetensors"),
    "target": ("what is written", "/path/to/converted.safetensors"),
    "format": ("how it is written", "videomae"),
    "dataset": ("what the lists are made of", "ucf101"),
    "videos": ("the folder below which the videos lie", "/path/to/videos"),
    "annotations": ("the data set's own annotation files", "/path/to/annotations"),
    "out": ("the directory that is written", "/path/to/out"),
    "runs": ("the runs to report on, as a quoted glob", "'outputs/*'"),
    "video": ("the video file to look at", "/path/to/video.mp4"),
}
MEANINGS |= {
    "list": ("a clip list", "/path/to/list.txt"),
    "root": MEANINGS["data.root"],
    **{f"probe.{n}": MEANINGS[f"data.{n}"] for n in ("train_list", "test_list", "root", "classes")},
}
SCRATCH = "scratch"
"""What `weights` says for random weights."""
CHECKED = 100
"""Videos of a list whose being there is checked before a run."""
UNCHECKED = (
    "data.classes",
    "probe.classes",
    "weights",
    "target",
    "format",
    "dataset",
    "out",
    "runs",
)
"""Settings that are no path, or one that is checked where it is used."""


def require(settings: Mapping[str, object]) -> None:
    """Check that these settings, given by their names, are set, and that their paths exist.

    Raises:
        ConfigError: naming all that is missing, and the overrides that give it.
    """
    rows = []
    for key, value in settings.items():
        meaning, example = MEANINGS[re.sub(r"^data\.sources\..*\.", "data.", key)]
        if value is None:
            rows.append(f"  {key} is not set: {meaning}; give {key}={example}")
        elif key not in UNCHECKED and (reason := why_missing(str(value))):
            rows.append(f"  {key}={value} {reason}: {meaning}")
    if rows:
        tips = {
            "  data.sources.": "A source that is left out needs nothing: '~data.sources.NAME'",
            "  data.t": "data.prepared=DIR gives lists and root: python -m videomae.prepare --help",
        }
        rows += [tip for key, tip in tips.items() if any(row.startswith(key) for row in rows)]
        raise ConfigError("not enough to start with:\n" + "\n".join(rows))


def check_run(config: TrainConfig) -> Path | None:
    """The checkpoint to go on from, if any; nothing is written yet.

    Raises:
        RunExistsError: the output directory holds a run that this one would mix with.
        ConfigError: it cannot be written to, its removal would take the starting weights along, or
            the run would train in fp16.
        CheckpointError: config.resume names no complete checkpoint.
    """
    check_precision(config.run)
    check_decoder(config.data.decoder)
    directory = Path(config.output_dir)
    check_place("output_dir", directory)
    checkpoint = find_checkpoint(directory / "checkpoints", config.resume)
    if not is_own(checkpoint, directory):
        restart = config.resume == "auto"
        check_unused(directory, overwrite=config.overwrite, restart=restart)
        check_replaceable(directory)
        weights = Path(config.weights or SCRATCH)
        own = os.path.realpath(weights) == os.path.realpath(directory)
        if own or would_remove(directory, weights):
            raise ConfigError(
                f"weights={config.weights} lies in output_dir={directory}, which a new run "
                "replaces: choose another output_dir"
            )
    return checkpoint


def check_precision(run: RunConfig) -> None:
    """Check that what is not an evaluation does not run in fp16.

    Raises:
        ConfigError: it would.
    """
    if run.precision is Precision.fp16:
        raise ConfigError(
            "run.precision=fp16 is for evaluate and predict: small gradients vanish in it, and "
            "features are kept in bf16 or float32; leave run.precision at auto"
        )


def check_place(key: str, path: Path) -> None:
    """Check that a directory can be made, or filled, at `path`.

    Raises:
        ConfigError: naming the setting.
    """
    there = next(place for place in (path, *path.absolute().parents) if os.path.exists(place))
    if not os.path.isdir(there) or not os.access(there, os.W_OK | os.X_OK):
        what = "cannot be written to" if os.path.isdir(there) else "is a file"
        raise ConfigError(f"{key}={path}: {there} {what}; choose another {key}")
    reason = why_missing(path)
    if reason and (os.path.islink(path) or reason != DOES_NOT_EXIST):
        raise ConfigError(f"{key}={path} {reason} and cannot be made; choose another {key}")


def lists_of(data: DataConfig) -> dict[str, str | None]:
    """The settings that say what is trained on, a pair of each source, and their values."""
    return {
        f"{section}.{name}": getattr(part, name)
        for section, part in data.parts().items()
        for name in ("train_list", "root")
    }


def training_clips(data: DataConfig, *, labelled: bool) -> ClipList:
    """The clips of the training list, or of the sources' lists one after the other.

    Raises:
        ClipListError: a list cannot be read.
        ConfigError: its videos are not there.
    """
    lists = []
    for section, part in data.parts().items():
        key = f"{section}.train_list"
        lists.append(read_clips(str(part.train_list), part, labelled=labelled, key=key))
        check_videos(lists[-1], part, key)
    return lists[0] if len(lists) == 1 else ClipList.joined(lists)


def check_videos(clips: Sequence[Clip], data: DataConfig, key: str) -> None:
    """Check that not all of the list's first videos are missing, as with a wrong root.

    Raises:
        ConfigError: naming the list and the root; or a pack's missing files.
    """
    first, prefix = clips[:CHECKED], key[: key.rfind(".") + 1]
    root = Path(data.root or "")
    pack = pack_at(root)
    if pack and (damage := pack.damage(thorough=False)):
        raise ConfigError(
            f"the pack {prefix}root={root} is not whole: {'; '.join(damage[:5])}. Copy it again; "
            f"python -m videomae.pack out={root} check=true reads all of it"
        )
    if not any(pack.holds(clip) if pack else os.path.exists(root / clip.path) for clip in first):
        raise ConfigError(
            f"none of the first {len(first)} videos of {key} is there: line {first[0].line} means "
            f"{Path(data.root or '') / first[0].path}. Are {prefix}root={data.root} and "
            f"{prefix}list_format={data.list_format.name} right?"
        )


def warn_of_shared(
    test: ClipList, key: str, others: Mapping[str, ClipList], say: Say
) -> dict[str, int]:
    """Say so where videos that are tested on are in a list that is trained or chosen on.

    Args:
        key: the setting that names the list of `test`.
        others: the other lists, by their settings.

    Returns:
        How many there are, by the setting of the other list, where there are any.
    """
    counts = {other: test.num_shared(clips) for other, clips in others.items()}
    shared = {other: count for other, count in counts.items() if count}
    for other, count in shared.items():
        say.line(
            f"WARNING: {count} of {len(test)} videos of {key} are in {other} too: the result is no "
            "measure of unseen videos"
        )
    return shared


def starting_weights(
    config: TrainConfig, checkpoint: Path | None
) -> tuple[Weights | None, tuple[Link, ...]]:
    """What config.weights names, and the parents of whatever is trained from it.

    A run that goes on holds them already: there they may be gone, but not be others.

    Raises:
        WeightsError: they cannot be read.
        CheckpointError: `checkpoint` cannot.
    """
    if config.weights in (None, SCRATCH):
        return None, ()
    gone = not os.path.exists(str(config.weights))
    if gone and checkpoint and (parents := parents_of(checkpoint)):
        return None, parents
    weights = read_weights(str(config.weights), like=config.model)
    return weights, weights.chain()


def is_own(checkpoint: Path | None, directory: Path) -> bool:
    """Whether the run in `directory` goes on, rather than a new one starts there."""
    own = os.path.realpath(directory / "checkpoints")
    return checkpoint is not None and os.path.dirname(os.path.realpath(checkpoint)) == own
