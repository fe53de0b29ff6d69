"""Weights of others in the commands: started from, evaluated, converted, chained."""

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.conftest import composed
from tests.model import randomise
from tests.test_commands import call
from tests.train import FINETUNE, finetuning, labelled_list, pretraining, train, weights
from videomae import load_model
from videomae.config import ClipConfig, ModelConfig, WeightsFormat
from videomae.convert import convert
from videomae.evaluate import evaluate
from videomae.model import VideoClassifier, preset
from videomae.run.files import sha256
from videomae.weights.formats import DEEPSPEED, read_weights, write_weights
from videomae.weights.load import build_model, load_encoder, pick_classes
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, WeightsInfo

ARGS = argparse.Namespace(num_frames=4, input_size=32, sampling_rate=2)
ARGS_16 = argparse.Namespace(num_frames=16, input_size=224, sampling_rate=4)


def tiny() -> ModelConfig:
    """The model of the runs in these tests."""
    return composed("finetune", *FINETUNE).model


def made(
    kind: Kind, classes: int | None = None, **model: Any
) -> tuple[dict[str, Tensor], WeightsInfo]:
    """Random weights of the tests' model, and what they are."""
    clip = ClipConfig(4, 2, 32)
    info = WeightsInfo(kind, "theirs", replace(tiny(), **model), clip, classes=classes)
    random = build_model(info)
    randomise(random)
    with torch.no_grad():
        for parameter in random.parameters():
            parameter.mul_(0.1)
    return random.state_dict(), info


def official(path: Path, kind: Kind, classes: int | None = None) -> dict[str, Tensor]:
    """An official checkpoint; positions are sincos_1d there."""
    state, _ = made(kind, classes)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": state, "args": ARGS}, path)
    return state


FIXED = ("model.positions=sincos_1d",)
"""The tests' model has vit_tiny's positions, which only this project knows."""


# Starting from them


@pytest.mark.long
def test_every_format_starts_the_same_fine_tuning(videos: Path, tmp_path: Path) -> None:
    """Bit for bit, but for the epsilon that a Hugging Face directory says."""
    state = official(tmp_path / "a.pth", Kind.pretrain)
    (tmp_path / "deepspeed").mkdir()
    torch.save({"module": state, "args": ARGS}, tmp_path / "deepspeed" / DEEPSPEED)
    info = read_weights(tmp_path / "a.pth", like=tiny()).info
    for kind, name in (("videomae", "b.safetensors"), ("huggingface", "c")):
        write_weights(tmp_path / name, WeightsFormat[kind], state, info)
    runs = [
        train(finetuning(videos, tmp_path / f"run{i}", *FIXED, weights=str(tmp_path / name)))
        for i, name in enumerate(["a.pth", "deepspeed", "b.safetensors", "c"])
    ]
    first = weights(runs[0])
    assert all(first[n].equal(weights(run)[n]) for run in runs[1:] for n in first)
    assert not first["blocks.0.mlp.fc1.weight"].equal(state["encoder.blocks.0.mlp.fc1.weight"])
    (parent,) = read_weights(runs[0]).info.parents
    assert (parent.name, parent.sha256) == ("a", sha256(tmp_path / "a.pth"))
    (parent,) = read_weights(runs[3]).info.parents
    assert (parent.name, parent.sha256) == ("c", sha256(tmp_path / "c" / "model.safetensors"))


def test_pre_training_goes_on_from_an_official_file(
    videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official(tmp_path / "a.pth", Kind.pretrain)
    config = pretraining(videos, tmp_path / "run", *FIXED, weights=str(tmp_path / "a.pth"))
    info = read_weights(train(config)).info
    assert [link.name for link in info.parents] == ["a"]
    assert "missing: none; unexpected: none" in capsys.readouterr().err


def test_the_epsilons_of_the_weights_are_those_of_the_run(videos: Path, tmp_path: Path) -> None:
    state, info = made(Kind.classifier, 3, norm_eps=1e-12, fc_norm_eps=1e-5)
    info = replace(info, model=replace(info.model, positions=info.model.positions.sincos_1d))
    write_weights(tmp_path / "a", WeightsFormat.huggingface, state, info)
    config = finetuning(videos, tmp_path / "run", *FIXED, weights=str(tmp_path / "a"))
    run = train(config)
    saved = read_weights(run).info.model
    assert (saved.norm_eps, saved.fc_norm_eps, saved.decoder_norm_eps) == (1e-12, 1e-5, 1e-6)
    assert "norm_eps: 1.0e-12" in (run / "config.yaml").read_text()
    resumed = replace(config, resume="auto", max_steps=9)
    assert weights(train(resumed))["head.bias"].equal(weights(run)["head.bias"])


def test_a_chain_of_three_is_told_by_its_last_link(videos: Path, tmp_path: Path) -> None:
    """TikTok -> Kinetics-400 -> UCF101: fc_norm travels, the head is new."""
    official(tmp_path / "tiktok.pth", Kind.pretrain)
    first = finetuning(
        videos, tmp_path / "k400", *FIXED, name="k400", weights=str(tmp_path / "tiktok.pth")
    )
    kinetics = train(first)
    more = ("data.classes=4", *FIXED)
    second = finetuning(
        videos, tmp_path / "ucf", *more, name="ucf", weights=str(kinetics), max_steps=1
    )
    model = VideoClassifier(replace(second.model), second.data.clip, classes=4)
    report = load_encoder(model, read_weights(kinetics), list("0123"))
    assert report.missing == ["head.weight", "head.bias"]
    assert model.fc_norm.weight.equal(weights(kinetics)["fc_norm.weight"])
    info = read_weights(train(second)).info
    assert [link.name for link in info.parents] == ["tiktok", "k400"]
    assert info.parents[1].sha256 == sha256(kinetics / "weights.safetensors")
    assert info.classes == 4


def test_heads_of_an_unknown_width_are_those_of_the_model(videos: Path, tmp_path: Path) -> None:
    """32 wide, as no preset is: the run says that it has two heads."""
    official(tmp_path / "a.pth", Kind.classifier, 3)
    given = ("model.heads=4", *FIXED)
    run = train(finetuning(videos, tmp_path / "run", *given, weights=str(tmp_path / "a.pth")))
    assert read_weights(run).info.model.heads == 4


# Other shapes


@pytest.mark.parametrize(
    ("overrides", "grid"),
    [
        (("data.clip.frames=8",), "4 x 4 x 4"),
        (("data.clip.size=48",), "2 x 6 x 6"),
        (("data.clip.size=24", "data.clip.width=40"), "2 x 3 x 5"),
    ],
    ids=str,
)
def test_fine_tuning_evaluation_and_loading_on_other_clips(
    videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    overrides: tuple[str, ...],
    grid: str,
) -> None:
    official(tmp_path / "a.pth", Kind.pretrain)
    config = finetuning(
        videos, tmp_path / "run", *overrides, *FIXED, weights=str(tmp_path / "a.pth")
    )
    run = train(config)
    assert f"positions of 2 x 4 x 4 tokens interpolated to {grid}" in capsys.readouterr().err
    info = read_weights(run).info
    assert info.model.position_grid == [2, 4, 4]
    assert info.clip == config.data.clip
    results = json.loads((run / "results.json").read_text())
    again = [*FINETUNE, *overrides, *FIXED, f"weights={run}", f"output_dir={tmp_path / 'again'}"]
    lists = [f"data.root={videos}", f"data.test_list={labelled_list(tmp_path / 'test.txt')}"]
    evaluate(composed("evaluate", *again, *lists))
    of_training = {"weights", "shared_with"}
    expected = {key: x for key, x in results.items() if key not in of_training}
    expected["data"] = tmp_path.name  # the same list in another folder
    found = json.loads((tmp_path / "again" / "results.json").read_text())
    assert found.pop("shared_with") == {f"the training list of {run}": 11}
    assert found == expected
    model = load_model(run)
    height, width = config.data.clip.frame
    assert model(torch.zeros(1, 3, config.data.clip.frames, height, width)).shape == (1, 3)
    assert not any(n.endswith("pos_embed") for n in weights(run))


def test_pre_training_on_frames_that_are_not_square(videos: Path, tmp_path: Path) -> None:
    given = ("data.clip.size=16", "data.clip.width=48")
    run = train(pretraining(videos, tmp_path / "run", *given))
    assert load_model(run).features(torch.zeros(1, 3, 4, 16, 48)).shape == (1, 2 * 2 * 6, 32)
    picture = tmp_path / "picture.png"
    drawn = [f"weights={run}", f"video={videos / '0.mp4'}", f"output={picture}"]
    assert call("reconstruct", *drawn, pictures=True) == 0
    assert picture.stat().st_size > 1000


# Heads


@pytest.fixture
def seven(tmp_path: Path) -> Path:
    """An official classifier of seven classes."""
    official(tmp_path / "seven.pth", Kind.classifier, 7)
    return tmp_path / "seven.pth"


def head_map(path: Path, rows: object) -> Path:
    path.write_text(json.dumps(rows))
    return path


def test_heads_travel_by_an_index_map(
    videos: Path, tmp_path: Path, seven: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As 710 -> 400 does: row map[i] becomes class i, in fine-tuning as in evaluation."""
    path = head_map(tmp_path / "map.json", [5, 0, 6])
    picked = pick_classes(read_weights(seven, like=tiny()), path)
    state = torch.load(seven, weights_only=False)["model"]
    for name in ("head.weight", "head.bias"):
        assert picked.tensors[name].equal(state[name][[5, 0, 6]])
    model = VideoClassifier(picked.info.model, picked.info.clip, classes=3)
    assert load_encoder(model, picked, ["run", "sit", "go"]).missing == []
    config = finetuning(
        videos, tmp_path / "run", *FIXED, weights=str(seven), head_map=str(path), max_steps=1
    )
    train(config)
    said = capsys.readouterr().err
    assert "missing: none; unexpected: none" in said
    assert f"head: 3 of its 7 classes, by {path}" in said
    lists = [f"data.root={videos}", f"data.test_list={labelled_list(tmp_path / 'test.txt')}"]
    given = [*FINETUNE, *FIXED, *lists, f"weights={seven}", f"output_dir={tmp_path / 'out'}"]
    evaluate(composed("evaluate", *given, f"head_map={path}"))
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(results["per_class"]) == 3


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([0, 7, 1], "must name rows of the head of .*seven.pth, 0 to 6, each at most once"),
        ([0, 1, -1], "0 to 6"),
        ([0, 1, 1], "each at most once"),
        ([], "each at most once"),
        ({"0": 1}, "must hold a JSON list of whole numbers"),
        ([0, 1.5, 2], "must hold a JSON list of whole numbers"),
    ],
    ids=str,
)
def test_maps_that_do_not_fit(tmp_path: Path, seven: Path, rows: object, message: str) -> None:
    weights = read_weights(seven, like=tiny())
    with pytest.raises(WeightsError, match=message):
        pick_classes(weights, head_map(tmp_path / "map.json", rows))


def test_a_map_that_is_not_there_or_for_no_head(tmp_path: Path, seven: Path) -> None:
    with pytest.raises(WeightsError, match=r"head_map=.*nowhere.json cannot be read"):
        pick_classes(read_weights(seven, like=tiny()), tmp_path / "nowhere.json")
    official(tmp_path / "p.pth", Kind.pretrain)
    with pytest.raises(WeightsError, match=r"head_map=.*p.pth is a pre-training model"):
        pick_classes(read_weights(tmp_path / "p.pth", like=tiny()), tmp_path / "nowhere.json")


# Converting


def converted(source: Path, target: Path, form: str, **settings: Any) -> Path:
    """Through the command's own function."""
    values = {"weights": str(source), "target": str(target), **settings}
    convert(replace(composed("convert", f"format={form}"), **values))
    return target


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("vit_small", {}),
        pytest.param("vit_base", {"depth": 2, "decoder_depth": 1}, marks=pytest.mark.soak),
        ("vit_giant", {"depth": 1, "decoder_depth": 1}),
    ],
    ids=["vit_small", "vit_base", "vit_giant"],
)
@pytest.mark.parametrize("kind", [Kind.pretrain, Kind.classifier], ids=lambda kind: kind.name)
def test_round_trips_are_bit_identical(
    tmp_path: Path, name: str, changes: dict[str, int], kind: Kind
) -> None:
    """official -> videomae -> huggingface -> official."""
    classes = 3 if kind is Kind.classifier else None
    config = replace(preset(name), **changes)
    model = build_model(WeightsInfo(kind, "x", config, ClipConfig(16, 4, 224), classes=classes))
    randomise(model)
    state = model.state_dict()
    torch.save({"model": state}, tmp_path / "1.pth")
    own = converted(tmp_path / "1.pth", tmp_path / "2.safetensors", "videomae")
    theirs = converted(own, tmp_path / "3", "huggingface")
    back = converted(theirs, tmp_path / "4.pth", "official")
    found = torch.load(back, weights_only=True)["model"]
    assert found.keys() == state.keys()
    assert all(found[key].dtype == torch.float32 for key in found)
    assert all(found[key].equal(state[key]) for key in state)


def test_a_conversion_says_what_it_read_wrote_and_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    official(tmp_path / "a.pth", Kind.classifier, 3)
    (tmp_path / "names.txt").write_text("run\nsit\ngo\n")
    names = str(tmp_path / "names.txt")
    target = tmp_path / "b" / "c.safetensors"
    converted(tmp_path / "a.pth", target, "videomae", num_heads=2, class_names=names)
    said = capsys.readouterr().out
    assert "32 tensors loaded; missing: none; unexpected: none" in said
    assert "classifier of 3 classes: depth 2, 32 wide, 2 heads, LayerNorm eps 1e-06" in said
    assert "4 frames of 32 x 32 px" in said
    assert "videomae, 32 tensors, equal bit by bit" in said
    info = read_weights(target).info
    assert info.class_names == ["run", "sit", "go"]
    assert [(link.name, link.sha256) for link in info.parents] == [
        ("a", sha256(tmp_path / "a.pth"))
    ]
    converted(target, tmp_path / "d", "huggingface")
    assert "fc_norm_eps=1e-06: transformers has 1e-05 there" in capsys.readouterr().out
    config = json.loads((tmp_path / "d" / "config.json").read_text())
    assert config["id2label"] == {"0": "run", "1": "sit", "2": "go"}
    path = head_map(tmp_path / "map.json", [2, 0])
    converted(target, tmp_path / "e.safetensors", "videomae", head_map=str(path))
    assert read_weights(tmp_path / "e.safetensors").info.classes == 2


def test_what_the_file_does_not_say_can_be_said(tmp_path: Path) -> None:
    state, _ = made(Kind.pretrain)
    torch.save(state, tmp_path / "bare.pth")
    said = {"frames": 4, "size": 32, "stride": 2, "num_heads": 2, "decoder_num_heads": 2}
    converted(tmp_path / "bare.pth", tmp_path / "a.safetensors", "videomae", **said)
    info = read_weights(tmp_path / "a.safetensors").info
    assert info.clip == ClipConfig(4, 2, 32)
    assert info.model.position_grid is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ((), "weights is not set"),
        (("weights=WEIGHTS",), "out is not set"),
        (("weights=WEIGHTS", "target=t.pth"), "format is not set"),
        (("weights=WEIGHTS", "format=official"), "out is not set"),
        (("weights=WEIGHTS", "out=t.pth", "format=videomae"), "out=t.pth: format=videomae is a"),
        (("weights=WEIGHTS", "out=THERE", "format=official"), "overwrite=true replaces it"),
        (("weights=WEIGHTS", "out=a.pth", "target=b.pth", "format=official"), "give out"),
        (("weights=WEIGHTS", "out=HERE/new.pth", "format=official"), None),
        (("weights=WEIGHTS", "target=t.pth", "format=huggingface"), None),
        (("weights=WEIGHTS", "target=t", "format=official"), r"a file named *.pth or *.pt"),
        (("weights=WEIGHTS", "target=t.pth", "format=videomae"), "a file named *.safetensors"),
        (("weights=WEIGHTS", "target=HERE", "format=official"), "a file named"),
        (("weights=WEIGHTS", "target=WEIGHTS", "format=official"), "is weights= itself"),
        (("weights=WEIGHTS", "target=THERE", "format=official"), "overwrite=true replaces it"),
        (("weights=WEIGHTS", "target=THERE/x.pth", "format=official"), "is a file; choose another"),
        (("weights=WEIGHTS", "target=t.pth", "format=onnx"), "onnx"),
        (("weights=WEIGHTS", "target=t.pth", "format=official", "class_names=x"), "cannot be read"),
        (("weights=nowhere", "target=t.pth", "format=official"), "no weights at nowhere"),
    ],
    ids=str,
)
def test_conversions_that_cannot_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: tuple[str, ...],
    message: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    official(tmp_path / "a.pth", Kind.classifier, 3)
    official(tmp_path / "b.pth", Kind.classifier, 3)
    words = {"WEIGHTS": "a.pth", "THERE": "b.pth", "HERE": "."}
    given = list(settings)
    for word, path in words.items():
        given = [setting.replace(word, path) for setting in given]
    status = call("convert", *given, "num_heads=2")
    said = capsys.readouterr().err
    if message is None:  # any name may be a directory's
        assert status == 0
        return
    assert status != 0
    assert message in said
    assert not list(tmp_path.glob("t*"))


def test_a_partial_encoder_is_never_converted(tmp_path: Path) -> None:
    state, _ = made(Kind.classifier, 3)
    del state["blocks.1.mlp.fc2.bias"]
    torch.save({"model": state, "args": ARGS}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"does not fit.*missing: blocks\.1\.mlp\.fc2\.bias"):
        converted(tmp_path / "a.pth", tmp_path / "b.pth", "official", num_heads=2)
    assert not (tmp_path / "b.pth").exists()


def test_the_settings_of_a_conversion_are_all_that_there_are() -> None:
    """Every one is in the explanation that --help prints first."""
    for name in asdict(composed("convert")):
        assert f"{name}=" in str(sys.modules[convert.__module__].__doc__), name


# Big files

PEAK = """
import resource, sys, videomae
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
before = peak()
model = videomae.load_model(sys.argv[1], verbose=False)
print(peak() - before, sum(p.nbytes for p in model.parameters()))
"""


@pytest.mark.long
@pytest.mark.soak
def test_a_big_file_is_never_held_twice(tmp_path: Path) -> None:
    """1.1 GB with its optimiser states: the model's size, and less than 300 MB beside it."""
    clip = ClipConfig(16, 4, 224)
    model = build_model(WeightsInfo(Kind.pretrain, "x", preset("vit_base"), clip))
    state = model.state_dict()
    moments = {
        i: {"exp_avg": torch.ones_like(x), "exp_avg_sq": torch.ones_like(x), "step": 3}
        for i, x in enumerate(state.values())
    }
    path = tmp_path / "big.pth"
    torch.save({"model": state, "optimizer": {"state": moments}, "args": ARGS_16}, path)
    del model, state, moments
    assert path.stat().st_size > 1.1e9
    command = [sys.executable, "-c", PEAK, str(path)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    path.unlink()
    more, size = map(int, finished.stdout.split())
    assert size == 94_210_944 * 4
    assert more < size + 300e6
