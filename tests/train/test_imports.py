"""A run's first line costs little more than torch: what is large is imported when it is needed."""

import subprocess
import sys
from pathlib import Path

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
AFTER_THE_FIRST_LINE = ("av", "PIL", "pyarrow", "safetensors", "videomae.model", "videomae.train")
FIRST_LINE = """
import logging, os, sys

class First(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), *sys.modules, sep="\\n", flush=True)
        os._exit(0)

logging.getLogger("videomae").addHandler(First())
from videomae.{command} import main
main()
"""


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("pretrain", ["model=vit_tiny"]),
        ("finetune", ["model=vit_tiny", "weights=scratch", "data.classes=2"]),
    ],
)
def test_a_run_says_where_it_writes_before_it_imports_what_is_large(
    command: str, words: list[str], tmp_path: Path
) -> None:
    (tmp_path / "list.txt").write_text("a.mp4 0\n")
    data = ["data.train_list=list.txt", "data.test_list=list.txt", "data.root=."]
    given = [*words, *(data if command == "finetune" else data[::2]), "output_dir=out"]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_LINE.format(command=command), *given],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    said, *imported = done.stdout.splitlines()
    assert said == f"{command}: output_dir=out", done.stderr
    assert "torch" in imported
    assert not set(imported) & {*LATE, *AFTER_THE_FIRST_LINE}


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
