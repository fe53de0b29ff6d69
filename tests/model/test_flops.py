"""The arithmetic of a step, against what torch counts while it is done."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from tests.train.test_step import finetuning, make_batch, pretraining
from videomae.config import ClipConfig, MaskConfig, MaskKind, token_grid
from videomae.data.mask import Masking
from videomae.model import preset
from videomae.model.flops import finetuning_flops, matmul_peak, pretraining_flops

VIEWS = 6


@pytest.mark.parametrize("make", [pretraining, finetuning])
def test_it_is_what_torch_counts(make: type) -> None:
    objective, batch = make(), make_batch(VIEWS)
    model = objective.model
    with FlopCounterMode(display=False) as counter:
        objective(*objective.inputs(batch, 1, 0).tensors).backward()
    if make is pretraining:
        assert batch.decoder_mask is not None
        counts = [int((~mask[0]).sum()) for mask in (batch.mask, batch.decoder_mask)]
        ours = pretraining_flops(model.config, *counts)
    else:
        ours = finetuning_flops(model.config, model.clip)
    # Torch counts the head, not the gradient of the pixels, and the attention's products again.
    assert counter.get_total_flops() / VIEWS == pytest.approx(ours, rel=0.15)


def test_the_tokens_of_the_released_recipe() -> None:
    giant, clip = preset("vit_giant"), ClipConfig(16, 4, 224)
    masking = Masking(MaskConfig(MaskKind.tube, 0.9, 0.5), token_grid(giant, clip))
    assert masking.num_tokens() == (208, 1024)
    plain = Masking(MaskConfig(MaskKind.tube, 0.9, 0), token_grid(giant, clip))
    assert plain.num_tokens() == (208, 1840)
    assert 1.2e12 < pretraining_flops(giant, 208, 1024) < 1.6e12


def test_a_peak_is_measured() -> None:
    before = torch.get_rng_state()
    assert 1e8 < matmul_peak(torch.device("cpu"), torch.float32, 256) < 1e14
    assert torch.equal(torch.get_rng_state(), before)
