"""The stages of curate, in their order, and which of them a command runs."""

import importlib.util
import logging
from pathlib import Path

from videomae.config import ConfigError, CurateConfig, CurateStage
from videomae.curate.table import SOURCES
from videomae.curate.tombstones import PLAN
from videomae.run.checks import require
from videomae.run.files import remove_temporaries

logger = logging.getLogger(__name__)

ORDER: tuple[CurateStage, ...] = tuple(
    stage for stage in CurateStage if stage is not CurateStage.all
)
MODEL_STAGES = (CurateStage.persons, CurateStage.text, CurateStage.embed)
"""Stages that need a model."""
GIVEN_BY = {
    CurateStage.persons: "persons.weights=, persons.detector= or persons.detections=",
    CurateStage.text: "text.model=rapidocr",
    CurateStage.embed: "embed.weights=",
}
"""Settings that make stage=all run a stage that needs a model."""


def needed(config: CurateConfig) -> list[str]:
    """Return the settings that the stages asked for cannot begin without."""
    if config.forget is not None:
        return ["out", "forget"]
    asked = config.stage in (CurateStage.all, CurateStage.sources)
    goes_on = config.stage is CurateStage.all and (Path(str(config.out)) / SOURCES).exists()
    return ["out", "source"] if asked and (config.source or not goes_on) else ["out"]


def run_stages(config: CurateConfig, out: Path) -> None:
    """Run the stages that the settings ask for, or forget.

    Raises:
        ConfigError: a stage lacks a setting, or what an earlier stage writes.
    """
    for folder in (out, out / "stages", out / "lists", out / "tests"):
        remove_temporaries(folder, ["*.parquet", "*.yaml", "*.json", "*.jsonl", "*.html"])
    if config.forget is not None:
        check_libraries("forget")
        from videomae.curate.forgetting import forget

        forget(config, out)
        return
    if (out / PLAN).exists():
        check_libraries("finishing a forgetting")
        from videomae.curate.forgetting import finish_forgetting

        finish_forgetting(config, out)
    if config.stage is not CurateStage.all:
        _run(config.stage, config, out)
        return
    problem: ConfigError | None = None
    for stage in ORDER:
        if stage is CurateStage.sources and config.source is None:
            continue
        if stage is CurateStage.contamination and not config.test_lists():
            continue
        if stage is CurateStage.subset and not config.list_sizes():
            continue
        if stage in MODEL_STAGES and not has_model(stage, config):
            continue
        try:
            _run(stage, config, out)
        except ConfigError as error:
            if stage is not CurateStage.subset:
                raise
            problem = error  # no clip is kept, for one: the page shows why
    left_out = [stage for stage in MODEL_STAGES if not has_model(stage, config)]
    for stage in left_out:
        logger.info(f"left out: stage {stage.value}; {GIVEN_BY[stage]} makes it run")
    if problem is not None:
        raise problem


def has_model(stage: CurateStage, config: CurateConfig) -> bool:
    """Return whether the settings name the model of a stage."""
    if stage is CurateStage.persons:
        return config.persons.is_given
    place = config.text.model if stage is CurateStage.text else config.embed.weights
    return place is not None


def _run(stage: CurateStage, config: CurateConfig, out: Path) -> None:
    logger.info(f"stage {stage.value}")
    if stage is CurateStage.sources:
        from videomae.curate.sources import find_sources

        find_sources(config, out)
    elif stage is CurateStage.measure:
        check_libraries("stage=measure")
        from videomae.curate.measurement import measure_sources

        measure_sources(config, out)
    elif stage is CurateStage.duplicates:
        check_libraries("stage=duplicates")
        from videomae.curate.duplicate_groups import find_duplicates

        find_duplicates(out)
    elif stage is CurateStage.contamination:
        check_libraries("stage=contamination")
        from videomae.curate.contaminating import find_contamination

        require(config, "tests")
        find_contamination(config, out)
    elif stage is CurateStage.persons:
        check_libraries("stage=persons")
        from videomae.curate.persons import find_persons

        find_persons(config, out)
    elif stage is CurateStage.text:
        check_libraries("stage=text")
        from videomae.curate.text_in_frames import find_text

        find_text(config, out)
    elif stage is CurateStage.embed:
        from videomae.curate.embedding import embed_clips

        embed_clips(config, out)
    elif stage is CurateStage.select:
        from videomae.curate.selection import select_clips

        select_clips(config, out)
    elif stage is CurateStage.page:
        check_libraries("stage=page")
        from videomae.curate.page import write_page

        write_page(config, out)
    else:
        from videomae.curate.subsets import write_lists

        require(config, "sizes")
        write_lists(config, out)


def check_libraries(what: str) -> None:
    """Check that the packages are installed that compute scores and fingerprints.

    Args:
        what: setting that needs them, for the error.

    Raises:
        ConfigError: one is not.
    """
    for module, package in (("cv2", "opencv-python-headless"), ("pdqhash", "pdqhash")):
        if importlib.util.find_spec(module) is None:
            raise ConfigError(
                f"{what} needs {package}: pip install 'videomae[curate]', or {package} beside "
                "this package"
            )
