"""Every yaml file that is shipped: it composes, its header is true, its numbers are the known."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests.conftest import composed
from videomae.config import (
    CropKind,
    EvaluateConfig,
    FinetuneConfig,
    ListFormat,
    MaskConfig,
    MaskKind,
    PretrainConfig,
    RunConfig,
    Sampling,
    config_dir,
    token_grid,
)
from videomae.model.presets import preset
from videomae.recipes import exps, plan_of, read_header
from videomae.schema import COMMANDS

CONFIGS = config_dir()
EXPS = exps()
TYPES = {"pretrain": PretrainConfig, "finetune": FinetuneConfig, "evaluate": EvaluateConfig}


def stem(path: Path) -> str:
    return path.stem


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def command_of(exp: Path) -> tuple[str, list[str]]:
    """The command and the overrides that an exp's header gives."""
    header = read_header(exp)
    return header.stage.name, header.overrides


@cache
def config_of(command: str, *overrides: str) -> Any:
    return composed(command, *overrides)


FINETUNING = [exp for exp in EXPS if command_of(exp)[0] == "finetune"]


def config_of_exp(name: str) -> Any:
    command, overrides = command_of(CONFIGS / "exp" / f"{name}.yaml")
    return config_of(command, *overrides)


def test_there_are_exps_of_both_kinds() -> None:
    wanted = {"tiktok_vitb", "tiktok_vitg", "ucf101", "hmdb51", "k400", "ssv2"}
    assert wanted <= {exp.stem for exp in EXPS}
    assert {exp.stem for exp in FINETUNING} >= {"ucf101", "hmdb51", "k400", "ssv2"}


@pytest.mark.parametrize("exp", EXPS, ids=stem)
def test_the_command_heading_each_experiment_composes(exp: Path) -> None:
    command, overrides = command_of(exp)
    assert overrides[0] == f"+exp={exp.stem}"
    assert type(config_of(command, *overrides)) is TYPES[command]


@pytest.mark.parametrize("exp", FINETUNING, ids=stem)
def test_evaluate_takes_every_fine_tuning_experiment_unchanged(exp: Path) -> None:
    trained, config = config_of_exp(exp.stem), config_of("evaluate", *command_of(exp)[1])
    assert type(config) is EvaluateConfig
    for section in ("model", "data", "augment", "optim", "run", "name", "weights"):
        assert getattr(config, section) == getattr(trained, section)
    assert config.output_dir == f"outputs/{exp.stem}/evaluation"


@pytest.mark.parametrize("exp", EXPS, ids=stem)
def test_each_experiment_is_named_as_its_file_and_writes_there(exp: Path) -> None:
    assert yaml.safe_load(exp.read_text())["name"] == exp.stem
    assert config_of_exp(exp.stem).output_dir == f"outputs/{exp.stem}"


@pytest.mark.parametrize("exp", EXPS, ids=stem)
def test_each_header_says_the_same_things_in_the_same_order(exp: Path) -> None:
    """ "not run" is a legal result, and "nothing" a legal unknown."""
    comment = [line for line in exp.read_text().splitlines() if line.startswith("#")]
    facts = read_header(exp).facts
    finetuned, demo = exp in FINETUNING, exp.stem.startswith("demo_")
    keys = ("Source", "Start", "Reported", "Unknown", "Result")
    assert list(facts) == [key for key in keys if finetuned or key != "Start"]
    assert facts["Result"] == ("see the README" if demo else "not run")
    marked = "# unknown" in exp.read_text()
    assert not (marked and facts["Unknown"] == "nothing"), "a mark without its line in the header"
    # What a key says, and goes on to say, is the whole rest of the comment.
    said = " ".join(f"{key}: {text}." for key, text in facts.items())
    assert " ".join(line[1:].strip() for line in comment).endswith(said)


@pytest.mark.parametrize("exp", FINETUNING, ids=stem)
def test_each_link_of_a_chain_is_what_the_one_before_it_made(exp: Path) -> None:
    start = read_header(exp).facts["Start"]
    *before, last = start.split(" -> ")
    if last not in {other.stem for other in EXPS}:
        assert not before
        assert last == "random weights" or "no exp here" in last
        return
    config = config_of_exp(exp.stem)
    assert config.weights == f"outputs/{last}"
    assert config.model == config_of_exp(last).model
    its_own = read_header(CONFIGS / "exp" / f"{last}.yaml").facts.get("Start")
    assert " -> ".join(before) == (its_own or "")


@pytest.mark.parametrize("exp", EXPS, ids=stem)
def test_weights_that_a_header_starts_from_are_those_another_header_writes(exp: Path) -> None:
    written = {config_of_exp(other.stem).output_dir for other in EXPS if other != exp}
    given = [x.removeprefix("weights=") for x in command_of(exp)[1] if x.startswith("weights=")]
    assert set(given) <= written


@pytest.mark.parametrize("exp", EXPS, ids=stem)
def test_experiments_say_nothing_of_the_hardware(exp: Path) -> None:
    assert "run" not in yaml.safe_load(exp.read_text())
    assert config_of_exp(exp.stem).run == RunConfig()


@pytest.mark.parametrize("command", COMMANDS)
def test_primary_configs_hold_a_schema_and_a_defaults_list_only(command: str) -> None:
    primary = yaml.safe_load((CONFIGS / f"{command}.yaml").read_text())
    assert primary.keys() == {"defaults", "hydra"}
    assert primary["defaults"][0] == f"{command}_schema"
    assert primary["defaults"][-1] == "_self_"
    assert all("exp" not in str(choice) for choice in primary["defaults"])


@pytest.mark.parametrize("name", names("run"))
def test_every_hardware_composes(name: str) -> None:
    config = config_of("pretrain", f"run={name}")
    own = yaml.safe_load((CONFIGS / "run" / f"{name}.yaml").read_text()) or {}
    for key, value in own.items():
        found = getattr(config.run, key)
        assert getattr(found, "value", found) == value


@pytest.mark.parametrize("name", names("model"))
def test_every_model_composes_to_the_preset_of_its_name(name: str) -> None:
    clip = ("data.clip.frames=8", "data.clip.size=32") if name == "vit_tiny" else ()
    assert config_of("pretrain", f"model={name}", *clip).model == preset(name)


@pytest.mark.parametrize("name", names("mask"))
def test_every_mask_composes_and_suits_both_patch_sizes(name: str) -> None:
    own = yaml.safe_load((CONFIGS / "mask" / f"{name}.yaml").read_text())
    for model in ("vit_base", "vit_giant"):
        mask = config_of("pretrain", f"mask={name}", f"model={model}").mask
        assert {**vars(mask), "kind": mask.kind.value} == own


@pytest.mark.parametrize("name", names("data"))
def test_every_data_set_composes_and_mirrors_where_labels_allow(name: str) -> None:
    model = ("model=vit_tiny",) if name == "demo" else ()
    mirrors = name in {"ucf101", "hmdb51", "k400", "k600", "k710"}
    command = "pretrain" if name == "hybrid" else "finetune"
    data = config_of(command, f"data={name}", *model).data
    assert data.hflip == mirrors
    for part in data.parts().values():  # where lists and videos are is not shipped
        assert part.train_list is None
        assert part.test_list is None


@pytest.mark.parametrize("name", names("augment"))
def test_every_augmentation_composes(name: str) -> None:
    augment = config_of("finetune", f"augment={name}").augment
    expected = (
        (CropKind.multi_scale, True) if name == "pretrain" else (CropKind.random_resized, False)
    )
    assert (augment.crop, augment.antialias) == expected


def test_augmentations_of_the_recipes() -> None:
    augment = config_of_exp("tiktok_vitb").augment
    assert augment.scales == [1.0, 0.875, 0.75, 0.66]
    augment = config_of_exp("ucf101").augment
    assert augment.area == [0.08, 1.0]
    assert augment.aspect == pytest.approx([0.75, 1.3333], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("ucf101", 101),
        ("hmdb51", 51),
        ("k400", 400),
        ("k600", 600),
        ("k710", 710),
        ("ssv2", 174),
        ("tiktok", None),
        ("hybrid", None),
        ("demo", 8),
        ("custom", None),
    ],
)
def test_numbers_of_classes(name: str, classes: int | None) -> None:
    assert yaml.safe_load((CONFIGS / "data" / f"{name}.yaml").read_text()).get("classes") == classes


@pytest.mark.parametrize(
    ("name", "num_train"),
    [
        ("ucf101", 9_537),  # split 1
        ("hmdb51", 3_570),
        ("k400", 240_436),
        ("k600", 366_006),
        ("k710", 658_340),
        ("ssv2", 168_913),
        ("tiktok", 283_582),
        ("hybrid", None),
        ("demo", None),
        ("custom", None),
    ],
)
def test_numbers_of_training_videos(name: str, num_train: int | None) -> None:
    own = yaml.safe_load((CONFIGS / "data" / f"{name}.yaml").read_text())
    assert own.get("num_train") == num_train


def test_the_sources_of_the_hybrid() -> None:
    """Strides, and the names of the frames, as VideoMAE V2 reads them."""
    parts = config_of_exp("hybrid_vitb").data.parts()
    found = {
        section.removeprefix("data.sources."): (
            part.clip.stride,
            part.list_format,
            part.frame_template,
        )
        for section, part in parts.items()
    }
    auto, frames = ListFormat.auto, ListFormat.frames_start_total
    assert found == {
        "k710": (4, auto, None),
        "ssv2": (2, frames, "img_{:05}.jpg"),
        "ava": (4, frames, "image_{:06}.jpg"),
        "webvid": (4, auto, None),
        "instagram": (4, auto, None),
    }


# The recipes. Rates are those that the optimiser gets: the script's times batch / 256.


class Pretraining(NamedTuple):
    """A row of VideoMAE V1's or V2's pre-training scripts."""

    model: str
    data: str
    batch: int
    lr: float
    min_lr: float
    warmup_epochs: int
    epochs: int
    steps_per_epoch: int | None
    repeats: int = 4
    clip_grad: float | None = None
    mask: tuple[float, float] = (0.9, 0.5)


PRETRAINING = {
    "tiktok_vitb": Pretraining("vit_base", "tiktok", 1024, 4.0e-3, 4e-5, 20, 200, 276),
    "tiktok_vitg": Pretraining(
        "vit_giant", "tiktok", 2048, 4.8e-3, 8e-5, 30, 300, 138, clip_grad=0.02
    ),
    "hybrid_vitb": Pretraining("vit_base", "hybrid", 1024, 4.0e-3, 4e-5, 20, 200, None),
    "hybrid_vitl": Pretraining("vit_large", "hybrid", 1536, 6.0e-3, 6e-5, 30, 300, None),
    "hybrid_vith": Pretraining("vit_huge", "hybrid", 2048, 8.0e-3, 8e-5, 30, 300, None),
    "hybrid_vitg": Pretraining(
        "vit_giant", "hybrid", 2048, 4.8e-3, 8e-5, 30, 300, None, clip_grad=0.02
    ),
    "ucf101_pretrain_vitb_v1": Pretraining(
        *("vit_base", "ucf101", 192, 2.25e-4, 7.5e-6, 40, 3200, 49), repeats=1, mask=(0.75, 0)
    ),
}


class Finetuning(NamedTuple):
    """A row of VideoMAE V1's or V2's fine-tuning scripts, or of the TikTok logs."""

    model: str
    data: str
    batch: int
    lr: float
    min_lr: float
    epochs: int
    steps_per_epoch: int
    layer_decay: float
    drop_path: float
    head_drop: float = 0.0
    weight_decay: float = 0.05
    clip_grad: float | None = None
    warmup_epochs: int = 5


FINE_TUNING = {
    "k400_vits_v1": Finetuning(
        "vit_small", "k400", 384, 7.5e-4, 1.5e-6, 150, 626, layer_decay=0.75, drop_path=0.1
    ),
    "k400_vitb_v1": Finetuning("vit_base", "k400", 384, 7.5e-4, 1.5e-6, 75, 626, 0.75, 0.1),
    "k400_vitb_v2": Finetuning("vit_base", "k400", 512, 1.4e-3, 2e-6, 90, 469, 0.75, 0.1),
    "k400_vitl_v2": Finetuning("vit_large", "k400", 192, 1.5e-3, 7.5e-7, 35, 1252, 0.75, 0.2),
    "k400_vith_v2": Finetuning("vit_huge", "k400", 128, 5.0e-4, 5e-7, 40, 1878, 0.8, 0.2, 0.5),
    "k400_vitg_v2": Finetuning(
        "vit_giant", "k400", 192, 7.5e-4, 7.5e-7, 30, 1252, 0.9, 0.2, weight_decay=0.1
    ),
    "k400_vitg_k710_v2": Finetuning(
        *("vit_giant", "k400", 96, 3.75e-6, 3.75e-7, 3, 2504, 0.9, 0.25),
        weight_decay=0.1,
        warmup_epochs=1,
    ),
    "k400_vitb_tiktok": Finetuning("vit_base", "k400", 64, 1.75e-4, 2.5e-7, 90, 3756, 0.75, 0.1),
    "k400": Finetuning(
        "vit_giant", "k400", 192, 7.5e-4, 7.5e-7, 30, 1252, 0.9, 0.2, weight_decay=0.1
    ),
    "k710_vitb_v2": Finetuning("vit_base", "k710", 512, 1.4e-3, 2e-6, 90, 1285, 0.75, 0.1),
    "k710_vith_v2": Finetuning("vit_huge", "k710", 128, 5.0e-4, 5e-7, 40, 5143, 0.8, 0.2, 0.5),
    "k710_vitg_v2": Finetuning(
        *("vit_giant", "k710", 96, 3.75e-4, 3.75e-7, 35, 6857, 0.9, 0.3),
        weight_decay=0.1,
        clip_grad=5.0,
    ),
    "k600_vith_v2": Finetuning(
        "vit_huge", "k600", 4, 1.5625e-5, 1.5625e-8, 40, 91_501, 0.8, 0.2, 0.5
    ),
    "k600_vitg_k710_v2": Finetuning(
        *("vit_giant", "k600", 96, 3.75e-6, 3.75e-7, 3, 3812, 0.9, 0.25),
        weight_decay=0.1,
        warmup_epochs=1,
    ),
    "ssv2_vits_v1": Finetuning("vit_small", "ssv2", 384, 1.5e-3, 1.5e-6, 40, 439, 0.7, 0.1),
    "ssv2_vitb_v2": Finetuning("vit_base", "ssv2", 256, 2.0e-3, 1e-6, 25, 659, 0.65, 0.1),
    "ssv2_vitl_v2": Finetuning("vit_large", "ssv2", 192, 3.75e-4, 7.5e-7, 20, 879, 0.75, 0.2),
    "ssv2_vith_v2": Finetuning("vit_huge", "ssv2", 128, 2.5e-4, 5e-7, 20, 1319, 0.8, 0.2),
    "ssv2_vitg_v2": Finetuning("vit_giant", "ssv2", 96, 1.125e-4, 3.75e-7, 20, 1759, 0.9, 0.25),
    "ssv2": Finetuning("vit_giant", "ssv2", 96, 1.125e-4, 3.75e-7, 20, 1759, 0.9, 0.25),
    "ucf101_vitg_v2": Finetuning(
        "vit_giant", "ucf101", 24, 9.375e-5, 9.375e-8, 50, 397, 0.9, 0.35, 0.5
    ),
    "ucf101_vitb_v1": Finetuning("vit_base", "ucf101", 128, 2.5e-4, 5e-6, 100, 74, 0.7, 0.2, 0.5),
    "ucf101_vitb_tiktok": Finetuning("vit_base", "ucf101", 64, 2.5e-4, 2.5e-7, 30, 127, 0.9, 0.1),
    "ucf101": Finetuning("vit_giant", "ucf101", 8, 3.125e-5, 3.125e-8, 20, 1192, 0.9, 0.35, 0.5),
    "hmdb51_vitg_v2": Finetuning(
        "vit_giant", "hmdb51", 24, 4.6875e-5, 9.375e-8, 15, 148, 0.9, 0.35, 0.5
    ),
    "hmdb51_vitb_tiktok": Finetuning("vit_base", "hmdb51", 64, 2.5e-4, 2.5e-7, 20, 55, 0.75, 0.1),
    "hmdb51": Finetuning("vit_giant", "hmdb51", 8, 3.125e-5, 3.125e-8, 20, 446, 0.9, 0.35, 0.5),
}
SETS = {  # classes, stride of dense sampling (None: segments), test views
    "k400": (400, 4, (5, 3)),
    "k600": (600, 4, (5, 3)),
    "k710": (710, 4, (5, 3)),
    "ssv2": (174, None, (2, 3)),
    "ucf101": (101, 4, (5, 3)),
    "hmdb51": (51, 2, (5, 3)),
}


def test_every_recipe_is_in_the_tables() -> None:
    recipes = {exp.stem for exp in EXPS if not exp.stem.startswith("demo_")}
    assert PRETRAINING.keys() | FINE_TUNING.keys() == recipes
    assert FINE_TUNING.keys() == {exp.stem for exp in FINETUNING} & recipes


def check_schedule(config: Any, recipe: Pretraining | Finetuning, steps_per_epoch: int) -> None:
    """The steps and the rates that training takes them at."""
    plan, last = plan_of(config), recipe.epochs * steps_per_epoch
    assert plan is not None
    assert (config.optim.global_batch, plan.steps_per_epoch) == (recipe.batch, steps_per_epoch)
    assert plan.total_steps == last
    warmup = recipe.warmup_epochs * steps_per_epoch
    assert plan.warmup_steps == warmup
    assert plan.lr(1) == 0
    assert plan.lr(warmup // 2) < plan.lr(warmup) == pytest.approx(recipe.lr)
    assert plan.lr(warmup + 2) < plan.lr(warmup + 1) == pytest.approx(recipe.lr)
    assert plan.lr(last + 1) == pytest.approx(recipe.min_lr)


@pytest.mark.parametrize("name", PRETRAINING)
def test_pre_training_runs_are_the_recipes(name: str) -> None:
    config, recipe = config_of_exp(name), PRETRAINING[name]
    optim, data = config.optim, config.data
    if recipe.steps_per_epoch is None:  # on a list of any length
        assert plan_of(config) is None
        own = replace(config, data=replace(data, num_train=1_000_000))
        check_schedule(own, recipe, 1_000_000 // recipe.batch)
    else:
        check_schedule(config, recipe, recipe.steps_per_epoch)
    assert config.model == preset(recipe.model)
    assert yaml.safe_load((CONFIGS / "exp" / f"{name}.yaml").read_text())["defaults"][1] == {
        "override /data": recipe.data
    }
    assert optim.clip_grad == recipe.clip_grad
    assert (optim.betas, optim.weight_decay, optim.eps) == ([0.9, 0.95], 0.05, 1e-8)
    assert (optim.layer_decay, optim.drop_path) == (1.0, 0.0)
    assert config.mask == MaskConfig(MaskKind.tube, *recipe.mask)
    assert (data.clip.frames, data.clip.stride, data.clip.size) == (16, 4, 224)
    assert data.repeats == recipe.repeats
    assert config.model.decoder_depth == 4
    side = 224 // config.model.patch
    assert token_grid(config.model, data.clip) == (8, side, side)
    assert config.augment.crop is CropKind.multi_scale


@pytest.mark.parametrize("name", FINE_TUNING)
def test_fine_tuning_runs_are_the_recipes(name: str) -> None:
    config, recipe = config_of_exp(name), FINE_TUNING[name]
    optim, data = config.optim, config.data
    check_schedule(config, recipe, recipe.steps_per_epoch)
    assert config.model == preset(recipe.model)
    assert (optim.layer_decay, optim.drop_path) == (recipe.layer_decay, recipe.drop_path)
    assert (optim.head_drop, optim.weight_decay) == (recipe.head_drop, recipe.weight_decay)
    assert optim.clip_grad == recipe.clip_grad
    assert (optim.betas, optim.eps, optim.label_smoothing) == ([0.9, 0.999], 1e-8, 0.1)
    classes, stride, views = SETS[recipe.data]
    assert (data.classes, data.segments, data.crops) == (classes, *views)
    assert data.sampling is (Sampling.segment if stride is None else Sampling.dense)
    assert stride in (None, data.clip.stride)
    assert (data.clip.frames, data.clip.size, data.repeats) == (16, 224, 2)
    assert config.augment.crop is CropKind.random_resized


LOGS = {  # mean rates of epochs 0 to 2, of the head and of the embedding: arXiv 2402.08875's logs
    "k400_vitb_tiktok": [
        (1.7496272e-05, 4.15664e-07),
        (5.2498136e-05, 1.24721e-06),
        (8.75e-05, 2.07876e-06),
    ],
    "ucf101_vitb_tiktok": [
        (2.4842271e-05, 6.31457e-06),
        (7.4921136e-05, 1.90439e-05),
        (1.25e-04, 3.17733e-05),
    ],
    "ucf101": [
        (3.1229023e-06, 4.15433e-08),
        (9.3739512e-06, 1.24700e-07),
        (1.5625e-05, 2.07856e-07),
    ],
    "hmdb51": [
        (3.1193921e-06, 4.14966e-08),
        (9.3721961e-06, 1.24676e-07),
        (1.5625e-05, 2.07856e-07),
    ],
}


@pytest.mark.parametrize("name", LOGS)
def test_the_rates_are_those_of_the_authors_logs(name: str) -> None:
    config = config_of_exp(name)
    plan = plan_of(config)
    assert plan is not None
    embedding = config.optim.layer_decay ** (config.model.depth + 1)
    for epoch, rates in enumerate(LOGS[name]):
        steps = range(epoch * plan.steps_per_epoch + 1, (epoch + 1) * plan.steps_per_epoch + 1)
        mean = sum(map(plan.lr, steps)) / len(steps)
        assert (mean, mean * embedding) == pytest.approx(rates, rel=1e-4)
