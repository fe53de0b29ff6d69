"""Compare runs: a Markdown table, and one HTML page with curves, classes and videos.

    python -m videomae.report runs='outputs/*' out=outputs/report

runs= is a quoted glob of run directories, of directories that videomae.evaluate or videomae.probe
wrote, or of their results.json; several as runs='[outputs/ucf101*,outputs/k400/evaluation]'. A
directory stands for the evaluation below it too, and for the splits of data.split=all that are
there while their mean is not. The table goes to stdout: top-1 with its 95 % interval, data,
weights, views, and below runs that differ in their seed or split their mean. out/report.html needs
nothing else, offline too: the table, warnings of the training, curves, confused classes, the best
and worst of them, features of videos in a plane, maps of attention, test videos with what was
predicted, reconstructions (also of the pre-training that a run started from), unreadable videos,
commands, settings and hashes. Frames are decoded from the videos that the run's config names; paths
in it are those of the directory where the run was started.

    samples=6                     right and wrong test videos that are shown of each evaluation

What is missing is shown as missing. A file that is damaged is named, and the status is 1.
"""

import logging
import sys
from pathlib import Path

from videomae.config import ReportConfig
from videomae.run.command import command
from videomae.run.console import log_to_console, tell

logger = logging.getLogger("videomae.report")

PAGE = "report.html"


@log_to_console()
def report(config: ReportConfig) -> None:
    """Print the tables of config.runs and write the page."""
    from videomae.report.about import about_page
    from videomae.report.find import find_runs
    from videomae.report.gather import chain, read_run
    from videomae.report.origins import check_page, data_of, hashes_of_test_list
    from videomae.report.page import page
    from videomae.report.samples import choose, read_samples
    from videomae.report.summary import (
        COLUMNS,
        PRETRAINING_COLUMNS,
        fitted,
        markdown,
        pretraining_rows,
        rows,
    )
    from videomae.run.checks import check_place, require
    from videomae.run.environment import commit
    from videomae.run.files import write_text

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
    tables = [markdown(*fitted(COLUMNS, table))] if table else []
    if pretraining_table:
        tables.append(markdown(PRETRAINING_COLUMNS, pretraining_table))
    tell("\n".join(tables).removesuffix("\n"))
    samples = {
        run.directory: read_samples(
            choose(run.predictions, config.samples), data_of(run), hashes_of_test_list(run)
        )
        for run in runs
    }
    about = about_page(sys.argv, commit())
    write_text(out / PAGE, page(runs, table, pretraining_table, parents, samples, about))
    damaged = [each for run in runs for each in run.damaged]
    for each in damaged:
        logger.info(each)
    logger.info(f"{len(asked)} run{'s' * (len(asked) != 1)}: {out / PAGE}")
    if damaged:
        sys.exit(1)


main = command("report")(report)

if __name__ == "__main__":
    main()
