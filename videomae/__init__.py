"""Self-supervised pre-training of video transformers on unlabelled clips, and fine-tuning.

The commands are `python -m videomae.pretrain`, `finetune`, `evaluate`, `probe`, `predict`,
`extract` and `reconstruct`; each explains itself with --help.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from videomae.weights.load import load_model

__all__ = ["load_model"]


def __getattr__(name: str) -> Any:
    """Import the model, and with it torch, when it is asked for."""
    if name != "load_model":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from videomae.weights.load import load_model

    return load_model
