"""Show every exp: what it trains on what, its arithmetic, its starting weights, and its source.

    python -m videomae.recipes
    python -m videomae.recipes stage=finetune match=ucf101

stage=pretrain or stage=finetune shows those of one command, match=TEXT those whose names hold it.
Steps are those of the published training list (data.num_train), "?" where its length is unknown;
lr is optim.base_lr x batch / 256. What a source does not say is under "Unknown:" in the exp's file,
configs/exp/NAME.yaml. Piped, the table is Markdown; narrow terminals want `| less -S`.
"""

import re
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from hydra import compose
from omegaconf import open_dict
from rich import box
from rich.console import JustifyMethod
from rich.table import Table
from rich.text import Text

from videomae.config import ConfigError, RecipesConfig, Stage, TrainConfig, config_dir
from videomae.run.command import command
from videomae.run.console import SafeConsole
from videomae.run.schema import config_object
from videomae.train.schedule import LR_UNIT, Plan

NUMBERS = ("batch", "lr", "epochs", "steps")
WORDS = ("weights", "reported", "source")
COLUMNS = ("exp", "stage", "model", "data", *NUMBERS, "views", *WORDS)
LEAST, WIDE = 160, 1000
"""Characters of a line on a terminal, at least, and elsewhere, at most."""


class Header(NamedTuple):
    """The comment that an exp's file opens with."""

    stage: Stage
    overrides: list[str]
    """Of its command line."""
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
    return Header(Stage[command_line[1]], command_line[2].split(), facts)


def exps() -> list[Path]:
    """The files of all exps."""
    return sorted((config_dir() / "exp").glob("*.yaml"))


def plan_of(config: TrainConfig) -> Plan | None:
    """The arithmetic of a run on the published list; None where its length is unknown."""
    if config.data.num_train is None:
        return None
    return Plan.of(
        config.optim,
        num_clips=config.data.num_train,
        repeats=config.data.repeats,
        world=1,
        device_batch=config.run.untrained_batch,
    )


def row(exp: Path, header: Header) -> tuple[str, ...]:
    """What the table says of one exp, by COLUMNS. It is composed as its command composes it."""
    composed = compose(header.stage.name, header.overrides, return_hydra_config=True)
    data = composed.hydra.runtime.choices["data"]
    with open_dict(composed):
        del composed["hydra"]
    config = config_object(composed, header.stage.name)
    optim, plan = config.optim, plan_of(config)
    views = f"{config.data.segments} x {config.data.crops}"
    return (
        exp.stem,
        header.stage.name,
        config.model.name,
        data,
        f"{optim.global_batch:,}",
        f"{optim.base_lr * optim.global_batch / LR_UNIT:.5g}",
        f"{optim.epochs:,}",
        f"{plan.total_steps:,}" if plan else "?",
        views if header.stage is Stage.finetune else "",
        header.facts.get("Start", "random weights"),
        header.facts.get("Reported", ""),
        header.facts.get("Source", ""),
    )


def recipes(config: RecipesConfig) -> None:
    """Print the table."""
    console = SafeConsole(highlight=False)
    console.width = max(console.width, LEAST) if console.is_terminal else WIDE
    table = Table(box=box.SIMPLE if console.is_terminal else box.MARKDOWN)
    for column in COLUMNS:
        justify: JustifyMethod = "right" if column in NUMBERS else "left"
        no_wrap = column not in WORDS
        table.add_column(column, justify=justify, no_wrap=no_wrap, overflow="fold")
    for exp in exps():
        header = read_header(exp)
        if config.match in exp.stem and config.stage in (None, header.stage):
            table.add_row(*map(Text, row(exp, header)))
    if not table.rows:
        of = f" of stage={config.stage.name}" if config.stage else ""
        raise ConfigError(f"no exp{of} has {config.match!r} in its name; without match= all show")
    console.print(table)


main = command("recipes")(recipes)

if __name__ == "__main__":
    main()
