"""The head that data.target names: of a new fine-tuning, or of weights."""

import json
import logging
import reprlib
from collections.abc import Sequence

from videomae.config import CLASS, MULTILABEL, REGRESSION, ConfigError, DataConfig
from videomae.evaluation.head import Head
from videomae.evaluation.heads import ClassHead, MultilabelHead, RegressionHead
from videomae.lists.clips import ClipList
from videomae.lists.names import class_names, read_names
from videomae.lists.targets import values_of
from videomae.run.extensions import extension, is_extension
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import WeightsInfo

logger = logging.getLogger(__name__)

HEADS: dict[str, type[Head]] = {
    CLASS: ClassHead,
    MULTILABEL: MultilabelHead,
    REGRESSION: RegressionHead,
}
"""The built-in heads, by the value of data.target."""


def new_head(data: DataConfig, clips: ClipList) -> Head:
    """Return the head that data.target names, as a fine-tuning on a list starts with it.

    Args:
        clips: the training list.

    Raises:
        ConfigError: it cannot be imported, or cannot learn from the list.
    """
    kind = head_class(data.target, "data.target")
    head = kind(output_names(data, clips), clips, {})
    names = list(getattr(head, "names", ()))
    if not names or len(set(names)) < len(names) or not all(type(name) is str for name in names):
        raise ConfigError(
            f"data.target={data.target}: its `names` are {reprlib.repr(names)}; they must be "
            "texts, all different, one of each output"
        )
    _check_state(data.target, head.state())
    return head


def _check_state(target: str, state: object) -> None:
    """Check that weights can hold what a head's `state` returns.

    Raises:
        ConfigError: they cannot; the error names the class.
    """
    try:
        fits = isinstance(state, dict) and bool(json.dumps(state, allow_nan=False))
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ConfigError(
            f"data.target={target}: its `state` returns {reprlib.repr(state)}, and must return a "
            "dict of what JSON holds: texts, Python's finite numbers, and lists and dicts of them"
        )


def target_of(info: WeightsInfo, target: str, key: str) -> str:
    """Return what weights were fine-tuned for: as the user's setting says, else as they say.

    Weights may come from others, so code that they name is not imported: what they say counts only
    where it is built in.

    Args:
        target: the user's setting; class, its default, stands for what the weights say.
        key: that setting's name, for messages.

    Raises:
        ConfigError: they were fine-tuned for something else.
        WeightsError: they need code of somebody's that the setting does not name.
    """
    if is_extension(target):
        if target != info.target:
            logger.warning(
                f"WARNING: {key}={target}, but the weights were fine-tuned with "
                f"data.target={info.target}: its numbers mean nothing unless both do the same"
            )
        return target
    if info.target not in HEADS:
        raise WeightsError(
            f"these weights were fine-tuned with data.target={info.target}, which is none of this "
            "project's heads, and weights are not trusted to name code: if you have it and trust "
            f"it, give {key}={info.target}"
        )
    if target not in (CLASS, info.target):
        raise ConfigError(
            f"{key}={target}, but the weights were fine-tuned with data.target={info.target}: "
            f"leave {key} out"
        )
    return info.target


def head_of(info: WeightsInfo, names: Sequence[str], target: str, key: str) -> Head:
    """Return the head that weights were fine-tuned with.

    Args:
        names: of its outputs.
        target: as `target_of` returned it.
        key: the setting that may have named it, for messages.

    Raises:
        ConfigError: it cannot be imported.
        WeightsError: what the weights say of it makes no sense.
    """
    return head_class(target, key)(names, None, info.head)


def head_class(target: str, key: str) -> type[Head]:
    """Return the class of a head by its name.

    Raises:
        ConfigError: it cannot be imported, or is no head.
    """
    if not is_extension(target):
        return HEADS[target]
    found = extension(key, target)
    if not (isinstance(found, type) and issubclass(found, Head)):
        raise ConfigError(
            f"{key}={target} is no class that extends videomae.evaluation.head.Head: see "
            "docs/extending.md"
        )
    return found


def output_names(data: DataConfig, clips: ClipList) -> list[str]:
    """Return the names of the outputs: of the classes, or of the numbers on each line.

    Args:
        clips: any list of the data set.

    Raises:
        ClipListError: data.class_names cannot be read, or does not name each once.
    """
    if data.target != REGRESSION:
        return class_names(data)
    count = len(values_of(clips[0].target))
    if data.class_names is None:
        return [str(place) for place in range(count)]
    on_each = "the count of numbers on each line"
    return read_names(data.class_names, count, "data.class_names", on_each)
