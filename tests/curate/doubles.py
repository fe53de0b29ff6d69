"""A program in place of the one that measures: it crashes, hangs or is killed as names say.

python -m tests.curate.doubles
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

from videomae.curate.measuring import Measured, error_row
from videomae.curate.shards import write_measured
from videomae.run.worker_pool import end_if_spent, serve


def answer(path: str, sha256: str, settings: dict[str, Any], target: str, most: int) -> Measured:
    """Do as the name of the video says; the file beside it counts how often."""
    name = Path(path).name
    with Path(f"{path}.tries").open("a") as tries:
        tries.write(f"{os.getppid()}\n")
    count = len(Path(f"{path}.tries").read_text().splitlines())
    if "crash" in name or ("unlucky" in name and count == 1):
        os.abort()
    if "hang" in name:
        time.sleep(60)
    if "slow" in name:
        time.sleep(1)
    if ("killed" in name and count <= 2) or "cursed" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hungry" in name:
        end_if_spent()
    if "full" in name:
        return Measured(out_of_disk=(28, "No space left on device"))
    row = error_row(sha256, "") | {"error": None, "start_frame": 0, "end_frame": 1}
    write_measured(Path(target), [row])
    if "late" in name:
        os.kill(os.getpid(), signal.SIGKILL)  # it has written, but cannot say so
    return Measured(clips=1, total_s=2.0, decode_s=1.0, video_s=3.0)


if __name__ == "__main__":
    serve(answer)
