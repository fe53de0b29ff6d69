"""Self-supervised pre-training of video transformers on unlabelled clips, and fine-tuning.

The commands are `python -m videomae.pretrain`, `finetune`, `evaluate`, `probe`, `predict`,
`extract` and `reconstruct`; each explains itself with --help.
"""

import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videomae.evaluation.trained import load
    from videomae.run.composing import config_for
    from videomae.weights.load import load_model

    __version__: str

__all__ = ["__version__", "config_for", "load", "load_model"]

PLACES = {
    "config_for": "videomae.run.composing",
    "load": "videomae.evaluation.trained",
    "load_model": "videomae.weights.load",
}
"""Modules of the functions that are imported when they are asked for, as most import torch."""

WINDOWS = (
    "videomae runs on Linux and macOS, not on Windows itself: install it in the Windows Subsystem "
    "for Linux (wsl --install)"
)
IS_COMMAND = "".join(sys.argv[:1]).rpartition("/")[2] in ("-m", "videomae")
"""Whether the package is being imported by `python -m videomae.NAME` or the program `videomae`."""
if sys.platform == "win32":
    raise SystemExit(WINDOWS) if IS_COMMAND else ImportError(WINDOWS)

if IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # A command is being imported, which takes seconds: Ctrl-C ends it without a word, until
    # videomae.run.command has taken over.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def __getattr__(name: str) -> Any:
    """Return __version__, or one of the functions in PLACES, imported only on demand."""
    if name == "__version__":
        from importlib.metadata import version

        return version("videomae")
    if name not in PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(PLACES[name]), name)
