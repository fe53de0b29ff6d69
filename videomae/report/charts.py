"""The charts of a report: which curves of metrics.jsonl each shows. Add one here.

A curve must be among those that videomae.report.gather reads; videomae.pictures.line_chart draws.
"""

from typing import Any

from markupsafe import Markup

from videomae.evaluation.metrics import CLASSES_FOR_TOP5
from videomae.pictures import line_chart
from videomae.report.gather import RunRecord
from videomae.report.results import MAE, MAP
from videomae.report.summary import NONE

CHARTS = (
    ("Loss", ("loss",), True),
    ("Learning rate", ("lr",), False),
    ("Validation accuracy, %", ("val_top1", "val_top5"), False),
    ("Validation mean average precision, %", (f"val_{MAP}",), False),
    ("Validation mean absolute error", (f"val_{MAE}",), False),
    ("k-NN top-1, %", ("knn_top1",), False),
)
"""Title of each chart, its curves, and whether they are smoothed."""
LABELS = {"val_top1": "top-1", "val_top5": "top-5"}


def charts_of(run: RunRecord) -> list[dict[str, Any]]:
    """Return the charts of a run as the page shows them: title, drawing, legend, last value."""
    found = []
    for title, every, smooth in CHARTS:
        few = run.num_classes < CLASSES_FOR_TOP5
        names = [n for n in every if n in run.curves and not (few and n == "val_top5")]
        curves = [(LABELS.get(n, n), run.curves[n]) for n in names]
        points = [point for _, own in curves for point in own]
        if not points:
            continue
        lost = sum(point.value is None for point in points)
        note = f"{lost} of {len(points)} logged numbers were not finite" if lost else ""
        legend = [name for name, _ in curves] if len(curves) > 1 else []
        last = next((p.value for p in reversed(curves[0][1]) if p.value is not None), None)
        found.append(
            {
                "title": title,
                "svg": Markup(line_chart.line_chart(curves, smooth=smooth)),
                "legend": legend,
                "last": NONE if last is None else line_chart.shown(last),
                "note": note,
            }
        )
    return found
