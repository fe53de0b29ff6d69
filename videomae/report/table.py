"""The report of the demo: a table that compares its three runs, and figures."""

import json
import logging
from pathlib import Path

from rich.table import Table

from videomae.pictures.figures import save_curves
from videomae.run.console import console, log_to_console
from videomae.run.directory import METRICS, RESULTS
from videomae.run.log import logged
from videomae.run.sidefiles import is_metrics, read_rows

logger = logging.getLogger(__name__)


def demo_table(directory: Path) -> Table:
    """Return a table of losses, accuracy, speed and minutes of the runs pretrain, finetune,
    scratch."""
    table = Table(title=f"demo: {directory}", title_justify="left")
    columns = ("run", "loss first", "last", "top-1 %", "clips/s", "minutes")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for name in ("pretrain", "finetune", "scratch"):
        run = directory / name
        losses = logged(run, "loss")[1]
        results = run / RESULTS
        top1 = f"{json.loads(results.read_text())['top1']:.1f}" if results.exists() else ""
        speed, minutes = speed_and_minutes(run)
        row = (f"{losses[0]:.3f}", f"{losses[-1]:.3f}", top1, f"{speed:.0f}", f"{minutes:.1f}")
        table.add_row(name, *row)
    return table


def speed_and_minutes(run: Path) -> tuple[float, float]:
    """Return the clips per second and the minutes of a training run, from its metrics."""
    logs = read_rows(run / METRICS, is_metrics)
    rows = [row for row in logs if "step_s" in row]  # the others are of probes
    before = [0, *(row["step"] for row in rows)]
    seconds = [
        row["step_s"] * (row["step"] - last) for row, last in zip(rows, before, strict=False)
    ]
    clips = [row["clips_per_s"] * span for row, span in zip(rows, seconds, strict=True)]
    return sum(clips) / sum(seconds), sum(seconds) / 60


@log_to_console()
def demo_report(directory: Path) -> None:
    """Print the table of the demo and draw the fine-tuning losses in one figure."""
    figures = directory / "figures"
    curves = {name: logged(directory / name, "loss") for name in ("finetune", "scratch")}
    title = "Fine-tuning: from pre-trained weights and from scratch"
    save_curves(figures / "finetuning.png", curves, "loss", title)
    console.print(demo_table(directory))
    for what, path in (
        ("reconstructions", directory / "pretrain" / "figures" / "reconstruction.png"),
        ("pre-training loss", directory / "pretrain" / "figures" / "loss.png"),
        ("fine-tuning losses", figures / "finetuning.png"),
        ("confusion matrix", directory / "finetune" / "figures" / "confusion.png"),
    ):
        logger.info(f"{what:18} {path}")
