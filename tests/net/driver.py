"""Run commands of the package that is first on PYTHONPATH, each in a fork of this process.

Reads one JSON array a line, a command and its overrides, and answers each with a JSON array: its
exit status, what it wrote to stdout, and to stderr.
"""

import contextlib
import json
import os
import runpy
import sys
import tempfile
import traceback
from typing import BinaryIO

import hydra
import matplotlib.pyplot
import torch

LOADED = hydra, matplotlib.pyplot, torch
"""What takes long to import, and is no part of the package."""


def run(words: list[str]) -> tuple[int, str, str]:
    """Run `python -m videomae.WORDS` in a fork."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            become(words, out, err)
        _, status = os.waitpid(child, 0)
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode(errors="replace"))
    return os.waitstatus_to_exitcode(status), said[0], said[1]


def become(words: list[str], out: BinaryIO, err: BinaryIO) -> None:
    """Be that command, and end with its status."""
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    module = f"videomae.{words[0]}"
    sys.argv = [module, *words[1:]]
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
        status = 1
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status)


if __name__ == "__main__":
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)
