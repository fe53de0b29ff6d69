"""Every yaml file that is shipped: it composes, its header is true, its numbers are the known."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import composed
from videomae.config import (
    CropKind,
    EvaluateConfig,
    FinetuneConfig,
    PretrainConfig,
    RunConfig,
    Sampling,
    config_dir,
    token_grid,
)
from videomae.model.presets import preset
from videomae.schema import COMMANDS

CONFIGS = config_dir()
EXPS = sorted((CONFIGS / "exp").glob("*.yaml"))
TYPES = {"pretrain": PretrainConfig, "finetune": FinetuneConfig, "evaluate": EvaluateConfig}


def stem(path: Path) -> str:
    return path.stem


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def header(exp: Path) -> str:
    """The comment that an exp opens with."""
    lines = exp.read_text().splitlines()
    return "\n".join(lines[: next(i for i, x in enumerate(lines) if not x.startswith("#"))])


def command_of(exp: Path) -> tuple[str, list[str]]:
    """The command and the overrides that an exp's header gives."""
    found = re.search(r"^#\s+python -m videomae\.(\w+) (.+)$", header(exp), re.MULTILINE)
    assert found, f"{exp.name} does not say how to run it"
    return found[1], found[2].split()


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
def test_each_header_says_what_came_out(exp: Path) -> None:
    """ "not run" is a legal result."""
    assert re.search(r"\bResult: \S", header(exp)), f"no 'Result:' in the header of {exp.name}"


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
    data = config_of("finetune", f"data={name}", *model).data
    assert data.hflip == (name in {"ucf101", "hmdb51", "k400"})
    assert data.train_list is None  # where lists and videos are is not shipped
    assert data.test_list is None


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
        ("ssv2", 174),
        ("tiktok", None),
        ("demo", 8),
        ("custom", None),
    ],
)
def test_numbers_of_classes(name: str, classes: int | None) -> None:
    assert yaml.safe_load((CONFIGS / "data" / f"{name}.yaml").read_text()).get("classes") == classes


PRETRAINING = {  # VideoMAE V2, scripts/pretrain
    "tiktok_vitb": {"batch": 1024, "lr": 4.0e-3, "epochs": 200, "warmup": 20, "clip": None},
    "tiktok_vitg": {"batch": 2048, "lr": 4.8e-3, "epochs": 300, "warmup": 30, "clip": 0.02},
}


@pytest.mark.parametrize("name", PRETRAINING)
def test_pre_training_runs_are_the_recipes(name: str) -> None:
    config, recipe = config_of_exp(name), PRETRAINING[name]
    optim = config.optim
    assert optim.global_batch == recipe["batch"]
    assert optim.base_lr * optim.global_batch / 256 == pytest.approx(recipe["lr"])
    assert (optim.epochs, optim.warmup_epochs) == (recipe["epochs"], recipe["warmup"])
    assert optim.clip_grad == recipe["clip"]
    assert optim.min_lr == 1e-5
    assert (optim.betas, optim.weight_decay, optim.eps) == ([0.9, 0.95], 0.05, 1e-8)
    assert (optim.layer_decay, optim.drop_path) == (1.0, 0.0)
    assert (config.mask.kind.value, config.mask.ratio, config.mask.decoder_ratio) == (
        "tube",
        0.9,
        0.5,
    )
    assert vars(config.data.clip) == {"frames": 16, "stride": 4, "size": 224}
    assert config.data.repeats == 4
    assert config.model.decoder_depth == 4
    side = 14 if name == "tiktok_vitb" else 16
    assert token_grid(config.model, config.data.clip) == (8, side, side)


FINE_TUNING = {  # the authors' log, and VideoMAE V2, scripts/finetune
    "ucf101": (8, 3.125e-5, 20, 0.9, 0.35, 0.5, 0.05, 4, (5, 3)),
    "hmdb51": (8, 3.125e-5, 20, 0.9, 0.35, 0.5, 0.05, 2, (5, 3)),
    "k400": (192, 7.5e-4, 30, 0.9, 0.2, 0.0, 0.1, 4, (5, 3)),
    "ssv2": (96, 1.125e-4, 20, 0.9, 0.25, 0.0, 0.05, 2, (2, 3)),
}


@pytest.mark.parametrize("name", FINE_TUNING)
def test_fine_tuning_runs_are_the_recipes(name: str) -> None:
    config = config_of_exp(name)
    optim, data = config.optim, config.data
    found = (
        optim.global_batch,
        pytest.approx(optim.base_lr * optim.global_batch / 256),
        optim.epochs,
        optim.layer_decay,
        optim.drop_path,
        optim.head_drop,
        optim.weight_decay,
        data.clip.stride,
        (data.segments, data.crops),
    )
    assert found == FINE_TUNING[name]
    assert config.model == preset("vit_giant")
    assert (optim.warmup_epochs, optim.min_lr) == (5, 1e-6)
    assert (optim.betas, optim.label_smoothing) == ([0.9, 0.999], 0.1)
    assert optim.clip_grad is None
    assert (data.clip.frames, data.clip.size, data.repeats) == (16, 224, 2)
    assert data.sampling is (Sampling.segment if name == "ssv2" else Sampling.dense)
