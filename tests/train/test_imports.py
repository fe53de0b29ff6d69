"""A run's first line costs little more than torch: what is large is imported when it is needed."""

import subprocess
import sys

import pytest

LATE = (
    "matplotlib",
    "timm",
    "torchvision",
    "sympy",
    "torch._dynamo",
    "torch._inductor",
    "torch.distributed.checkpoint",
    "torch.distributed.fsdp",
    "torch.distributed.tensor",
    "decord",
    "transformers",
    "wandb",
    "tensorboard",
)


@pytest.mark.long
@pytest.mark.parametrize("stage", ["pretraining.Pretraining", "finetuning.Finetuning"])
def test_a_stage_imports_what_it_needs_and_no_more(stage: str) -> None:
    module, name = stage.split(".")
    program = f"""
import sys
from videomae.train.{module} import {name}
from videomae.train.trainer import Trainer
print(*sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.split())
    assert "torch" in imported
    assert not imported & set(LATE)
