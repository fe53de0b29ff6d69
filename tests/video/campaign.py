"""All recipes, or the files of a folder, through every decoder, and a table of what came of it."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.video.conformance import OWN, Request, Verdict
from tests.video.recipes import fingerprint, recipes
from videomae.run.worker_pool import run_all

TIMEOUT_S = 300.0
"""For one file through one decoder, with everything that ffmpeg does before."""
PROGRAM = (sys.executable, "-m", "tests.video.conformance")

EXPLAINED = ("mjpeg_mp4-ss0.37", "mjpeg_mp4-ss1.53", "mjpeg_mov-9x7x30at25")
"""Healthy recipes of which ffmpeg 5.1 shows other frames, as docs/limits.md says."""
DAMAGED = {
    True: "damaged files of which ffmpeg complains, named by the scan",
    False: "damaged files of which ffmpeg says nothing, named by the scan",
}


@dataclass(frozen=True)
class Row:
    """One file through one decoder."""

    decoder: str
    name: str
    healthy: bool
    verdict: Verdict


def judge_all(requests: Iterable[Request], workers: int) -> Iterator[tuple[Request, Verdict]]:
    """The verdicts, as they come. A process that crashes or hangs is a fault of its file."""
    asked = ((request, asdict(request)) for request in requests)
    for request, found in run_all(PROGRAM, asked, workers, TIMEOUT_S):
        yield request, Verdict([found]) if isinstance(found, str) else Verdict(**found)


def recipe_requests(decoders: Sequence[str], folder: Path) -> list[Request]:
    """Every recipe for every decoder; the damaged ones, which only the scan is judged by, once."""
    files = str(folder / f"files-{fingerprint()}")
    return [
        Request(decoder, files, recipe=name)
        for name, recipe in recipes().items()
        for decoder in (decoders if recipe.healthy else decoders[:1])
    ]


def file_requests(decoders: Sequence[str], folder: Path, files: Path) -> list[Request]:
    """Every file below a folder, all taken to be healthy, for every decoder."""
    paths = sorted(path for path in files.rglob("*") if path.is_file())
    return [Request(decoder, str(folder), path=str(path)) for path in paths for decoder in decoders]


def run(requests: Sequence[Request], workers: int) -> list[Row]:
    """Judge, and print each fault as it is found."""
    rows = []
    for request, verdict in judge_all(requests, workers):
        name = request.recipe or Path(request.path or "").name
        healthy = request.recipe is None or recipes()[request.recipe].healthy
        rows.append(Row(request.decoder, name, healthy, verdict))
        if verdict.unmade:
            print(f"not made: {name} ({verdict.unmade})", flush=True)
        for fault in verdict.faults:
            print(f"{request.decoder}: {name}: {fault}", flush=True)
    return sorted(rows, key=lambda row: (row.decoder, not row.healthy, row.name))


def counts(row: Row) -> bool:
    """Whether a fault of this row is one of the project.

    Other decoders have theirs, no scan can name damage of which ffmpeg, too, says nothing, and some
    faults are explained.
    """
    told = row.healthy or bool(row.verdict.complaints)
    return row.decoder == OWN and told and row.name not in EXPLAINED


def summary(rows: Sequence[Row]) -> list[str]:
    """`n of m` for every decoder, and for the scan of damaged files; files not made apart."""
    judged = [row for row in rows if row.verdict.unmade is None]
    good, every = Counter[str](), Counter[str]()
    for row in judged:
        what = row.decoder if row.healthy else DAMAGED[bool(row.verdict.complaints)]
        every[what] += 1
        good[what] += not row.verdict.faults
    return [f"{what}: {good[what]} of {every[what]}" for what in every]


def write_table(rows: Sequence[Row], folder: Path) -> Path:
    """Write all verdicts as JSON, and the faults as a Markdown table beside it."""
    (folder / "conformance.json").write_text(json.dumps([asdict(row) for row in rows], indent=1))
    lines = [*summary(rows), "", "| decoder | file | fault |", "|---|---|---|"]
    for row in rows:
        faults = row.verdict.faults or [f"not made: {row.verdict.unmade}"] * bool(
            row.verdict.unmade
        )
        lines += [f"| {row.decoder} | {row.name} | {fault.replace('|', '/')} |" for fault in faults]
    path = folder / "conformance.md"
    path.write_text("\n".join(lines) + "\n")
    return path
