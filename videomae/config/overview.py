"""Commands that tell what there is: recipes, doctor, report."""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from videomae.config.lists import ListedConfig
from videomae.config.settings import check, check_bounds, setting


class Stage(Enum):
    """The two kinds of training."""

    pretrain = "pretrain"
    finetune = "finetune"


@dataclass(frozen=True)
class RecipesConfig:
    """python -m videomae.recipes"""

    stage: Stage | None = setting(None, often=True)
    """Only the exps of this command: pretrain or finetune; null: all."""
    match: str = setting("", often=True)
    """Only the exps whose names hold this."""


@dataclass(frozen=True)
class DoctorConfig(ListedConfig):
    """python -m videomae.doctor"""

    first: int = setting(20, at_least=1, often=True)
    """How many of its videos."""

    def __post_init__(self) -> None:
        self.check_lines("")


@dataclass(frozen=True)
class ReportConfig:
    """python -m videomae.report"""

    runs: Any = setting(None, example="'outputs/*'", often=True)
    """Quoted glob of run directories, or of their results.json; or a list of globs."""
    out: str = setting("outputs/report", is_path=True, often=True)
    """Directory that report.html is written to."""
    samples: int = setting(6, at_least=0)
    """Right and wrong test videos of each evaluation that are shown; 0: none."""

    def __post_init__(self) -> None:
        given = self.runs if isinstance(self.runs, list) else [self.runs]
        check(
            self.runs is None or all(isinstance(each, str) and each.strip() for each in given),
            f"runs must be a glob, or a list of them, got {self.runs!r}",
        )
        check_bounds(self)
