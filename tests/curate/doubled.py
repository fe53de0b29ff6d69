"""Videos that do not exist, for engines that call the program of tests.curate.doubles."""

from pathlib import Path

from videomae.curate.engine import VideoJob
from videomae.curate.shards import Shards, key_of

DOUBLES = "tests.curate.doubles"
"""The program in place of the one that measures."""


def jobs(root: Path, *names: str) -> list[VideoJob]:
    return [VideoJob(root / name, name, key_of(name, {}), key_of(name, {"s": 1})) for name in names]


def tries(path: Path) -> int:
    """How often the measurement of a video was begun."""
    return len(Path(f"{path}.tries").read_text().splitlines())


def errors(out: Path, *names: str) -> dict[str, str | None]:
    """The error of each video's row."""
    keys = {key for job in jobs(out, *names) for key in (job.key, job.failure_key)}
    rows = Shards(out).read(keys).to_pylist()
    return {row["source_sha256"]: row["error"] for row in rows}
