"""Weights say how to use them: evaluate, predict and Python agree, whatever exp is named."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import videomae
from tests.config.test_configs import FINETUNING
from tests.conftest import ROOT, TINY, composed, write_list, write_video
from tests.miniatures import write_clip
from tests.test_commands import call
from tests.test_predict import CLASSES, CLIP, NAMES, classifier, encoder_of_pretraining
from videomae.config import (
    ConfigError,
    EvaluateConfig,
    ExtractConfig,
    FinetuneConfig,
    PredictConfig,
    PretrainConfig,
    ProbeConfig,
    ReconstructConfig,
    Sampling,
    UserError,
)
from videomae.config.settings import USES, all_settings, listed_settings
from videomae.evaluation.trained import UnreadableVideoError
from videomae.pretrain import pretrain
from videomae.run.given import Given, given, given_of
from videomae.weights.formats import read_weights
from videomae.weights.usage import usage_of
from videomae.weights.weights import save_weights

VIEWS = ("data.segments=2", "data.crops=2")


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of seven videos of different lengths, sizes and containers, and a classifier."""
    monkeypatch.chdir(tmp_path)
    shapes = [(3, 48, 64), (12, 48, 64), (40, 32, 32), (9, 90, 50), (25, 36, 128), (1, 48, 48)]
    for number, (frames, height, width) in enumerate(shapes):
        size = {"height": height, "width": width}
        write_video(tmp_path / "videos" / f"{number}.mp4", frames=frames, seed=number, **size)
    write_clip(tmp_path / "videos" / "deep" / "6.avi", 5, frames=17)
    names = [f"{number}.mp4" for number in range(6)] + ["deep/6.avi"]
    write_list(Path("test.txt"), [f"{name} {n % CLASSES}" for n, name in enumerate(names)])
    classifier(tmp_path / "weights.safetensors")
    return tmp_path


def said_of(**changes: Any) -> None:
    """Write the description of weights.safetensors anew."""
    weights = read_weights("weights.safetensors")
    save_weights(Path("weights.safetensors"), weights.tensors, replace(weights.info, **changes))


def evaluated(*words: str, weights: str = "weights.safetensors", status: int = 0) -> dict[str, Any]:
    """The scores of each class by video, and results.json, of an evaluation of the folder."""
    lists = ("data.test_list=test.txt", "data.root=videos", f"weights={weights}", "run=debug")
    assert call("evaluate", *lists, "output_dir=e", "overwrite=true", *words) == status
    rows = [json.loads(line) for line in Path("e/predictions.jsonl").read_text().splitlines()]
    return {row["video"]: {each["class"]: each["prob"] for each in row["top"]} for row in rows}


def predicted(*words: str, weights: str = "weights.safetensors") -> dict[str, Any]:
    """The scores of each class by video, of a prediction of the folder."""
    assert call("predict", "run=debug", f"weights={weights}", "video=videos", *words) == 0
    rows = json.loads(Path("predictions.json").read_text())["videos"]
    return {row["video"]: {each["class"]: each["prob"] for each in row["top"]} for row in rows}


def assert_same(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Check that two commands give all videos the same scores, to the digits of predictions.jsonl,
    and that not all videos are given the same."""
    assert ours.keys() == theirs.keys()
    assert len({tuple(sorted(scores.items())) for scores in ours.values()}) > 4
    for video, scores in ours.items():
        assert scores.keys() == theirs[video].keys() == set(NAMES)
        for name, prob in scores.items():
            assert prob == pytest.approx(theirs[video][name], abs=6e-5), (video, name)


@pytest.mark.parametrize("sampling", list(Sampling))
@pytest.mark.parametrize("exp", [None, "ucf101", "ssv2_vitb_v2", "small"])
def test_predict_and_evaluate_agree_on_every_video(
    place: Path, exp: str | None, sampling: Sampling
) -> None:
    said_of(sampling=sampling)
    words = [f"+exp={exp}"] * (exp is not None)
    assert_same(evaluated(*words, *VIEWS), predicted("segments=2", "crops=2"))


def test_an_exp_changes_neither_clip_nor_model_nor_classes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """+exp=k400 is a ViT-g of 400 classes on 16 frames of 224 px; the weights are none of it."""
    said_of(sampling=Sampling.dense)
    evaluated("+exp=k400", *VIEWS)
    said = " ".join(capsys.readouterr().err.split())
    assert "from the weights: vit_tiny, frames=4, stride=2, size=32, sampling=dense" in said
    assert "data.classes=400 is not asked: weights.safetensors knows 3" in said
    assert "from the command line" not in said
    assert "not said by the weights" not in said
    results = json.loads(Path("e/results.json").read_text())
    assert list(results["per_class"]) == NAMES
    text = Path("e/config.yaml").read_text()
    assert "size: 32" in text
    assert "dim: 32" in text


@pytest.mark.long
def test_the_command_line_changes_the_clip_and_is_told(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said_of(sampling=Sampling.dense)
    plain = evaluated(*VIEWS)
    capsys.readouterr()
    for words, line, stride in (
        (["data.clip.stride=8"], "data.clip.stride=8 from the command line; the weights were", 8),
        (["data.clip={stride: 8}"], "data.clip.stride=8 from the command line; the weights", 8),
        (["data.clip.stride=2"], None, None),
        (["data.sampling=segment"], "data.sampling=segment from the command line", None),
    ):
        found = evaluated(*VIEWS, *words)
        said = " ".join(capsys.readouterr().err.split())
        assert (found == plain) == (line is None), words
        if line:
            assert line in said
        if stride:
            assert_same(found, predicted("segments=2", "crops=2", f"stride={stride}"))
            said = " ".join(capsys.readouterr().err.split())
            assert f"stride={stride} from the command line; the weights were trained at 2" in said
    assert evaluated(*VIEWS, "data.clip.size=48") != plain
    assert "data.clip.size=48 from the command line" in capsys.readouterr().err


def test_the_command_line_changes_what_tensors_do_not_show_of_the_model(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = evaluated(*VIEWS)
    heads = evaluated(*VIEWS, "model.heads=4")
    said = " ".join(capsys.readouterr().err.split())
    assert "4 heads, as given; the weights were trained with 2" in said
    assert heads != plain
    given = ("data.test_list=test.txt", "data.root=videos", "weights=weights.safetensors")
    for wrong in ("model.depth=3", "model=vit_small"):
        assert call("evaluate", *given, wrong, "output_dir=no") == 2
        assert "holds vit_tiny" in capsys.readouterr().err


def test_what_an_official_file_does_not_hold_comes_from_the_exp(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The file holds frames and size; stride and sampling are those of Something-Something V2."""
    weights = read_weights("weights.safetensors")
    content = {"model": weights.tensors, "args": {"num_frames": 4, "input_size": 32}}
    torch.save(content, "official.pth")
    heads = ("model.heads=2", "model.positions=sincos_3d")
    found = evaluated("+exp=ssv2_vitb_v2", *VIEWS, *heads, weights="official.pth", status=0)
    said = " ".join(capsys.readouterr().err.split())
    assert "not said by the weights, so from exp=ssv2_vitb_v2: stride=2, sampling=segment" in said
    assert "so assumed" not in said
    said_of(sampling=Sampling.segment)
    named = dict(zip(("0", "1", "2"), NAMES, strict=True))
    renamed = {v: {named[k]: p for k, p in scores.items()} for v, scores in found.items()}
    assert_same(renamed, predicted("segments=2", "crops=2"))


def test_names_on_the_command_line_rename_but_do_not_reorder(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = evaluated(*VIEWS)
    write_list(Path("names.txt"), ["Sprung", "Lauf", "swim"])
    found = evaluated(*VIEWS, "data.class_names=names.txt")
    assert "data.class_names from the command line; the weights have 2 other names" in (
        " ".join(capsys.readouterr().err.split())
    )
    names = {"Sprung": "jump", "Lauf": "run", "swim": "swim"}
    for video, scores in found.items():
        assert {names[name]: prob for name, prob in scores.items()} == plain[video]
    write_list(Path("names.txt"), ["run", "jump", "swim"])
    given = ("data.test_list=test.txt", "data.root=videos", "weights=weights.safetensors")
    assert call("evaluate", *given, "data.class_names=names.txt", "output_dir=no") == 2
    assert "was trained with other class names: class 0 is 'jump' there" in capsys.readouterr().err


@pytest.mark.parametrize("exp", FINETUNING)
def test_evaluate_composes_with_every_fine_tuning_exp_and_a_small_clip(exp: str) -> None:
    """The exp's model need not fit the clip, nor its warm-up its epochs: neither is used."""
    config = composed("evaluate", f"+exp={exp}", "data.clip.size=30", "optim.epochs=1")
    assert config.name == exp or exp == "small"


def listed_of(config_class: type) -> set[str]:
    return {known.key for known in listed_settings(config_class)}


def test_the_help_of_evaluate_leaves_out_what_it_does_not_use() -> None:
    listed, every = listed_of(EvaluateConfig), {each.key for each in all_settings(EvaluateConfig)}
    assert {"optim.epochs", "augment.flips", "data.train_list", "model.dim"} & listed == set()
    assert {"optim.epochs", "data.train_list", "model.dim"} <= every
    assert {"weights", "data.test_list", "data.segments", "data.clip.stride"} <= listed
    assert {"data.train_list", "model.dim", "seed"} <= listed_of(ProbeConfig)
    assert {"data.segments", "data.target"} & listed_of(ProbeConfig) == set()


@pytest.mark.parametrize(
    "config_class", [EvaluateConfig, PredictConfig, ProbeConfig, ExtractConfig, ReconstructConfig]
)
def test_the_help_of_a_use_has_no_settings_of_a_training(config_class: type) -> None:
    """Of `run` it lists the device, its precision and its memory, and the processes."""
    of_run = {key for key in listed_of(config_class) if key.startswith("run.")}
    names = ("device", "precision", "sharding", "device_batch", "workers")
    assert of_run <= {f"run.{name}" for name in names}
    assert {"run.log_every", "run.mlflow"} <= listed_of(FinetuneConfig)


def test_settings_without_effect_name_commands_of_this_package() -> None:
    commands = {path.stem for path in (ROOT / "videomae").glob("[a-z]*.py")}
    assert set(USES) <= commands
    for config_class in (PretrainConfig, FinetuneConfig, EvaluateConfig, ProbeConfig):
        for known in all_settings(config_class):
            for rules in (*known.sections, known.rules):
                assert {*rules.no_effect_in, *rules.from_weights_in} <= commands, known.key


def test_given_by_itself_or_with_its_group() -> None:
    told = given_of(["model=vit_small", "data.clip={size: 8}", "+exp=x", "data=ucf101"], "x")
    assert told.has("model.heads")
    assert told.has("data.clip.stride")  # with data=ucf101
    assert not told.itself("model.heads")
    assert told.itself("data.clip.size")
    assert not told.itself("data.clip.stride")
    assert not told.itself("data.sampling")
    assert not told.has("exp")
    assert told.exp == "x"


def test_a_data_config_is_no_override(place: Path) -> None:
    weights = read_weights("weights.safetensors")
    data = composed("evaluate", "data=ssv2").data
    assert usage_of(weights, data, given_of(["data=ssv2"], None)).data.clip == CLIP
    told = given_of(["data=ssv2", "data.clip.size=64"], None)
    clip = usage_of(weights, replace(data, clip=replace(data.clip, size=64)), told).data.clip
    assert clip == replace(CLIP, size=64)


@pytest.mark.long
def test_another_model_than_the_exps_is_told_where_it_writes(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_list(Path("list.txt"), ["1.mp4", "2.mp4"])
    tiny = [word for word in TINY if not word.startswith("model")]
    words = ("+exp=demo_pretrain", *tiny, "data.train_list=list.txt", "data.root=videos")
    words = (*words, "optim.global_batch=2", "max_steps=1", "overwrite=true")
    said = "output_dir=outputs/demo_pretrain is that of exp=demo_pretrain"
    for more, expected in (
        ((), False),
        (("model=vit_tiny",), True),
        (("model=vit_tiny", "name=demo_tiny"), False),
    ):
        assert call("pretrain", *words, *more) == 0
        assert (said in " ".join(capsys.readouterr().err.split())) == expected, more
    assert Path("outputs/demo_tiny/weights.safetensors").is_file()


# In Python


def test_python_predicts_as_the_command_does(place: Path) -> None:
    said_of(sampling=Sampling.segment)
    model = videomae.load("weights.safetensors")
    assert model.class_names == NAMES
    assert model.clip == CLIP
    rows = predicted("segments=3", "crops=2")
    for video, scores in rows.items():
        found = model.predict(Path("videos") / video, segments=3, crops=2)
        assert dict(found.top) == scores
    best = found.top[0][0]
    assert f"<td>{best}</td>" in found._repr_html_()
    assert best in repr(found)
    assert model.predict(Path("videos/2.mp4"), segments=1, crops=1, top=1).top[0][0] in NAMES


@pytest.mark.parametrize("make", [classifier, encoder_of_pretraining])
def test_python_computes_features_as_the_command_does(place: Path, make: Any) -> None:
    make(Path("weights.safetensors"))
    model = videomae.load("weights.safetensors")
    for pool in ("mean", "none"):
        words = (f"pool={pool}", "hop=3", f"output_dir={pool}", "run=debug")
        assert call("extract", "weights=weights.safetensors", "video=videos", *words) == 0
        rows = Path(f"{pool}/manifest.jsonl").read_text().splitlines()
        for row in map(json.loads, rows):
            expected = load_file(Path(pool) / row["file"])["features"]
            found = model.features(f"videos/{row['path']}", pool=pool, hop=3)
            assert torch.equal(found.features, expected)
            assert found.starts == row["starts"]
            assert found.num_frames == row["num_frames"]
    assert "windows of 4 frames" in repr(found)


def test_python_reconstructs_as_the_command_does(place: Path) -> None:
    encoder_of_pretraining(Path("pretrained.safetensors"))
    model = videomae.load("pretrained.safetensors")
    assert model.class_names is None
    words = ("mask_ratio=0.5", "mask_kind=random", "seed=3", "output_dir=d", "output=r.png")
    given = ("weights=pretrained.safetensors", "video=videos/2.mp4", "run=debug")
    assert call("reconstruct", *given, *words, pictures=True) == 0
    found = model.reconstruct("videos/2.mp4", mask_ratio=0.5, mask_kind="random", seed=3)
    assert found._repr_png_() == Path("d/r.png").read_bytes()
    hidden = (found.masked != found.original).any(-1)
    assert 0.4 < hidden.float().mean() < 0.6
    shown = ~hidden
    assert torch.equal(found.rebuilt[shown], found.original[shown])


def test_python_says_what_cannot_be_done(place: Path) -> None:
    model = videomae.load("weights.safetensors")
    (place / "bad.mp4").write_bytes(b"no video")
    for path, words in (("bad.mp4", "cannot be read"), ("nowhere.mp4", "does not exist")):
        for method in (model.predict, model.features):
            with pytest.raises(UnreadableVideoError, match=words):
                method(path)
    with pytest.raises(UserError, match="pre-training model is needed"):
        model.reconstruct("videos/0.mp4")
    encoder_of_pretraining(Path("pretrained.safetensors"))
    with pytest.raises(UserError, match="a classifier is needed"):
        videomae.load("pretrained.safetensors").predict("videos/0.mp4")
    with pytest.raises(ConfigError, match="sampling=odd: it is one of dense, segment"):
        model.predict("videos/0.mp4", sampling="odd")


def test_a_config_is_composed_and_trained_with(place: Path) -> None:
    words = [*TINY, "mask=random_cell", "data.train_list=list.txt", "data.root=videos"]
    write_list(Path("list.txt"), ["1.mp4", "2.mp4", "3.mp4", "4.mp4"])
    words += ["optim.global_batch=2", "optim.epochs=1", "optim.warmup_epochs=0"]
    config = videomae.config_for("pretrain", [*words, "output_dir=run"])
    assert config == composed("pretrain", *words, "output_dir=run")
    assert given(config).itself("data.clip.frames")
    assert given(replace(config)) == Given()
    pretrain(config)
    assert read_weights("run").info.step == 2
    assert videomae.config_for("finetune", ["+exp=ucf101"]).name == "ucf101"


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("pretrian", [], "there is no command pretrian; did you mean pretrain?"),
        ("pretrain", ["optim.epoch=3"], "there is no setting optim.epoch; did you mean"),
        ("pretrain", ["optim.epochs=x"], "optim.epochs"),
        ("finetune", ["+exp=ucf"], "there is no exp=ucf"),
    ],
)
def test_a_config_that_cannot_be_composed(command: str, words: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        videomae.config_for(command, words)


def test_importing_the_package_and_composing_import_no_torch() -> None:
    code = (
        "import sys, videomae; videomae.config_for('pretrain', ['+exp=small']);"
        "assert videomae.__version__; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
