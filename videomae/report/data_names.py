"""Names of data sets for the report, where results.json does not hold one."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from videomae.lists.prepared import CUSTOM, OWN_LISTS
from videomae.lists.published import PARTS
from videomae.run.files import regular
from videomae.run.plain_yaml import plain_yaml


class UnknownChoiceError(ValueError):
    """A file of Hydra's that does not say which data config was chosen."""


def chosen_data(directory: Path) -> str | None:
    """Return NAME of data=NAME of a run; None: it stands for no data set, or is not recorded.

    A run with other classes, data.classes=N, is of other data.

    Raises:
        UnknownChoiceError: the record is damaged.
    """
    path = directory / ".hydra" / "hydra.yaml"
    if not os.path.isfile(path):
        return None
    try:
        hydra = plain_yaml(regular(path).read_text())["hydra"]
        name = str(hydra["runtime"]["choices"]["data"])
        words = [str(word).lstrip("+") for word in hydra.get("overrides", {}).get("task", [])]
    except (OSError, LookupError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnknownChoiceError(f"{path} does not say which data were chosen") from error
    except yaml.YAMLError as error:
        raise UnknownChoiceError(f"{path} does not say which data were chosen") from error
    replaced = any(word.startswith("data.classes=") for word in words)
    return None if replaced or name in (CUSTOM, "None") else name


def name_of_lists(setting: Callable[[str], Any]) -> str:
    """Return the name of the prepared directory, of the sources or of the list of a run; empty: it
    has none of them.

    The folder prepared/ of a run, and lists such as test.txt, go by the folder that they lie in.

    Args:
        setting: returns the value of a setting by its dotted name; None: it has none.
    """
    if prepared := setting("data.prepared"):
        folder = Path(str(prepared))
        return (folder.parent.name if folder.name == OWN_LISTS else "") or folder.name
    sources = setting("data.sources")
    if isinstance(sources, Mapping) and sources:
        return " + ".join(map(str, sources))
    path = Path(str(setting("data.test_list") or setting("data.train_list") or ""))
    return (path.parent.name if path.stem in PARTS else "") or path.stem
