"""Error messages of a process to torchrun, the launcher that started it."""

import json
import os
import time
from contextlib import suppress
from pathlib import Path

from videomae.config import UserError

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
"""Environment variable with the file in which torchrun looks for the error of a failed process."""


class ProcessLost(UserError):  # noqa: N818  # says what is wrong better than an -Error would
    """An error: another process of the run has ended or cannot be reached."""


def tell_torchrun(message: str) -> None:
    """Give torchrun an error message to print; of several processes, it prints the first one's."""
    if file := os.environ.get(ERROR_FILE):
        record = {"message": message, "extraInfo": {"timestamp": str(int(time.time()))}}
        with suppress(OSError):  # a full disk may be what there is to tell
            Path(file).write_text(json.dumps({"message": record}))
