"""A working directory with little videos and lists, the same for both trees."""

import json
import shutil
from pathlib import Path

from tests.miniatures import write_clip

NUM_VIDEOS, CLASSES = 12, 3


def make(folder: Path) -> None:
    """Fill a directory that does not exist yet."""
    for number in range(NUM_VIDEOS):
        write_clip(folder / "videos" / f"{number}.mp4", number % CLASSES, frames=10, seed=number)
        own = folder / "own" / ("jump" if number % 2 else "run")
        own.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "videos" / f"{number}.mp4", own)
    names = [f"{number}.mp4" for number in range(NUM_VIDEOS)]
    labelled = [f"{name} {number % CLASSES}" for number, name in enumerate(names)]
    lists = {
        "videos.txt": names,
        "labelled.txt": labelled,
        "test.txt": labelled[:6],
        "empty.txt": [],
        "ambiguous.txt": [f"{name} 1 2" for name in names],
        "absent.txt": [f"absent/{name}" for name in names],
    }
    for name, lines in lists.items():
        (folder / name).write_text("".join(line + "\n" for line in lines))
    (folder / "filled").mkdir()
    (folder / "filled" / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 1.0}) + "\n")
