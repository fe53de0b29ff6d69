"""The exps of the package and of the user: header of each file, its arithmetic, its table row.

python -m videomae.recipes prints the table.
"""

import re
from collections.abc import Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from hydra import compose
from omegaconf import open_dict

from videomae.config import ConfigError, RecipeStage, TrainConfig, config_dir
from videomae.run.given import SMALL
from videomae.run.overrides import quoted
from videomae.run.schema import config_object, register
from videomae.train.schedule import Plan, peak_lr

NUMBERS = ("batch", "lr", "epochs", "steps")
WORDS = ("weights", "reported", "source")
START = {RecipeStage.pretrain: "random weights", RecipeStage.finetune: "those of weights="}
"""Start of a run whose header says none, by its stage."""
COLUMNS = ("exp", "stage", "model", "data", *NUMBERS, "views", *WORDS)
"""The columns of the table; NUMBERS are set to the right, WORDS may be broken into lines."""


class Header(NamedTuple):
    """The comment that an exp's file opens with."""

    stage: RecipeStage
    overrides: list[str]
    """The overrides of its command line."""
    facts: dict[str, str]
    """Source, Start (fine-tuning), Reported, Unknown, Result and what else it says."""


def read_header(exp: Path) -> Header:
    """Read the header of an exp's file: a command line, then "Key: value" lines.

    A value may go on in lines that are indented by two more spaces.

    Raises:
        ConfigError: it gives no command line.
    """
    text = exp.read_text(encoding="utf-8")
    command_line = re.search(r"^#   python -m videomae\.(pretrain|finetune) (.+)", text, re.M)
    if command_line is None:
        raise ConfigError(
            f"{exp} does not say how to run it: give it a line such as "
            f"'#   python -m videomae.finetune +exp={exp.stem}'"
        )
    facts: dict[str, str] = {}
    for line in takewhile(lambda line: line.startswith("#"), text.splitlines()):
        if found := re.fullmatch(r"# ([A-Z]\w*): (.+)", line):
            facts[found[1]] = found[2]
        elif facts and line.startswith("#   "):
            facts[next(reversed(facts))] += line[3:]
    facts = {key: value.rstrip(".") for key, value in facts.items()}
    return Header(RecipeStage[command_line[1]], command_line[2].split(), facts)


def exps(folders: Sequence[Path] = ()) -> list[Path]:
    """Return the files of all exps; of two with one name, the one that +exp=NAME chooses.

    Args:
        folders: folders of configs beside that of the package, in the order of their search.
    """
    found: dict[str, Path] = {}
    for folder in (config_dir(), *folders):
        for path in (folder / "exp").glob("*.yaml"):
            found.setdefault(path.stem, path)
    return [found[name] for name in sorted(found)]


def plan_of(config: TrainConfig) -> Plan | None:
    """Return the arithmetic of a run on the published list; None where its length is unknown."""
    if config.data.num_train is None:
        return None
    return Plan.of(
        config.optim,
        num_clips=config.data.num_train,
        repeats=config.data.repeats,
        world=1,
        device_batch=config.run.untrained_batch,
    )


def row(exp: Path, header: Header, folders: Sequence[Path] = ()) -> tuple[str, ...]:
    """Return the row of one exp, by COLUMNS; it is composed as its command composes it.

    Args:
        folders: folders of configs beside that of the package.
    """
    register(header.stage.name)
    places = ", ".join(quoted(f"file://{folder}") for folder in folders)
    words = [*header.overrides, f"hydra.searchpath=[{places}]"]
    composed = compose(header.stage.name, words, return_hydra_config=True)
    data = composed.hydra.runtime.choices["data"]
    with open_dict(composed):
        del composed["hydra"]
    config = config_object(composed, header.stage.name)
    optim, plan = config.optim, plan_of(config)
    views = f"{config.data.segments} x {config.data.crops}"
    numbers = (
        f"{optim.global_batch:,}",
        f"{peak_lr(optim):.5g}",
        f"{optim.epochs:,}",
        f"{plan.total_steps:,}" if plan else "?",
    )
    return (
        exp.stem,
        header.stage.name,
        config.model.name,
        data,
        *(["fitted"] * len(numbers) if exp.stem == SMALL else numbers),
        views if header.stage is RecipeStage.finetune else "",
        header.facts.get("Start", START[header.stage]),
        header.facts.get("Reported", ""),
        header.facts.get("Source", ""),
    )
