"""What a run decides by measuring changes how fast it is, not what it learns."""

from pathlib import Path

import pytest

from tests.train import STEPS, finetuning, metrics, pretraining, train
from videomae.config import ConfigError


@pytest.mark.parametrize("backend", ["flash", "math"])
@pytest.mark.parametrize("make", [pretraining, finetuning])
def test_the_losses_are_the_same_however_attention_is_computed(
    videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    make: type,
    backend: str,
) -> None:
    plain = metrics(train(make(videos, tmp_path / "plain")))
    assert "attention of" not in capsys.readouterr().err
    other = metrics(train(make(videos, tmp_path / "other", f"run.attention={backend}")))
    said = capsys.readouterr().err
    assert len(plain) == len(other) == STEPS
    for ours, theirs in zip(other, plain, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        assert ours["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
    # 2 x 4 x 4 tokens: a quarter is visible, half are decoded
    tokens = {"encoder": 8, "decoder": 24} if make is pretraining else {"encoder": 32}
    for part, number in tokens.items():
        assert f"attention of the {part} by {backend}, {number} tokens x " in said


def test_what_a_device_does_not_have_is_refused(videos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run\.attention=cudnn: cpu has no .* at auto"):
        train(pretraining(videos, tmp_path, "run.attention=cudnn"))
    assert not (tmp_path / "metrics.jsonl").exists()
