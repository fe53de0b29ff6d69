"""Self-supervised pre-training of video transformers on unlabelled clips, and fine-tuning.

The commands are `python -m videomae.pretrain`, `finetune`, `evaluate`, `probe`, `predict`,
`extract` and `reconstruct`; each explains itself with --help.
"""

import signal
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videomae.weights.load import load_model

    __version__: str

__all__ = ["__version__", "load_model"]

WINDOWS = (
    "videomae runs on Linux and macOS, not on Windows itself: install it in the Windows Subsystem "
    "for Linux (wsl --install)"
)
IS_COMMAND = sys.argv[:1] == ["-m"]
"""Whether the package is being imported by `python -m videomae.NAME`."""
if sys.platform == "win32":
    raise SystemExit(WINDOWS) if IS_COMMAND else ImportError(WINDOWS)

if IS_COMMAND and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    # A command is being imported, which takes seconds: Ctrl-C ends it without a word, until
    # videomae.run.command has taken over.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def __getattr__(name: str) -> Any:
    """Return __version__ or load_model, imported only on demand, since load_model imports torch."""
    if name == "__version__":
        from importlib.metadata import version

        return version("videomae")
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from videomae.weights.load import load_model

    return load_model
