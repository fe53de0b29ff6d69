"""Every yaml file that is shipped: it composes, its header is true, its numbers are the known."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
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
    ModelConfig,
    PretrainConfig,
    RunConfig,
    Sampling,
    config_dir,
    token_grid,
)
from videomae.data.mix import block_of, group_of
from videomae.model.presets import preset
from videomae.run.composing import config_for
from videomae.run.schema import COMMANDS
from videomae.train.recipes import exps, plan_of, read_header

CONFIGS = config_dir()
TYPES = {"pretrain": PretrainConfig, "finetune": FinetuneConfig, "evaluate": EvaluateConfig}


def names(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


def yaml_of(group: str, name: str) -> dict[str, Any]:
    """What a file itself says."""
    return yaml.safe_load((CONFIGS / group / f"{name}.yaml").read_text()) or {}


@cache
def command_of(name: str) -> tuple[str, list[str]]:
    """The command and the overrides that an exp's header gives."""
    header = read_header(CONFIGS / "exp" / f"{name}.yaml")
    return header.stage.name, header.overrides


EXPS = [path.stem for path in exps()]
OF_BOTH = "small"
"""The exp of both commands: the run is named after the command."""
FINETUNING = [exp for exp in EXPS if command_of(exp)[0] == "finetune"]


def config_of_exp(name: str) -> Any:
    command, overrides = command_of(name)
    return composed(command, *overrides)


def test_there_are_exps_of_both_kinds() -> None:
    wanted = {"tiktok_vitb", "tiktok_vitg", "ucf101", "hmdb51", "k400", "ssv2"}
    assert wanted <= set(EXPS)
    assert set(FINETUNING) >= {"ucf101", "hmdb51", "k400", "ssv2"}


@pytest.mark.long
def test_the_command_heading_each_experiment_composes(subtests: pytest.Subtests) -> None:
    for exp in EXPS:
        with subtests.test(exp=exp):
            command, overrides = command_of(exp)
            assert overrides[0] == f"+exp={exp}"
            assert type(composed(command, *overrides)) is TYPES[command]


@pytest.mark.long
def test_evaluate_takes_every_fine_tuning_experiment_unchanged(subtests: pytest.Subtests) -> None:
    for exp in FINETUNING:
        with subtests.test(exp=exp):
            trained, config = config_of_exp(exp), composed("evaluate", *command_of(exp)[1])
            assert type(config) is EvaluateConfig
            for section in ("model", "data", "augment", "optim", "run", "name", "weights"):
                assert getattr(config, section) == getattr(trained, section), section
            assert config.output_dir == f"outputs/{exp}/evaluation"


def test_each_experiment_is_named_as_its_file_and_writes_there(subtests: pytest.Subtests) -> None:
    for exp in EXPS:
        with subtests.test(exp=exp):
            assert yaml_of("exp", exp).get("name", OF_BOTH) == exp
            name = "pretrain" if exp == OF_BOTH else exp
            assert config_of_exp(exp).output_dir == f"outputs/{name}"


def test_the_small_exp_is_for_both_commands() -> None:
    for command in ("pretrain", "finetune"):
        config = composed(command, f"+exp={OF_BOTH}")
        assert (config.name, config.model.name, config.data.clip.size) == (command, "vit_tiny", 64)


def test_each_header_says_the_same_things_in_the_same_order(subtests: pytest.Subtests) -> None:
    """ "not run" is a legal result, and "nothing" a legal unknown."""
    keys = ("Source", "Start", "Reported", "Unknown", "Result")
    for exp in EXPS:
        with subtests.test(exp=exp):
            path = CONFIGS / "exp" / f"{exp}.yaml"
            facts, text = read_header(path).facts, path.read_text()
            assert list(facts) == [key for key in keys if exp in FINETUNING or key != "Start"]
            demo = exp.startswith("demo_")
            assert facts["Result"] == ("see the README" if demo else "not run")
            marked = "# unknown" in text
            assert not (marked and facts["Unknown"] == "nothing"), "a mark without its line"
            # What a key says, and goes on to say, is the whole rest of the comment.
            comment = [line[1:].strip() for line in text.splitlines() if line.startswith("#")]
            said = " ".join(f"{key}: {text}." for key, text in facts.items())
            assert " ".join(comment).endswith(said)


def of_the_encoder(model: ModelConfig) -> dict[str, Any]:
    return {key: value for key, value in vars(model).items() if not key.startswith("decoder_")}


def test_each_link_of_a_chain_is_what_the_one_before_it_made(subtests: pytest.Subtests) -> None:
    """A classifier has no decoder, whatever the pre-training's was."""
    for exp in FINETUNING:
        with subtests.test(exp=exp):
            start = read_header(CONFIGS / "exp" / f"{exp}.yaml").facts["Start"]
            *before, last = start.split(" -> ")
            if last == "random weights":
                assert not before
                continue
            config, link = config_of_exp(exp), config_of_exp(last)
            assert config.weights == f"outputs/{last}"
            assert of_the_encoder(config.model) == of_the_encoder(link.model)
            its_own = read_header(CONFIGS / "exp" / f"{last}.yaml").facts.get("Start")
            assert " -> ".join(before) == (its_own or "")


def test_weights_that_a_header_starts_from_are_those_another_header_writes(
    subtests: pytest.Subtests,
) -> None:
    for exp in EXPS:
        with subtests.test(exp=exp):
            written = {config_of_exp(other).output_dir for other in EXPS if other != exp}
            given = [x for x in command_of(exp)[1] if x.startswith("weights=")]
            assert {each.removeprefix("weights=") for each in given} <= written


def test_experiments_say_nothing_of_the_hardware(subtests: pytest.Subtests) -> None:
    for exp in EXPS:
        with subtests.test(exp=exp):
            assert "run" not in yaml_of("exp", exp)
            assert config_of_exp(exp).run == RunConfig()


def test_primary_configs_hold_a_schema_and_a_defaults_list_only(subtests: pytest.Subtests) -> None:
    for command in COMMANDS:
        with subtests.test(command=command):
            primary = yaml.safe_load((CONFIGS / f"{command}.yaml").read_text())
            assert primary.keys() == {"defaults", "hydra"}
            assert primary["defaults"][0] == f"{command}_schema"
            assert primary["defaults"][-1] == "_self_"
            assert all("exp" not in str(choice) for choice in primary["defaults"])


def test_every_hardware_composes(subtests: pytest.Subtests) -> None:
    for name in names("run"):
        with subtests.test(run=name):
            config = composed("pretrain", f"run={name}")
            for key, value in yaml_of("run", name).items():
                found = getattr(config.run, key)
                assert getattr(found, "value", found) == value, key


def test_every_model_composes_to_the_preset_of_its_name(subtests: pytest.Subtests) -> None:
    for name in names("model"):
        with subtests.test(model=name):
            clip = ("data.clip.frames=8", "data.clip.size=32") if name == "vit_tiny" else ()
            assert composed("pretrain", f"model={name}", *clip).model == preset(name)


def test_every_mask_composes_and_suits_both_patch_sizes(subtests: pytest.Subtests) -> None:
    for name in names("mask"):
        for model in ("vit_base", "vit_giant"):
            with subtests.test(mask=name, model=model):
                mask = composed("pretrain", f"mask={name}", f"model={model}").mask
                assert {**vars(mask), "kind": mask.kind.value} == yaml_of("mask", name)


def test_every_data_set_composes_and_mirrors_where_labels_allow(subtests: pytest.Subtests) -> None:
    for name in names("data"):
        with subtests.test(data=name):
            model = ("model=vit_tiny",) if name == "demo" else ()
            mirrors = name in {"ucf101", "hmdb51", "k400", "k600", "k710"}
            command = "pretrain" if name == "hybrid" else "finetune"
            data = composed(command, f"data={name}", *model).data
            assert data.hflip == mirrors
            for part in data.parts().values():  # where lists and videos are is not shipped
                assert part.train_list is None
                assert part.test_list is None


def test_every_augmentation_composes(subtests: pytest.Subtests) -> None:
    for name in names("augment"):
        with subtests.test(augment=name):
            augment = composed("finetune", f"augment={name}").augment
            expected = (CropKind.random_resized, False)
            if name == "pretrain":
                expected = (CropKind.multi_scale, True)
            assert (augment.crop, augment.antialias) == expected


def test_augmentations_of_the_recipes() -> None:
    augment = config_of_exp("tiktok_vitb").augment
    assert augment.scales == [1.0, 0.875, 0.75, 0.66]
    augment = config_of_exp("ucf101").augment
    assert augment.area == [0.08, 1.0]
    assert augment.aspect == pytest.approx([0.75, 1.3333], abs=1e-4)


DATA_SETS = {  # classes, and videos of the published training list
    "ucf101": (101, 9_537),  # split 1
    "hmdb51": (51, 3_570),
    "k400": (400, 240_436),
    "k600": (600, 366_006),
    "k710": (710, 658_340),
    "ssv2": (174, 168_913),
    "tiktok": (None, 283_582),
    "hybrid": (None, None),
    "demo": (8, None),
    "custom": (None, None),
}


def test_numbers_of_classes_and_of_training_videos(subtests: pytest.Subtests) -> None:
    assert DATA_SETS.keys() == set(names("data"))
    for name, numbers in DATA_SETS.items():
        with subtests.test(data=name):
            own = yaml_of("data", name)
            assert (own.get("classes"), own.get("num_train")) == numbers


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
    stride: int = 4
    decoder: Mapping[str, int] = {}
    """What is not as in the preset, that of V2."""


V1 = {"repeats": 1, "mask": (0.9, 0)}
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
    "k400_pretrain_vits_v1": Pretraining(
        "vit_small", "k400", 1024, 6e-4, 4e-5, 40, 1600, 234, **V1
    ),
    "k400_pretrain_vitb_800e_v1": Pretraining(
        "vit_base", "k400", 2048, 1.2e-3, 8e-5, 40, 800, 117, **V1
    ),
    "k400_pretrain_vitb_v1": Pretraining(
        "vit_base", "k400", 2048, 1.2e-3, 8e-5, 40, 1600, 117, **V1
    ),
    "k400_pretrain_vitl_v1": Pretraining(
        *("vit_large", "k400", 512, 3e-4, 2e-5, 40, 1600, 469), **V1, decoder={"decoder_depth": 12}
    ),
    "k400_pretrain_vith_v1": Pretraining(
        *("vit_huge", "k400", 1024, 6e-4, 4e-5, 40, 1600, 234),
        **V1,
        decoder={"decoder_depth": 12, "decoder_dim": 640, "decoder_mlp_dim": 2560},
    ),
    "ssv2_pretrain_vits_v1": Pretraining(
        "vit_small", "ssv2", 2048, 1.2e-3, 8e-5, 40, 2400, 82, **V1, stride=2
    ),
    "ssv2_pretrain_vitb_800e_v1": Pretraining(
        "vit_base", "ssv2", 2048, 1.2e-3, 8e-5, 40, 800, 82, **V1, stride=2
    ),
    "ssv2_pretrain_vitb_v1": Pretraining(
        "vit_base", "ssv2", 2048, 1.2e-3, 8e-5, 40, 2400, 82, **V1, stride=2
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
    repeats: int = 2


FINE_TUNING = {
    "k400_vits_v1": Finetuning(
        "vit_small", "k400", 384, 7.5e-4, 1.5e-6, 150, 626, layer_decay=0.75, drop_path=0.1
    ),
    "k400_vitb_v1": Finetuning("vit_base", "k400", 384, 7.5e-4, 1.5e-6, 75, 626, 0.75, 0.1),
    "k400_vitb_800e_v1": Finetuning(
        "vit_base", "k400", 512, 2.0e-3, 2e-6, 100, 469, 0.75, 0.1, repeats=1
    ),
    "k400_vitl_v1": Finetuning("vit_large", "k400", 128, 1.0e-3, 5e-7, 35, 1878, 0.75, 0.1),
    "k400_vith_v1": Finetuning("vit_huge", "k400", 512, 2.0e-3, 2e-5, 50, 469, 0.75, 0.2, 0.5),
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
    "ssv2_vitb_800e_v1": Finetuning(
        "vit_base", "ssv2", 512, 1.0e-3, 2e-6, 50, 329, 0.75, 0.1, repeats=1
    ),
    "ssv2_vitb_v1": Finetuning("vit_base", "ssv2", 384, 7.5e-4, 1.5e-6, 30, 439, 0.75, 0.1),
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
MIX_BLOCKS = {  # videos that a GPU took in: of V1's and V2's scripts, and of the TikTok logs
    **dict.fromkeys(("hmdb51", "ucf101"), 1),
    "k400_vitl_v1": 2,
    **dict.fromkeys(("k400", "ssv2", "k400_vitg_v2", "k710_vitg_v2", "ssv2_vitg_v2"), 3),
    **dict.fromkeys(("k400_vitg_k710_v2", "k600_vitg_k710_v2"), 3),
    **dict.fromkeys(("ucf101_vitg_v2", "hmdb51_vitg_v2"), 3),
    **dict.fromkeys(("k400_vith_v2", "k600_vith_v2", "k710_vith_v2", "ssv2_vith_v2"), 4),
    **dict.fromkeys(("k400_vitl_v2", "ssv2_vitl_v2", "k400_vitb_v1", "ssv2_vitb_v1"), 6),
    **dict.fromkeys(("k400_vitb_800e_v1", "ssv2_vitb_800e_v1", "k400_vith_v1"), 8),
    **dict.fromkeys(("k400_vitb_tiktok", "ucf101_vitb_tiktok", "hmdb51_vitb_tiktok"), 8),
    **dict.fromkeys(("k400_vits_v1", "ssv2_vits_v1"), 12),
    **dict.fromkeys(("k400_vitb_v2", "k710_vitb_v2", "ssv2_vitb_v2", "ucf101_vitb_v1"), 16),
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
    recipes = {exp for exp in EXPS if not exp.startswith("demo_")} - {OF_BOTH}
    assert PRETRAINING.keys() | FINE_TUNING.keys() == recipes
    assert FINE_TUNING.keys() == MIX_BLOCKS.keys() == set(FINETUNING) & recipes


def test_videos_are_mixed_as_on_one_gpu_of_the_source(subtests: pytest.Subtests) -> None:
    """In blocks that divide the batch, which every hardware config takes in."""
    for name, block in MIX_BLOCKS.items():
        with subtests.test(exp=name):
            config = config_of_exp(name)
            assert config.augment.mix_block == block
            assert block_of(config.augment, config.optim.global_batch) == block
            assert 8 % group_of(block) == 0 or group_of(block) == 3


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


def test_pre_training_runs_are_the_recipes(subtests: pytest.Subtests) -> None:
    for name, recipe in PRETRAINING.items():
        with subtests.test(exp=name):
            check_pretraining(config_of_exp(name), recipe)
            data = {"override /data": recipe.data}
            assert yaml_of("exp", name)["defaults"][1] == data


def check_pretraining(config: Any, recipe: Pretraining) -> None:
    """Every setting that the recipe decides."""
    optim, data = config.optim, config.data
    if recipe.steps_per_epoch is None:  # on a list of any length
        assert plan_of(config) is None
        own = replace(config, data=replace(data, num_train=1_000_000))
        check_schedule(own, recipe, 1_000_000 // recipe.batch)
    else:
        check_schedule(config, recipe, recipe.steps_per_epoch)
    assert config.model == replace(preset(recipe.model), **recipe.decoder)
    assert optim.clip_grad == recipe.clip_grad
    assert (optim.betas, optim.weight_decay, optim.eps) == ([0.9, 0.95], 0.05, 1e-8)
    assert (optim.layer_decay, optim.drop_path) == (1.0, 0.0)
    assert config.mask == MaskConfig(MaskKind.tube, *recipe.mask)
    assert (data.clip.frames, data.clip.stride, data.clip.size) == (16, recipe.stride, 224)
    assert data.repeats == recipe.repeats
    assert config.model.decoder_depth == recipe.decoder.get("decoder_depth", 4)
    side = 224 // config.model.patch
    assert token_grid(config.model, data.clip) == (8, side, side)
    assert config.augment.crop is CropKind.multi_scale


def test_fine_tuning_runs_are_the_recipes(subtests: pytest.Subtests) -> None:
    for name, recipe in FINE_TUNING.items():
        with subtests.test(exp=name):
            check_fine_tuning(config_of_exp(name), recipe)


def check_fine_tuning(config: Any, recipe: Finetuning) -> None:
    """Every setting that the recipe decides."""
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
    assert (data.clip.frames, data.clip.size, data.repeats) == (16, 224, recipe.repeats)
    augment = config.augment
    assert (augment.mixup, augment.cutmix, augment.mix_prob) == (0.8, 1.0, 1.0)
    assert augment.crop is CropKind.random_resized


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


def test_the_rates_are_those_of_the_authors_logs(subtests: pytest.Subtests) -> None:
    for name, log in LOGS.items():
        config = config_of_exp(name)
        plan = plan_of(config)
        assert plan is not None
        embedding = config.optim.layer_decay ** (config.model.depth + 1)
        num_steps = plan.steps_per_epoch
        for epoch, rates in enumerate(log):
            with subtests.test(exp=name, epoch=epoch):
                steps = range(epoch * num_steps + 1, (epoch + 1) * num_steps + 1)
                mean = sum(map(plan.lr, steps)) / num_steps
                assert (mean, mean * embedding) == pytest.approx(rates, rel=1e-4)


def test_the_tests_compose_what_a_command_composes() -> None:
    """Else most of them would try settings that no command has."""
    words = ("+exp=ucf101", "model=vit_tiny", "model.depth=3", "run=debug", "data.segments=2")
    more = ("weights=scratch", "optim.lr=1e-3", "data.root=/b", "data.class_names=null")
    assert composed("finetune", *words, *more) == config_for("finetune", [*words, *more])
