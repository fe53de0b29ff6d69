"""What a process tells the program that has started it, torchrun."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from videomae.config import UserError

LAST_WORDS = "TORCHELASTIC_ERROR_FILE"
"""Where torchrun looks for them when a process has failed."""


class ProcessLost(UserError):  # noqa: N818  # says what is wrong better than an -Error would
    """Another process of the run has gone."""


def tell_torchrun(message: str) -> None:
    """Have torchrun end with this message; of several processes, with that of the first."""
    if file := os.environ.get(LAST_WORDS):
        record = {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}
        with suppress(OSError):  # a full disk may be what there is to tell
            Path(file).write_text(json.dumps({"message": record}))
