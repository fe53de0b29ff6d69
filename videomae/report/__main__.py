"""Compare runs: a Markdown table, and one HTML page with curves, classes and videos.

    python -m videomae.report runs='outputs/*' out=outputs/report

runs= is a quoted glob of run directories, of directories that videomae.evaluate or videomae.probe
wrote, or of their results.json; several as runs='[outputs/ucf101*,outputs/k400/evaluation]'. The
table goes to stdout: data, weights, views, top-1 with its 95 % interval, and below runs that differ
in their seed or split their mean. out/report.html needs nothing else, offline too: the table,
curves, confused classes, the best and worst of them, test videos with what was predicted,
reconstructions (also of the pre-training that a run started from), unreadable videos, settings and
hashes. Frames are decoded from the videos that the run's config names; paths in it are those of the
directory where the run was started.

    samples=6                     right and wrong test videos that are shown of each evaluation

What is missing is shown as missing. A file that is damaged is named, and the status is 1.
"""

import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import cast

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from videomae.config import ConfigError, DataConfig, ReportConfig, UserError
from videomae.report.gather import CONFIG, RunRecord, chain, find_runs, read_run
from videomae.report.page import page
from videomae.report.samples import choose, read_samples
from videomae.report.summary import (
    COLUMNS,
    PRETRAINING_COLUMNS,
    WORDS,
    markdown,
    pretraining_rows,
    rows,
)
from videomae.run.checks import check_place, require
from videomae.run.command import command
from videomae.run.console import log_to_console, tell
from videomae.run.extensions import is_extension
from videomae.run.files import regular, write_text
from videomae.run.schema import schema
from videomae.video.opening import AUTO, check_decoder

logger = logging.getLogger("videomae.report")

PAGE = "report.html"
TITLE, MOST_HEAD = b"<title>videomae report</title>", 1024
"""Title of a report page, and the number of first bytes in which it stands."""


@log_to_console()
def report(config: ReportConfig) -> None:
    """Print the tables of config.runs and write the page."""
    require(config, "runs")
    out = Path(config.out)
    check_place("out", out)
    check_page(out / PAGE)
    asked = [read_run(directory) for directory in find_runs(config.runs)]
    known = {run.directory.resolve() for run in asked}
    started_from = {path.resolve(): path for run in asked for path in chain(run)}
    runs = asked + [read_run(path) for real, path in started_from.items() if real not in known]
    runs.sort(key=lambda run: run.is_pretraining)
    parents = {run.directory: chain(run) for run in runs}

    table = rows([run for run in asked if not run.is_pretraining])
    pretraining_table = pretraining_rows([run for run in runs if run.is_pretraining])
    tables = [markdown(COLUMNS, table, WORDS)] if table else []
    if pretraining_table:
        tables.append(markdown(PRETRAINING_COLUMNS, pretraining_table, WORDS))
    tell("\n".join(tables).removesuffix("\n"))
    samples = {
        run.directory: read_samples(
            choose(run.predictions, config.samples), data_of(run), hashes_of_test_list(run)
        )
        for run in runs
    }
    write_text(out / PAGE, page(runs, table, pretraining_table, parents, samples))
    damaged = [each for run in runs for each in run.damaged]
    for each in damaged:
        logger.info(each)
    logger.info(f"{len(runs)} runs: {out / PAGE}")
    if damaged:
        sys.exit(1)


def data_of(run: RunRecord) -> DataConfig | None:
    """Return the settings of a run's data set; None if its config has none or they are damaged."""
    if "data" not in run.config:
        return None
    try:
        if "${" in str(run.config["data"]):  # the environment's secrets, for one
            raise ValueError("it holds ${...}, which no run writes")
        merged = OmegaConf.merge(schema(DataConfig), run.config["data"])
        data = cast(DataConfig, OmegaConf.to_object(merged))
        if is_extension(data.decoder):  # the run may be another's: its code is not imported
            data = replace(data, decoder=AUTO)
        check_decoder(data.decoder)
        return data
    except (OmegaConfBaseException, UserError, ValueError) as error:
        reason = str(error).splitlines()[0]
        run.damaged.append(f"{run.directory / CONFIG}: data cannot be understood: {reason}")
        return None


def hashes_of_test_list(run: RunRecord) -> list[str]:
    """Return the SHA-256 of the test list that the run and its evaluation recorded."""
    at_start = run.environment.get("sha256")
    found = [result.sha256.get("test_list") for result in run.results]
    found.append(at_start.get("data.test_list") if isinstance(at_start, dict) else None)
    return [each for each in found if isinstance(each, str)]


def check_page(path: Path) -> None:
    """Check that a path is free, or holds a report page, which may be replaced.

    Raises:
        ConfigError: it holds something else.
    """
    if not os.path.lexists(path):
        return
    try:
        with regular(path).open("rb") as file:
            ours = TITLE in file.read(MOST_HEAD)
    except (OSError, ValueError):
        ours = False
    if not ours:
        raise ConfigError(
            f"{path} is there, and is no page of a report: choose another out, or move it away"
        )


main = command("report")(report)

if __name__ == "__main__":
    main()
