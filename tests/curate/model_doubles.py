"""A program in place of one that computes columns of clips: it crashes or is killed as names say.

python -m tests.curate.model_doubles SPEC
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

from videomae.curate.clip_models import ClipAnswer
from videomae.run.worker_pool import serve


def answer(path: str, sha256: str, start: int, end: int, given: Any, *limits: int) -> ClipAnswer:
    """Do as the name of the video says; the file beside it counts how often."""
    name = Path(path).name
    Path(path).parent.mkdir(exist_ok=True)
    with Path(f"{path}.tries").open("a") as tries:
        tries.write(f"{os.getppid()}\n")
    count = len(Path(f"{path}.tries").read_text().splitlines())
    if "crash" in name or ("unlucky" in name and count == 1):
        os.abort()
    if "stuck" in name:
        time.sleep(60)
    if ("killed" in name and count <= 2) or "cursed" in name:
        os.kill(os.getpid(), signal.SIGKILL)
    if "slow" in name:
        time.sleep(0.3)
    if "broken" in name:
        return ClipAnswer(error=f"{path} cannot be decoded")
    if "changed" in name:
        return ClipAnswer(changed=True, error="it is not the file that stage=sources saw")
    return ClipAnswer({"text_fraction": (start + end + len(name)) / 1000}, total_s=1.0)


if __name__ == "__main__":
    serve(answer)
