"""Runs, packs and weights that an earlier commit wrote are read and gone on with."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import videomae
from tests.conftest import ROOT, composed
from videomae.evaluate import evaluate
from videomae.model.classifier import VideoClassifier
from videomae.pretrain import pretrain
from videomae.train.resuming import CheckpointError
from videomae.video.packs import Pack

EARLIER = ROOT / "tests" / "earlier"
MODEL = (
    *("model=vit_tiny", "model.dim=16", "model.depth=2", "model.heads=2", "model.mlp_dim=32"),
    *("model.decoder_dim=8", "model.decoder_heads=1", "model.decoder_mlp_dim=16"),
    "model.decoder_depth=1",
)
DATA = ("data.clip.frames=4", "data.clip.stride=2", "data.clip.size=16")
RUN = (
    *("run.workers=0", "run.device=cpu", "run.log_every=1", "run.image_every=0"),
    *("optim.global_batch=2", "optim.epochs=2", "optim.warmup_epochs=1"),
)


def rows_of(path: Path) -> list[dict[str, float]]:
    """The rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def there(tmp_path: Path) -> Path:
    """A copy that may be written to."""
    return Path(shutil.copytree(EARLIER, tmp_path / "earlier"))


def overrides(there: Path) -> tuple[str, ...]:
    """The settings of the earlier runs, with the pack where it lies now."""
    lists = (f"data.root={there / 'pack'}", f"data.train_list={there / 'pack' / 'list.txt'}")
    return (*MODEL, *DATA, *RUN, *lists)


def test_a_run_goes_on_as_it_did(there: Path) -> None:
    run = there / "pretrained"
    words = (*overrides(there), f"output_dir={run}", "resume=auto")
    pretrain(composed("pretrain", "+exp=demo_pretrain", *words))
    now, then = rows_of(run / "metrics.jsonl"), rows_of(there / "gone_on.jsonl")
    assert [row["step"] for row in now] == [1, 2, 3, 4]
    for row, expected in zip(now[2:], then, strict=True):
        assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-4)
    before = rows_of(EARLIER / "pretrained" / "metrics.jsonl")
    assert now[:2] == before


def test_a_run_with_other_settings_is_still_refused(there: Path) -> None:
    words = (*overrides(there), f"output_dir={there / 'pretrained'}", "resume=auto")
    config = composed("pretrain", "+exp=demo_pretrain", *words, "optim.base_lr=1")
    with pytest.raises(CheckpointError, match=r"optim\.base_lr: .* there, 1\.0 here"):
        pretrain(config)


def test_a_run_is_replaced_on_demand(there: Path) -> None:
    run = there / "pretrained"
    (run / "mine.txt").write_text("not the run's")
    words = (*overrides(there), f"output_dir={run}", "overwrite=true", "max_steps=1")
    pretrain(composed("pretrain", "+exp=demo_pretrain", *words))
    assert not (run / "checkpoints" / "step_2").exists()
    assert (run / "mine.txt").exists()
    assert [row["step"] for row in rows_of(run / "metrics.jsonl")] == [1]


def test_weights_say_what_they_said(there: Path, tmp_path: Path) -> None:
    weights = there / "finetuned" / "weights.safetensors"
    words = (
        *(*overrides(there), f"data.test_list={there / 'pack' / 'list.txt'}", "data.classes=2"),
        *("data.class_names=null", "data.segments=2", "data.crops=1", f"weights={weights}"),
    )
    out = tmp_path / "evaluation"
    evaluate(composed("evaluate", "+exp=demo_finetune", *words, f"output_dir={out}"))
    now = json.loads((out / "results.json").read_text())
    then = json.loads((EARLIER / "finetuned" / "results.json").read_text())
    for key in ("top1", "top5", "mean_class_accuracy", "num_videos", "views", "per_class"):
        assert now[key] == then[key]
    told = (rows_of(each / "predictions.jsonl") for each in (out, EARLIER / "finetuned"))
    for row, expected in zip(*told, strict=True):
        assert [guess["class"] for guess in row["top"]] == [g["class"] for g in expected["top"]]
        for guess, other in zip(row["top"], expected["top"], strict=True):
            assert guess["prob"] == pytest.approx(other["prob"], abs=2e-4)


def test_a_model_is_loaded(there: Path) -> None:
    model = videomae.load_model(there / "finetuned" / "weights.safetensors")
    assert isinstance(model, VideoClassifier)
    assert model(torch.zeros(1, 3, 4, 16, 16)).shape == (1, 2)


def test_every_byte_of_a_pack_is_as_it_was(there: Path) -> None:
    assert not Pack(there / "pack").damage(thorough=True)
    (shard,) = (there / "pack").glob("*.tar")
    damaged = bytearray(shard.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    shard.write_bytes(damaged)
    assert Pack(there / "pack").damage(thorough=True)
