"""Every check of a config: what is refused, with key, value and advice, and what is not."""

import ast
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hydra.errors import HydraException
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT, TINY, composed
from videomae.config import (
    MOST_TOKENS,
    AugmentConfig,
    ClipConfig,
    ConfigError,
    CropKind,
    DataConfig,
    FinetuneConfig,
    ListFormat,
    MaskConfig,
    MaskKind,
    ModelConfig,
    OptimConfig,
    PretrainConfig,
    RunConfig,
    UserError,
    check_mask,
    config_dir,
    token_grid,
)

MODEL = ModelConfig(
    name="small",
    dim=48,
    depth=2,
    heads=4,
    mlp_dim=64,
    patch=16,
    decoder_dim=16,
    decoder_heads=2,
    decoder_mlp_dim=32,
)
CLIP = ClipConfig(frames=8, stride=2, size=64)
DATA = DataConfig(clip=CLIP)
MASK = MaskConfig(MaskKind.tube, ratio=0.75, decoder_ratio=0.5)
AUGMENT = AugmentConfig(CropKind.multi_scale, antialias=True)
OPTIM = OptimConfig(
    global_batch=8, base_lr=1e-3, min_lr=0, betas=[0.9, 0.95], epochs=10, warmup_epochs=2
)
RUN = RunConfig()
PRETRAIN = PretrainConfig(MODEL, DATA, AUGMENT, OPTIM, RUN, mask=MASK)
FINETUNE = FinetuneConfig(MODEL, DATA, AUGMENT, OPTIM, RUN)
NAN = float("nan")

REFUSED: list[tuple[Any, dict[str, Any], str]] = [
    (MODEL, {"dim": 0}, "model.dim must be at least 1, got 0"),
    (MODEL, {"depth": 0}, "model.depth must be at least 1, got 0"),
    (MODEL, {"heads": -1}, "model.heads must be at least 1, got -1"),
    (MODEL, {"mlp_dim": 0}, "model.mlp_dim must be at least 1, got 0"),
    (MODEL, {"patch": 0}, "model.patch must be at least 1, got 0"),
    (MODEL, {"tubelet": 0}, "model.tubelet must be at least 1, got 0"),
    (MODEL, {"decoder_depth": 0}, "model.decoder_depth must be at least 1, got 0"),
    (MODEL, {"heads": 5}, "model.dim=48 is not a multiple of model.heads=5"),
    (
        MODEL,
        {"decoder_heads": 3},
        "model.decoder_dim=16 is not a multiple of model.decoder_heads=3",
    ),
    (MODEL, {"dim": 7, "heads": 1}, "model.dim=7 must be even"),
    (MODEL, {"decoder_dim": 9, "decoder_heads": 1}, "model.decoder_dim=9 must be even"),
    (CLIP, {"frames": 0}, "data.clip.frames must be at least 1, got 0"),
    (CLIP, {"stride": 0}, "data.clip.stride must be at least 1, got 0"),
    (CLIP, {"size": -4}, "data.clip.size must be at least 1, got -4"),
    (DATA, {"repeats": 0}, "data.repeats must lie in [1, 1024], got 0"),
    (DATA, {"segments": 0}, "data.segments must be at least 1, got 0"),
    (DATA, {"crops": 0}, "data.crops must be at least 1, got 0"),
    (DATA, {"classes": 1}, "data.classes must be at least 2, got 1"),
    (DATA, {"first_frame": -1}, "data.first_frame must be at least 0, got -1"),
    (DATA, {"max_bad_fraction": 1.1}, "data.max_bad_fraction must lie in [0, 1], got 1.1"),
    (DATA, {"max_bad_fraction": NAN}, "data.max_bad_fraction must lie in [0, 1], got nan"),
    (
        DATA,
        {"list_format": ListFormat.frames_start_total},
        "data.list_format=frames_start_total lists folders of frames: set data.frame_template",
    ),
    (
        DATA,
        {"list_format": ListFormat.frames_total_label},
        "data.list_format=frames_total_label lists folders of frames: set data.frame_template",
    ),
    (MASK, {"ratio": 0}, "mask.ratio must lie in (0, 1), got 0"),
    (MASK, {"ratio": 1.0}, "mask.ratio must lie in (0, 1), got 1.0"),
    (MASK, {"ratio": NAN}, "mask.ratio must lie in (0, 1), got nan"),
    (MASK, {"decoder_ratio": 0.9}, "mask.decoder_ratio must be 0, 0.25, 0.5 or 0.75"),
    (MASK, {"decoder_ratio": 1.0}, "got 1.0"),
    (AUGMENT, {"scales": []}, "augment.scales must be numbers in (0, 1], largest first, got []"),
    (
        AUGMENT,
        {"scales": [1.0, 1.5]},
        "augment.scales must be numbers in (0, 1], largest first, got [1.0, 1.5]",
    ),
    (
        AUGMENT,
        {"scales": [0.0]},
        "augment.scales must be numbers in (0, 1], largest first, got [0.0]",
    ),
    (AUGMENT, {"scales": [0.8, 1.0]}, "augment.scales must be numbers in (0, 1], largest first"),
    (AUGMENT, {"area": [0.5]}, "augment.area must be two numbers, least and most"),
    (AUGMENT, {"area": [0.5, 0.1]}, "got [0.5, 0.1]"),
    (AUGMENT, {"area": [0.5, 1.1]}, "in (0, 1.0], got [0.5, 1.1]"),
    (AUGMENT, {"area": [0.0, 1.0]}, "augment.area must be two numbers"),
    (AUGMENT, {"aspect": [2.0, 0.5]}, "augment.aspect must be two numbers, least and most"),
    (AUGMENT, {"aspect": [0.0, 0.5]}, "got [0.0, 0.5]"),
    (OPTIM, {"global_batch": 0}, "optim.global_batch must be at least 1, got 0"),
    (OPTIM, {"epochs": 0}, "optim.epochs must lie in [1, 1000000], got 0"),
    (OPTIM, {"base_lr": -1.0}, "optim.base_lr must be at least 0, got -1.0"),
    (OPTIM, {"base_lr": NAN}, "optim.base_lr must be at least 0, got nan"),
    (OPTIM, {"min_lr": -1.0}, "optim.min_lr must be at least 0, got -1.0"),
    (OPTIM, {"warmup_epochs": -1.0}, "optim.warmup_epochs must be at least 0, got -1.0"),
    (OPTIM, {"weight_decay": -0.1}, "optim.weight_decay must be at least 0, got -0.1"),
    (OPTIM, {"eps": -1e-8}, "optim.eps must be at least 0, got -1e-08"),
    (
        OPTIM,
        {"clip_grad": -1.0},
        "optim.clip_grad must be more than 0, or null for no clipping; got -1.0",
    ),
    (OPTIM, {"drop_path": 1.5}, "optim.drop_path must lie in [0, 1], got 1.5"),
    (OPTIM, {"head_drop": -0.5}, "optim.head_drop must lie in [0, 1], got -0.5"),
    (OPTIM, {"label_smoothing": 2}, "optim.label_smoothing must lie in [0, 1], got 2"),
    (OPTIM, {"layer_decay": 0.0}, "optim.layer_decay must lie in (0, 1], got 0.0"),
    (OPTIM, {"layer_decay": 1.1}, "optim.layer_decay must lie in (0, 1], got 1.1"),
    (OPTIM, {"betas": [0.9]}, "optim.betas must be two numbers in [0, 1), got [0.9]"),
    (OPTIM, {"betas": [0.9, 1.0]}, "optim.betas must be two numbers in [0, 1), got [0.9, 1.0]"),
    (RUN, {"device_batch": 0}, "run.device_batch must be at least 1, got 0"),
    (RUN, {"workers": -1}, "run.workers must be at least 0, got -1"),
    (RUN, {"log_every": 0}, "run.log_every must be at least 1, got 0"),
    (RUN, {"image_every": -1}, "run.image_every must be at least 0, got -1"),
    (RUN, {"checkpoint_every": 0}, "run.checkpoint_every must be at least 1, got 0"),
    (RUN, {"checkpoint_every_min": 0.0}, "run.checkpoint_every_min must be more than 0, got 0.0"),
    (RUN, {"checkpoint_every": None}, "run.checkpoint_every and run.checkpoint_every_min are both"),
    (RUN, {"keep_checkpoints": 0}, "run.keep_checkpoints must be at least 1, got 0"),
    (RUN, {"max_nonfinite": 0}, "run.max_nonfinite must be at least 1, got 0"),
    (FINETUNE, {"max_steps": 0}, "max_steps must be at least 1, got 0"),
    (FINETUNE, {"data": replace(DATA, clip=replace(CLIP, frames=7))}, "data.clip.frames=7 is not"),
    (FINETUNE, {"data": replace(DATA, clip=replace(CLIP, size=70))}, "data.clip.size=70 is not"),
    (PRETRAIN, {"data": replace(DATA, clip=replace(CLIP, size=70))}, "data.clip.size=70 is not"),
    (PRETRAIN, {"mask": replace(MASK, ratio=0.01)}, "mask.ratio=0.01 hides 0 of 16 places"),
    (
        PRETRAIN,
        {"data": replace(DATA, clip=replace(CLIP, size=48))},
        "mask.decoder_ratio=0.5 tiles the frame with cells of 2 x 2 tokens, but the grid is 3 x 3",
    ),
    (PRETRAIN, {"data": replace(DATA, hflip=True)}, "data.hflip must be false in pre-training"),
    (PRETRAIN, {"optim": replace(OPTIM, drop_path=0.1)}, "optim.drop_path has no meaning"),
    (PRETRAIN, {"optim": replace(OPTIM, head_drop=0.1)}, "optim.head_drop has no meaning"),
    (PRETRAIN, {"optim": replace(OPTIM, label_smoothing=0.1)}, "leave it at its default"),
]
ACCEPTED: list[tuple[Any, dict[str, Any]]] = [
    (MODEL, {"depth": 1, "decoder_depth": 1, "tubelet": 1}),
    (CLIP, {"frames": 1, "stride": 1, "size": 1}),
    (DATA, {"classes": 2, "repeats": 1, "segments": 1, "crops": 1, "first_frame": 0}),
    (DATA, {"max_bad_fraction": 0.0}),
    (DATA, {"max_bad_fraction": 1.0}),
    (DATA, {"list_format": ListFormat.frames_start_total, "frame_template": "img_{:05}.jpg"}),
    (MASK, {"ratio": 0.01, "decoder_ratio": 0}),
    (MASK, {"ratio": 0.99, "decoder_ratio": 0.25}),
    (MASK, {"decoder_ratio": 0.75}),
    (AUGMENT, {"scales": [1.0], "area": [1.0, 1.0], "aspect": [1.0, 3.0]}),
    (OPTIM, {"base_lr": 0.0, "weight_decay": 0.0, "eps": 0.0}),
    (OPTIM, {"layer_decay": 1.0, "betas": [0.0, 0.0], "warmup_epochs": 10}),
    (OPTIM, {"drop_path": 1.0, "head_drop": 0.0, "label_smoothing": 1.0}),
    (RUN, {"workers": 0, "image_every": 0, "device_batch": 1, "keep_checkpoints": 1}),
    (RUN, {"workers": None}),
    (FINETUNE, {"max_steps": 1, "seed": 0}),
    (FINETUNE, {"data": replace(DATA, hflip=True), "optim": replace(OPTIM, drop_path=0.1)}),
    (FINETUNE, {"data": replace(DATA, clip=replace(CLIP, size=48))}),
]


def name_of(value: object) -> str:
    """Test ids: the section and what changes in it."""
    if isinstance(value, Mapping):
        return "-".join(value)
    return "" if isinstance(value, str) else type(value).__name__


@pytest.mark.parametrize(("config", "change", "message"), REFUSED, ids=name_of)
def test_what_cannot_work_is_refused_with_key_value_and_advice(
    config: Any, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        replace(config, **change)


@pytest.mark.parametrize(("config", "change"), ACCEPTED, ids=name_of)
def test_what_lies_on_the_border_is_accepted(config: Any, change: dict[str, Any]) -> None:
    changed = replace(config, **change)
    assert all(getattr(changed, key) == value for key, value in change.items())


def test_the_seed_is_named_as_it_is_set() -> None:
    """The override is seed=, there is no config.seed=."""
    with pytest.raises(ConfigError, match=r"^seed must lie in \[0, 2\*\*63\), got -1"):
        replace(FINETUNE, seed=-1)


def test_advice_about_frame_folders_holds_an_example() -> None:
    with pytest.raises(ConfigError, match=r"'data\.frame_template=\"img_\{:05\}\.jpg\"'$"):
        replace(DATA, list_format=ListFormat.frames_total_label)


@pytest.mark.parametrize(
    "text", ["img_{:05}.jpg", "{}.png", "{0:05d}.jpg", "a{{b}}_{:>4}.jpg", "x/{:d}"]
)
def test_a_template_makes_names_of_numbers(text: str) -> None:
    assert replace(DATA, frame_template=text).frame_template == text


@pytest.mark.parametrize(
    "text",
    ["img.jpg", "{:s}", "{:9999999999}", "{:.99999}", "{0.real}", "{1}", "{x}", "{", "{} {}"],
)
def test_a_template_that_makes_no_names_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="must hold one place for the frame's number"):
        replace(DATA, frame_template=text)


@pytest.mark.parametrize("kind", [int, int | None])
def test_no_number_of_the_hardware_may_be_negative(kind: object) -> None:
    """Also one that is added later."""
    counts = [field.name for field in fields(RunConfig) if field.type == kind]
    assert counts
    for name in counts:
        with pytest.raises(ConfigError, match=f"run.{name} must be at least"):
            replace(RUN, **{name: -1})


@pytest.mark.parametrize("config", [MODEL, CLIP, DATA, MASK, AUGMENT, OPTIM, RUN, PRETRAIN])
def test_configs_cannot_be_changed(config: Any) -> None:
    name = fields(config)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(config, name, getattr(config, name))


def test_a_config_error_is_one_that_commands_print_without_a_traceback() -> None:
    assert issubclass(ConfigError, UserError)
    assert issubclass(UserError, ValueError)


@pytest.mark.parametrize(
    ("patch", "size", "frames", "grid"),
    [(16, 224, 16, (8, 14, 14)), (14, 224, 16, (8, 16, 16)), (8, 32, 8, (4, 4, 4))],
)
def test_token_grid_of_the_shipped_sizes(
    patch: int, size: int, frames: int, grid: tuple[int, int, int]
) -> None:
    assert token_grid(replace(MODEL, patch=patch), ClipConfig(frames, 4, size)) == grid


@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 500), st.integers(1, 40))
@settings(deadline=None)
def test_a_token_grid_has_no_rest_or_names_sizes_that_have_none(
    patch: int, tubelet: int, size: int, frames: int
) -> None:
    model, clip = replace(MODEL, patch=patch, tubelet=tubelet), ClipConfig(frames, 1, size)
    if frames % tubelet:
        message = f"data.clip.frames={frames} is not a multiple of model.tubelet={tubelet}"
        with pytest.raises(ConfigError, match=re.escape(message)):
            token_grid(model, clip)
    elif size % patch:
        message = f"data.clip.size={size} is not a multiple of model.patch={patch}"
        with pytest.raises(ConfigError, match=re.escape(message)) as error:
            token_grid(model, clip)
        below, above = map(int, re.findall(r"sizes are (\d+) and (\d+)", str(error.value))[0])
        assert above > size
        for near in (below, above):
            near_clip = replace(clip, size=near)
            if frames // tubelet * (near // patch) ** 2 <= MOST_TOKENS:
                assert token_grid(model, near_clip)[1] == near // patch
            assert abs(near - size) < patch
    elif frames // tubelet * (size // patch) ** 2 > MOST_TOKENS:
        with pytest.raises(ConfigError, match="no memory holds more"):
            token_grid(model, clip)
    else:
        t, h, w = token_grid(model, clip)
        assert (t * tubelet, h * patch, w * patch) == (frames, size, size)


@given(
    st.sampled_from(MaskKind),
    st.floats(0.01, 0.99),
    st.tuples(st.integers(1, 4), st.integers(1, 6), st.integers(1, 6)),
    st.sampled_from([0.0, 0.25, 0.5, 0.75]),
)
@settings(deadline=None)
def test_a_mask_is_refused_exactly_where_it_leaves_nothing_or_does_not_tile(
    kind: MaskKind, ratio: float, grid: tuple[int, int, int], decoder_ratio: float
) -> None:
    t, h, w = grid
    places = h * w * (1 if kind is MaskKind.tube else t)
    hidden = int(ratio * places)
    tiles = decoder_ratio == 0 or (h % 2 == 0 and w % 2 == 0)
    mask = MaskConfig(kind, ratio, decoder_ratio)
    if hidden == 0 or not tiles:
        with pytest.raises(ConfigError, match="at least one" if hidden == 0 else "mask=tube"):
            check_mask(mask, grid)
    else:
        check_mask(mask, grid)
        assert hidden < places


@pytest.mark.parametrize(
    "file", [*(ROOT / "videomae" / "config").glob("*.py"), ROOT / "videomae" / "run" / "files.py"]
)
def test_configs_and_files_need_the_standard_library_only(file: Path) -> None:
    tree = ast.parse(file.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(str(node.module))
    assert names
    outside = {name.split(".")[0] for name in names if not name.startswith("videomae.config")}
    assert outside <= sys.stdlib_module_names


def message_of(error: BaseException | None) -> str:
    """All that an error says, with what caused it."""
    return f"{error}\n{message_of(error.__cause__)}" if error else ""


@pytest.mark.parametrize(
    ("command", "override", "key"),
    [
        ("pretrain", "optim.rate=1", "optim.rate"),
        ("pretrain", "mask.decoder=0.5", "mask.decoder"),
        ("pretrain", "data.clip.fps=25", "data.clip.fps"),
        ("pretrain", "epochs=3", "epochs"),
        ("finetune", "mask.ratio=0.5", "mask"),
        ("finetune", "run.gpus=2", "run.gpus"),
        ("evaluate", "augment.flip=true", "augment.flip"),
        ("reconstruct", "checkpoint=x", "checkpoint"),
        ("reconstruct", "run.batch=1", "run.batch"),
    ],
)
def test_an_unknown_key_is_refused_by_name(command: str, override: str, key: str) -> None:
    with pytest.raises(HydraException) as error:
        composed(command, override)
    assert f"'{key}'" in message_of(error.value) or f"full_key: {key}\n" in message_of(error.value)


@pytest.mark.parametrize("override", ["+optim.rate=1", "+epochs=3"])
def test_an_unknown_key_cannot_be_added_either(override: str) -> None:
    """Hydra's own message about an unknown key suggests the plus sign."""
    key = override.strip("+").split("=")[0]
    with pytest.raises((HydraException, UserError)) as error:
        composed("pretrain", override)
    assert key in message_of(error.value)


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("optim.epochs=many", "optim.epochs"),
        ("optim.betas=0.9", "optim.betas"),
        ("optim.base_lr=null", "optim.base_lr"),
        ("run.device_batch=1.5", "run.device_batch"),
        ("data.clip.frames=[1]", "data.clip.frames"),
        ("data.hflip=perhaps", "data.hflip"),
        ("mask.kind=cube", "mask.kind"),
        ("model.positions=learnt", "model.positions"),
        ("max_steps=soon", "max_steps"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_name(override: str, key: str) -> None:
    with pytest.raises(HydraException) as error:
        composed("pretrain", override)
    assert f"full_key: {key}\n" in message_of(error.value)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.clip.size=230", r"data\.clip\.size=230 .* model\.patch=16; .* are 224 and 240"),
        ("data.clip.size=240", r"the grid is 15 x 15: .*mask=tube"),
        ("mask.ratio=1.5", r"mask\.ratio must lie in \(0, 1\), got 1\.5"),
        ("optim.warmup_epochs=900", r"warmup_epochs=900 is more than optim\.epochs=200: "),
    ],
)
def test_the_checks_run_on_what_hydra_composed(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        composed("pretrain", override)


def test_what_hydra_composed_is_the_dataclasses_themselves() -> None:
    config = composed("pretrain", *TINY)
    assert type(config) is PretrainConfig
    assert type(config.model) is ModelConfig
    assert type(config.data.clip) is ClipConfig
    assert type(config.mask) is MaskConfig
    assert config.mask.kind is MaskKind.tube
    assert (config.model.dim, config.data.clip.frames, config.run.workers) == (32, 4, 0)
    assert config.output_dir == "outputs/pretrain"


@pytest.mark.parametrize(
    ("file", "text", "overrides", "key"),
    [
        ("exp/typo", "# @package _global_\noptim:\n  epoch: 3\n", ["+exp=typo"], "optim.epoch"),
        ("exp/typo", "# @package _global_\noptims: {}\n", ["+exp=typo"], "optims"),
        ("exp/typo", "# @package _global_\nseed: none\n", ["+exp=typo"], "seed"),
        ("model/typo", "dims: 3\n", ["model=typo"], "model.dims"),
        ("data/typo", "clip:\n  frames: x\n", ["data=typo"], "data.clip.frames"),
        ("run/typo", "device: tpu\n", ["run=typo"], "run.device"),
    ],
)
def test_a_typo_in_a_file_is_refused_with_the_files_name(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    text: str,
    overrides: list[str],
    key: str,
) -> None:
    copy = shutil.copytree(config_dir(), tmp_path / "configs")
    (copy / f"{file}.yaml").write_text(text)
    monkeypatch.setattr("tests.conftest.config_dir", lambda: copy)
    with pytest.raises(HydraException) as error:
        composed("pretrain", *overrides)
    assert file in message_of(error.value)
    assert f"full_key: {key}\n" in message_of(error.value)


@pytest.mark.parametrize("group", ["model", "data", "mask", "run", "+exp"])
def test_an_unknown_choice_is_refused_with_those_there_are(group: str) -> None:
    with pytest.raises(HydraException) as error:
        composed("pretrain", f"{group}=nonesuch")
    some = sorted(path.stem for path in (config_dir() / group.strip("+")).glob("*.yaml"))
    assert len(some) > 2
    for name in (f"{group.strip('+')}/nonesuch", *some):
        assert name in message_of(error.value)
