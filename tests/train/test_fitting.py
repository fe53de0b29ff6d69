"""Settings fitted to a number of videos: possible for any number, and never what was given."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st

from tests.conftest import composed
from videomae.config import ClipConfig, MaskKind
from videomae.model.presets import preset
from videomae.run.given import Given, given_of
from videomae.train.fitting import fitted
from videomae.train.schedule import Plan
from videomae.weights.weights import Kind, WeightsInfo

NOTHING = Given()


def fit(command: str, num_videos: int, given: Given = NOTHING, **more: Any) -> Any:
    about = {"world": 1, "on_gpu": False, "weights": None} | more
    overrides = [] if given.exp is None else [f"+exp={given.exp}"]
    return fitted(composed(command, *overrides), given, num_videos, **about)[0]


@drawn(
    st.sampled_from(["pretrain", "finetune"]),
    st.integers(1, 300_000),
    st.sampled_from([1, 2, 8]),
    st.booleans(),
)
def test_a_plan_can_be_made_for_any_number_of_videos(
    command: str, num_videos: int, world: int, on_gpu: bool
) -> None:
    config = fit(command, max(num_videos, world), world=world, on_gpu=on_gpu)
    plan = Plan.of(
        config.optim,
        num_clips=max(num_videos, world),
        repeats=config.data.repeats,
        world=world,
        device_batch=16,
        group=1,
    )
    assert 0 < plan.peak_lr <= 1e-3
    assert plan.warmup_steps < plan.total_steps or plan.total_steps == 1
    assert plan.total_steps >= 50


def test_the_demo_numbers_of_videos_get_about_the_demo_settings() -> None:
    optim = fit("finetune", 200).optim
    assert optim.global_batch == 32
    assert optim.base_lr * optim.global_batch / 256 == pytest.approx(1e-3)
    assert 20 <= optim.epochs <= 60
    assert fit("finetune", 200).augment.rand_ops == 0


def test_without_a_gpu_the_model_is_small_and_masks_are_random() -> None:
    config = fit("pretrain", 40)
    assert config.model.name == "vit_tiny"
    assert config.data.clip.size == 64
    assert config.mask.kind is MaskKind.random
    assert config.data.repeats == 4
    on_gpu = fit("pretrain", 40, on_gpu=True)
    assert on_gpu.model.name == "vit_base"
    assert on_gpu.data.clip == composed("pretrain").data.clip
    assert on_gpu.mask.kind is MaskKind.tube


def test_weights_give_the_model_and_the_clip() -> None:
    clip = ClipConfig(frames=4, stride=3, size=32)
    info = WeightsInfo(Kind.pretrain, "first", replace(preset("vit_tiny"), depth=2), clip)
    for given in (NOTHING, Given(exp="small")):
        config = fit("finetune", 40, given, weights=info)
        assert config.data.clip == clip
        assert config.model.depth == 2


def test_what_the_command_line_gives_stays() -> None:
    words = ["optim.epochs=3", "optim.global_batch=5", "model=vit_small", "data.clip.stride=7"]
    config = composed("finetune", *words, "data.videos=.")
    found, rows = fitted(config, given_of(words, None), 40, world=1, on_gpu=False, weights=None)
    assert (found.optim.epochs, found.optim.global_batch) == (3, 5)
    assert found.optim.warmup_epochs < 3
    assert found.model.name == "vit_small"
    assert (found.data.clip.stride, found.data.clip.frames) == (7, 8)
    whys = {key: why for key, _, why in rows}
    assert whys["optim.epochs"] == whys["model"] == "as given"
    assert whys["optim.base_lr"] != "as given"


def test_the_numbers_of_a_recipe_stay_where_its_batch_is_there() -> None:
    recipe = composed("finetune", "+exp=ucf101_vitb_v1")
    given = Given(exp="ucf101_vitb_v1")
    assert fit("finetune", 2_000, given) == recipe
    few = fit("finetune", 8, given)
    assert few.optim.global_batch <= 8 < recipe.optim.global_batch
    assert few.model == recipe.model


def test_lr_takes_the_place_of_a_fitted_base_lr() -> None:
    config = composed("finetune", "optim.lr=3e-4")
    told = given_of(["optim.lr=3e-4"], None)
    found, rows = fitted(config, told, 40, world=1, on_gpu=False, weights=None)
    assert found.optim.lr == 3e-4
    whys = {key: why for key, _, why in rows}
    assert whys["optim.lr"] == "as given"
    assert "optim.base_lr" not in whys
    others = fit("finetune", 40).optim
    assert replace(found.optim, lr=None) == others
