"""Batch arithmetic and the learning rate, against tables and the reference's own numbers."""

import json
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import GOLDEN, composed
from videomae.config import ConfigError, OptimConfig, RunConfig
from videomae.data.mix import block_of, group_of
from videomae.run.given import Given, check_rates
from videomae.run.rates import warmup_cosine
from videomae.train.recipes import exps, read_header
from videomae.train.schedule import Plan


def optim(**settings: Any) -> OptimConfig:
    recipe = {
        "global_batch": 512,
        "base_lr": 1e-3,
        "min_lr": 1e-5,
        "betas": [0.9, 0.95],
        "epochs": 10,
        "warmup_epochs": 2,
    }
    return OptimConfig(**recipe | settings)


def plan(
    num_clips: int = 5_000, world: int = 1, device_batch: int = 32, group: int = 1, **settings: Any
) -> Plan:
    return Plan.of(
        optim(**settings),
        num_clips=num_clips,
        repeats=4,
        world=world,
        device_batch=device_batch,
        group=group,
    )


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 0.0), (1, 0.5), (2, 1.0), (3, 1.0), (5, 0.55), (6, 0.2318019)]
)
def test_warmup_cosine_at_known_steps(step: int, rate: float) -> None:
    found = warmup_cosine(step, peak=1.0, floor=0.1, warmup=3, total=7)
    assert found == pytest.approx(rate, rel=1e-6)


def test_every_rate_of_the_reference_schedule() -> None:
    golden = json.loads((GOLDEN / "golden.json").read_text())["schedule"]
    total = golden["epochs"] * golden["steps_per_epoch"]
    warmup = golden["warmup_epochs"] * golden["steps_per_epoch"]
    assert len(golden["values"]) == total == 70
    ours = [
        warmup_cosine(step, peak=golden["base"], floor=golden["final"], warmup=warmup, total=total)
        for step in range(total)
    ]
    assert ours == pytest.approx(golden["values"], rel=1e-12, abs=0)


@settings(deadline=None)
@given(warmup=st.integers(0, 30), rest=st.integers(1, 60), floor=st.floats(0, 1))
def test_the_rate_rises_then_falls_and_stays_between_the_floor_and_the_peak(
    warmup: int, rest: int, floor: float
) -> None:
    total = warmup + rest
    at = partial(warmup_cosine, peak=1.0, floor=floor, warmup=warmup, total=total)
    rates = [at(step) for step in range(total)]
    rising, falling = rates[:warmup], rates[warmup:]
    assert rising == sorted(rising)
    assert falling == sorted(falling, reverse=True)
    assert falling[0] == 1.0
    assert min(falling) >= floor


def test_the_first_step_is_number_1_and_the_peak_ends_the_warm_up() -> None:
    ours = plan(num_clips=5_000, global_batch=512)  # 9 steps an epoch
    assert (ours.warmup_steps, ours.total_steps) == (18, 90)
    assert ours.lr(1) == 0
    assert ours.lr(18) == ours.lr(19) == ours.peak_lr
    assert ours.min_lr < ours.lr(90) < 1.02 * ours.min_lr + 1e-5
    assert ours.lr(20) < ours.peak_lr


@pytest.mark.parametrize("warmup_epochs", [0, 0.5, 1.5])
def test_a_part_of_an_epoch_of_warm_up_counts_in_whole_steps(warmup_epochs: float) -> None:
    ours = plan(num_clips=5_000, warmup_epochs=warmup_epochs)  # 9 steps an epoch
    assert ours.warmup_steps == int(9 * warmup_epochs)
    assert ours.lr(ours.warmup_steps + 1) == ours.peak_lr


@pytest.mark.parametrize(
    ("global_batch", "world", "device_batch", "micro_batch", "accumulation"),
    [
        (1024, 1, 1024, 1024, 1),
        (1024, 8, 32, 32, 4),
        (12, 1, 8, 6, 2),  # the largest divisor that fits, not the limit itself
        (7, 1, 4, 1, 7),
        (7, 1, 7, 7, 1),
        (6, 2, 2, 1, 3),
        (8, 8, 32, 1, 1),
        (1, 1, 32, 1, 1),
    ],
)
def test_how_a_global_batch_is_split(
    global_batch: int, world: int, device_batch: int, micro_batch: int, accumulation: int
) -> None:
    ours = plan(global_batch=global_batch, world=world, device_batch=device_batch)
    assert (ours.micro_batch, ours.accumulation) == (micro_batch, accumulation)


@settings(deadline=None)
@given(share=st.integers(1, 300), world=st.integers(1, 16), device_batch=st.integers(1, 64))
def test_a_split_is_exact_and_no_larger_micro_batch_fits(
    share: int, world: int, device_batch: int
) -> None:
    ours = plan(global_batch=share * world, world=world, device_batch=device_batch)
    assert ours.micro_batch * ours.accumulation * world == share * world
    assert ours.micro_batch <= device_batch
    assert not [d for d in range(ours.micro_batch + 1, device_batch + 1) if share % d == 0]


def with_batch(exp: Path, global_batch: int) -> Any:
    """The config of an exp with another global batch."""
    header = read_header(exp)
    config = composed(header.stage.name, *header.overrides)
    return replace(config, optim=replace(config.optim, global_batch=global_batch))


def plan_of(config: Any, run: RunConfig, world: int = 1) -> Plan:
    """The plan of a config on other hardware, and a list of three steps."""
    optim = config.optim
    return Plan.of(
        optim,
        num_clips=3 * optim.global_batch,
        repeats=config.data.repeats,
        world=world,
        device_batch=run.untrained_batch,
        group=group_of(block_of(config.augment, optim.global_batch)),
    )


def test_a_global_batch_of_one_works_with_every_exp(subtests: pytest.Subtests) -> None:
    for exp in exps():
        with subtests.test(exp=exp.stem):
            config = with_batch(exp, 1)
            ours = plan_of(config, RunConfig())
            assert (ours.micro_batch, ours.accumulation, ours.steps_per_epoch) == (1, 1, 3)
            assert ours.peak_lr == config.optim.base_lr / 256


def test_every_small_batch_works_with_every_exp(subtests: pytest.Subtests) -> None:
    """Whole groups of mixed videos go through the model at once, whatever the batch."""
    for exp, global_batch in product(exps(), range(1, 17)):
        with subtests.test(exp=exp.stem, global_batch=global_batch):
            ours = plan_of(with_batch(exp, global_batch), RunConfig())
            assert ours.micro_batch == global_batch


def test_every_exp_starts_on_one_gpu_and_on_eight(subtests: pytest.Subtests) -> None:
    run = composed("pretrain", "run=gpu").run
    for exp, world in product(exps(), (1, 8)):
        with subtests.test(exp=exp.stem, world=world):
            header = read_header(exp)
            config = composed(header.stage.name, *header.overrides)
            if exp.stem == "k600_vith_v2":
                world = 1  # a batch of four
            assert plan_of(config, run, world).micro_batch <= run.untrained_batch == 8


@pytest.mark.parametrize(
    ("share", "world", "device_batch", "micro_batch"),
    [(192, 1, 16, 12), (192, 1, 8, 6), (192, 8, 4, 3), (96, 8, 16, 12), (24, 8, 8, 3)],
)
def test_a_micro_batch_holds_whole_groups(
    share: int, world: int, device_batch: int, micro_batch: int
) -> None:
    """Of three videos."""
    ours = plan(global_batch=share, world=world, device_batch=device_batch, group=3)
    assert ours.micro_batch == micro_batch


@pytest.mark.parametrize(
    ("global_batch", "world", "device_batch", "remedy"),
    [(6, 1, 2, "set run.device_batch=3"), (96, 48, 16, "use fewer processes")],
)
def test_a_group_that_a_micro_batch_would_part_is_an_error_with_the_remedy(
    global_batch: int, world: int, device_batch: int, remedy: str
) -> None:
    with pytest.raises(ConfigError, match="mix 3 videos with one another") as error:
        plan(global_batch=global_batch, world=world, device_batch=device_batch, group=3)
    assert f": {remedy}, or augment.mix_block=1 " in str(error.value)


@pytest.mark.parametrize(
    ("global_batch", "world", "nearest"), [(10, 4, "8 or 12"), (9, 8, "8 or 16"), (2, 4, "4")]
)
def test_processes_that_do_not_divide_the_batch_are_told_the_nearest(
    global_batch: int, world: int, nearest: str
) -> None:
    with pytest.raises(ConfigError) as error:
        plan(global_batch=global_batch, world=world)
    assert f"optim.global_batch={global_batch} " in str(error.value)
    assert f" {world} processes" in str(error.value)
    assert str(error.value).endswith(f": {nearest}")
    for near in nearest.split(" or "):
        plan(global_batch=int(near), world=world)


def test_a_list_shorter_than_a_batch_is_an_error_with_both_numbers() -> None:
    with pytest.raises(ConfigError) as error:
        plan(num_clips=511, global_batch=512)
    for words in ("511 videos", "global_batch=512", "data.train_list"):
        assert words in str(error.value)
    assert plan(num_clips=512, global_batch=512).steps_per_epoch == 1


def test_rates_scale_with_videos_and_not_with_views() -> None:
    ours = plan(global_batch=512, base_lr=6e-4, min_lr=1e-5)
    assert ours.peak_lr == pytest.approx(12e-4)
    assert ours.min_lr == pytest.approx(2e-5)
    views = replace(ours, repeats=8)
    assert views.lr(40) == ours.lr(40)
    assert (ours.views_per_step, views.views_per_step) == (2048, 4096)


def test_an_epoch_leaves_out_what_does_not_fill_a_batch() -> None:
    assert [plan(num_clips=n).steps_per_epoch for n in (1023, 1024, 1535)] == [1, 2, 2]


def test_what_is_printed_says_how_each_number_came_about() -> None:
    config = optim(global_batch=1024, base_lr=6e-4, epochs=300, warmup_epochs=30)
    ours = Plan.of(config, num_clips=283_582, repeats=4, world=8, device_batch=32)
    rows = {what: (value, how) for what, value, how in ours.describe(config)}
    assert rows["videos per step"][0] == "1,024"
    assert rows["videos per step"][1].startswith("8 x 4 x 32")
    assert rows["views per step"] == ("4,096", "1,024 videos x 4")
    assert rows["steps per epoch"] == ("276", "283,582 videos // 1,024")
    assert rows["steps"][0] == "82,800"
    assert rows["warm-up steps"] == ("8,280", "30 epochs")
    assert rows["lr"] == ("0.0024", "optim.base_lr 0.0006 x 1024/256")


def test_lr_is_the_peak_whatever_the_batch_and_min_lr_stays_per_256_videos() -> None:
    for batch in (1, 8, 512):
        ours = plan(global_batch=batch, lr=3e-4)
        assert ours.peak_lr == 3e-4
        assert ours.min_lr == plan(global_batch=batch).min_lr
    config = optim(lr=3e-4)
    rows = {what: (value, how) for what, value, how in plan(lr=3e-4).describe(config)}
    assert rows["lr"] == ("0.0003", "optim.lr, in place of optim.base_lr")
    assert rows["min_lr"] == ("2e-05", "optim.min_lr 1e-05 x 512/256")


def test_a_rate_that_would_rise_to_its_end_is_refused() -> None:
    assert plan(lr=2e-5).peak_lr == 2e-5
    with pytest.raises(ConfigError, match=r"optim\.lr=1e-05 .* 2e-05 .*optim\.min_lr"):
        plan(lr=1e-5)


def test_the_command_line_says_the_rate_once() -> None:
    both = Given(frozenset({"optim.base_lr", "optim.lr"}))
    with pytest.raises(ConfigError, match=r"optim\.lr=0\.0003 and optim\.base_lr=0\.001 both say"):
        check_rates(optim(lr=3e-4), both)
    own = Given(frozenset({"optim.base_lr"}), exp="mine")
    with pytest.raises(ConfigError, match=r"optim\.lr=0\.0003 \(of \+exp=mine\) and"):
        check_rates(optim(lr=3e-4), own)
    check_rates(optim(), both)  # optim.lr=null
    check_rates(optim(lr=3e-4), Given(frozenset({"optim.lr"}), exp="mine"))
