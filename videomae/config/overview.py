"""Settings of the commands that only read and report: recipes, doctor, report."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from videomae.config.lists import ListedConfig
from videomae.config.settings import check, check_bounds, setting


class RecipeStage(Enum):
    """The two kinds of training that a recipe can be for."""

    pretrain = "pretrain"
    finetune = "finetune"


@dataclass(frozen=True)
class RecipesConfig:
    """Settings of python -m videomae.recipes, which lists the exps."""

    stage: RecipeStage | None = setting(None, often=True)
    """Command whose exps are listed: pretrain or finetune; null: both."""
    match: str = setting("", often=True)
    """Text that the name of a listed exp contains; empty: all exps."""


@dataclass(frozen=True)
class DoctorConfig(ListedConfig):
    """Settings of python -m videomae.doctor, which checks the machine and a clip list."""

    first: int = setting(20, at_least=1, often=True)
    """Number of videos, from the start of the list, that are read as a test."""

    def __post_init__(self) -> None:
        self.check_lines("")
        check(
            self.list is not None or self.root is None,
            f"root={self.root} is the root of a clip list: give list=LIST too",
        )


@dataclass(frozen=True)
class ReportConfig:
    """Settings of python -m videomae.report, which makes a page of several runs."""

    runs: Any = setting(None, is_path=True, example="'outputs/*'", often=True)
    """Run directory, or quoted glob pattern of some, or of their results.json; or a list of these
    in brackets."""
    out: str = setting("outputs/report", is_path=True, often=True)
    """Output directory of report.html."""
    samples: int = setting(6, at_least=0)
    """Number of right and of wrong test videos of each evaluation that are shown; 0: none."""

    def __post_init__(self) -> None:
        given = self.runs if isinstance(self.runs, list) else [self.runs]
        check(
            self.runs is None or all(isinstance(each, str) and each.strip() for each in given),
            f"runs must be a glob, or a list of them, got {self.runs!r}",
        )
        check_bounds(self)
