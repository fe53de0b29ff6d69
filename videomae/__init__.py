"""Self-supervised pre-training of video transformers on unlabelled clips, and fine-tuning.

The commands are `python -m videomae.pretrain`, `finetune`, `evaluate`, `probe`, `predict`,
`extract` and `reconstruct`; each explains itself with --help.
"""

from videomae.model import load_model

__all__ = ["load_model"]
