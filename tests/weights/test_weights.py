"""Weights files: what is saved comes back, what does not fit is refused, nothing is executed."""

import contextlib
import hashlib
import io
import json
import os
import pickle
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.model import CLIP, CONFIG, random_clip, random_mask, randomise
from videomae.config import ConfigError, MaskConfig, MaskKind, Positions, UserError
from videomae.model.classifier import VideoClassifier
from videomae.model.mae import VideoMAE
from videomae.run.directory import WEIGHTS
from videomae.weights.formats import read_weights
from videomae.weights.load import (
    LoadReport,
    build_model,
    load_all,
    load_encoder,
    load_model,
    model_of,
)
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import Kind, Weights, WeightsInfo, save_weights

MODEL_FIELDS = vars(CONFIG) | {"positions": "sincos_1d"}
MASK = MaskConfig(MaskKind.tube, ratio=0.75, decoder_ratio=0.5)
PRETRAINED = WeightsInfo(Kind.pretrain, "tiktok", step=7, model=CONFIG, clip=CLIP, mask=MASK)
NAMES = ["run", "sit", "ü"]
CLASSIFIER = WeightsInfo(
    Kind.classifier,
    "ucf101",
    step=9,
    model=CONFIG,
    clip=CLIP,
    classes=3,
    class_names=NAMES,
    drop_path=0.1,
    head_drop=0.5,
)
Loader = Callable[[Any, Weights], LoadReport]


def saved(path: Path, info: WeightsInfo, seed: int = 0) -> Path:
    """A weights file of random parameters."""
    model = build_model(info)
    randomise(model, seed)
    save_weights(path, model.state_dict(), info)
    return path


def rewritten(
    path: Path,
    *,
    without: tuple[str, ...] = (),
    metadata: dict[str, str] | None = None,
) -> Path:
    """The file again, short of some tensors or with other metadata."""
    with safe_open(path, framework="pt") as file:
        document = json.loads(file.metadata()["videomae"])
    document |= {key: json.loads(value) for key, value in (metadata or {}).items()}
    tensors = {key: value for key, value in load_file(path).items() if key not in without}
    save_file(tensors, path, metadata={"videomae": json.dumps(document)})
    return path


@pytest.fixture
def pretrained(tmp_path: Path) -> Path:
    return saved(tmp_path / "pretrain" / WEIGHTS, PRETRAINED)


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    return saved(tmp_path / "classifier" / WEIGHTS, CLASSIFIER)


@pytest.mark.parametrize("info", [PRETRAINED, CLASSIFIER], ids=lambda info: info.kind.name)
def test_what_is_saved_comes_back_bit_by_bit(tmp_path: Path, info: WeightsInfo) -> None:
    model = build_model(info)
    randomise(model)
    save_weights(tmp_path / WEIGHTS, model.state_dict(), info)
    loaded = load_model(tmp_path / WEIGHTS)
    assert type(loaded) is type(model)
    assert not loaded.training
    assert (loaded.config, loaded.clip) == (CONFIG, CLIP)
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    masks = (random_mask(13),) if info.kind is Kind.pretrain else ()
    before, after = model.eval()(random_clip(), *masks), loaded(random_clip(), *masks)
    pairs = zip(before, after, strict=True)
    assert all(torch.equal(x, y) for x, y in pairs)


def test_equal_weights_are_equal_files(tmp_path: Path) -> None:
    paths = [saved(tmp_path / name, CLASSIFIER) for name in "abc"]
    assert len({path.read_bytes() for path in paths}) == 1


def test_a_directory_means_the_weights_in_it(pretrained: Path) -> None:
    model = load_model(str(pretrained.parent))
    assert torch.equal(model.mask_token, load_model(pretrained).mask_token)


def test_the_metadata_say_what_the_tensors_are(pretrained: Path, classifier: Path) -> None:
    """Read as any tool would: text to text, one JSON document."""
    found = []
    for path in (pretrained, classifier):
        with safe_open(path, framework="pt") as file:
            found.append(json.loads(file.metadata()["videomae"]))
    for metadata in found:
        assert metadata["model"] == MODEL_FIELDS
        assert metadata["clip"] == {"frames": 4, "stride": 3, "size": 12, "width": None}
        assert metadata["normalisation"] == {
            "mean": [0.485, 0.456, 0.406],
            "std": [0.229, 0.224, 0.225],
        }
        assert metadata["parents"] == []
    assert [m["kind"] for m in found] == ["pretrain", "classifier"]
    assert [m["name"] for m in found] == ["tiktok", "ucf101"]
    assert [m["step"] for m in found] == [7, 9]
    assert [m["classes"] for m in found] == [None, 3]
    assert [m["class_names"] for m in found] == [None, ["run", "sit", "ü"]]
    assert [(m["drop_path"], m["head_drop"]) for m in found] == [(0.0, 0.0), (0.1, 0.5)]
    assert found[0]["mask"] == {"kind": "tube", "ratio": 0.75, "decoder_ratio": 0.5}
    assert found[1]["mask"] is None


@pytest.mark.parametrize("info", [PRETRAINED, CLASSIFIER], ids=lambda info: info.kind.name)
def test_the_info_comes_back_as_it_was(tmp_path: Path, info: WeightsInfo) -> None:
    assert read_weights(saved(tmp_path / WEIGHTS, info)).info == info


def test_files_from_before_there_was_a_choice_of_positions_are_read(pretrained: Path) -> None:
    fields = {key: value for key, value in MODEL_FIELDS.items() if key != "positions"}
    rewritten(pretrained, metadata={"model": json.dumps(fields)})
    assert read_weights(pretrained).info == PRETRAINED


def test_the_chain_names_every_link_and_its_hash(tmp_path: Path) -> None:
    """TikTok -> Kinetics-400 -> UCF101, oldest first."""
    first = saved(tmp_path / "a" / WEIGHTS, PRETRAINED)
    kinetics = replace(CLASSIFIER, name="k400", parents=read_weights(first).chain())
    second = saved(tmp_path / "b" / WEIGHTS, kinetics, seed=1)
    ucf = replace(CLASSIFIER, parents=read_weights(second).chain())
    third = saved(tmp_path / "c" / WEIGHTS, ucf, seed=2)
    with safe_open(third, framework="pt") as file:
        links = json.loads(file.metadata()["videomae"])["parents"]
    hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in (first, second)]
    assert links == [
        {"name": "tiktok", "sha256": hashes[0]},
        {"name": "k400", "sha256": hashes[1]},
    ]
    assert hashes[0] != hashes[1]
    assert [link.name for link in read_weights(third).chain()] == ["tiktok", "k400", "ucf101"]


def test_an_encoder_travels_from_pre_training(pretrained: Path) -> None:
    model = VideoClassifier(CONFIG, CLIP, classes=5)
    randomise(model, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = read_weights(pretrained)
    report = load_encoder(model, weights, NAMES)
    new = ["fc_norm.weight", "fc_norm.bias", "head.weight", "head.bias"]
    for name, value in model.state_dict().items():
        expected = before[name] if name in new else weights.tensors[f"encoder.{name}"]
        assert torch.equal(value, expected), name
    assert report.missing == new
    assert sorted(report.loaded) == sorted(before.keys() - set(new))
    left = {name for name in weights.tensors if not name.startswith("encoder.")}
    assert set(report.left_out["decoder"]) == left
    assert set(report.left_out["last norm"]) == {"norm.weight", "norm.bias"}
    assert report.unexpected == []
    text = str(report)
    assert text.startswith(
        f"{len(before) - 4} tensors loaded; missing: fc_norm.weight, fc_norm.bias"
    )
    said = (
        f"unexpected: none; decoder left out ({len(left)} tensors); last norm left out (2 tensors)"
    )
    assert said in text


def test_what_is_really_unexpected_beside_a_decoder_is_named(pretrained: Path) -> None:
    weights = read_weights(pretrained)
    more = {"encoder.extra.weight": torch.zeros(3), "decoder_2.bias": torch.zeros(3)}
    weights = replace(weights, tensors=weights.tensors | more)
    report = load_encoder(VideoClassifier(CONFIG, CLIP, classes=5), weights, NAMES)
    assert report.unexpected == ["extra.weight", "decoder_2.bias"]
    assert "unexpected: extra.weight, decoder_2.bias; decoder left out" in str(report)


def test_a_classifier_with_the_tensors_of_a_decoder_is_refused(classifier: Path) -> None:
    weights = read_weights(classifier)
    weights = replace(weights, tensors=weights.tensors | {"norm.weight": torch.ones(3)})
    with pytest.raises(WeightsError, match=r"unexpected: norm\.weight"):
        model_of(weights)


def test_the_first_block_of_the_classifier_sees_what_pre_training_saw(pretrained: Path) -> None:
    """Not only the same tensors: the same features, up to pre-training's last norm."""
    model = VideoClassifier(CONFIG, CLIP, classes=5).eval()
    load_encoder(model, read_weights(pretrained), NAMES)
    mae = load_model(pretrained)
    features = mae.encoder.norm(model.features(random_clip()))
    torch.testing.assert_close(features, mae.features(random_clip()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("names", [NAMES, ["run", "ü", "sit"], ["a", "b", "c", "d", "e"]])
def test_a_classifiers_head_travels_only_to_the_same_classes(
    classifier: Path, names: list[str]
) -> None:
    model = VideoClassifier(CONFIG, CLIP, classes=len(names))
    randomise(model, seed=1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    weights = read_weights(classifier)
    report = load_encoder(model, weights, names)
    head = ["head.weight", "head.bias"]
    for name, value in model.state_dict().items():
        stays = name in head and names != NAMES
        assert torch.equal(value, (before if stays else weights.tensors)[name]), name
    assert report.missing == ([] if names == NAMES else head)
    assert str(report).endswith(
        "missing: none; unexpected: none"
        if names == NAMES
        else "missing: head.weight, head.bias; unexpected: none; "
        f"head: new, for {len(names)} classes in place of 3 others"
    )


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(pretrained: Path, value: float) -> None:
    with safe_open(pretrained, framework="pt") as file:
        metadata = file.metadata()
    tensors = load_file(pretrained)
    tensors["encoder.norm.bias"][0] = value
    save_file(tensors, pretrained, metadata=metadata)
    with pytest.raises(WeightsError, match=r"not finite: encoder\.norm\.bias$"):
        load_model(pretrained)


def test_weights_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights at .*nowhere.*weights="):
        read_weights(tmp_path / "nowhere")
    with pytest.raises(WeightsError, match=rf"no weights at .*weights= a {WEIGHTS}"):
        read_weights(tmp_path)


def empty_file(path: Path) -> None:
    path.write_bytes(b"")


def text_file(path: Path) -> None:
    path.write_text("these are no weights, whatever their name says\n" * 20)


def truncated_data(path: Path) -> None:
    saved(path, PRETRAINED)
    path.write_bytes(path.read_bytes()[:-100])


def truncated_header(path: Path) -> None:
    saved(path, PRETRAINED)
    path.write_bytes(path.read_bytes()[:50])


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (empty_file, "is no checkpoint: .* it starts with b''"),
        (text_file, "is no checkpoint: neither a safetensors file nor one of torch.save"),
        (truncated_data, "cannot be read as a safetensors file .*damaged or unfinished"),
        (truncated_header, "is cut off: it ends before its table of contents; get it again"),
    ],
)
def test_files_that_are_no_weights_are_refused_by_name(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    path = tmp_path / "odd.safetensors"
    write(path)
    for load in (read_weights, load_model):
        with pytest.raises(WeightsError, match=rf"odd\.safetensors {message}"):
            load(path)


@pytest.mark.parametrize(
    "metadata",
    [
        {"kind": '"detector"'},
        {"model": "{}"},
        {"model": "[]"},
        {"model": json.dumps(MODEL_FIELDS | {"windows": 3})},
        {"model": json.dumps(MODEL_FIELDS | {"heads": 5})},
        {"model": json.dumps(MODEL_FIELDS | {"positions": "learnt"})},
        {"clip": '{"frames": 0, "stride": 1, "size": 12}'},
        {"mask": '"tube"'},
        {"mask": '{"kind": "cube", "ratio": 0.9, "decoder_ratio": 0}'},
        {"parents": "7"},
        {"parents": '["tiktok"]'},
    ],
    ids=str,
)
def test_metadata_that_mean_nothing_are_refused(pretrained: Path, metadata: dict[str, str]) -> None:
    rewritten(pretrained, metadata=metadata)
    with pytest.raises(WeightsError, match=rf"{WEIGHTS}: its metadata cannot be understood"):
        read_weights(pretrained)


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"classes": "null", "class_names": "null"}, "a classifier without classes"),
        ({"classes": "0"}, "a classifier without classes"),
        ({"class_names": '["run"]'}, "1 names of 3 classes"),
    ],
    ids=str,
)
def test_classes_that_mean_nothing_are_refused(
    classifier: Path, metadata: dict[str, str], message: str
) -> None:
    rewritten(classifier, metadata=metadata)
    with pytest.raises(WeightsError, match=message):
        read_weights(classifier)


def test_classes_that_do_not_fit_the_head_are_refused(classifier: Path) -> None:
    rewritten(classifier, metadata={"classes": "1", "class_names": '["run"]'})
    with pytest.raises(WeightsError, match=r"it says classes=1 but its tensors 3"):
        load_model(classifier)


def test_metadata_of_an_enormous_model_take_no_memory(pretrained: Path) -> None:
    enormous = MODEL_FIELDS | {"dim": 1 << 20, "mlp_dim": 1 << 22}
    rewritten(pretrained, metadata={"model": json.dumps(enormous)})
    with pytest.raises(WeightsError, match="it says dim=1048576 but its tensors 16"):
        load_model(pretrained)


def test_the_wrong_kind_is_refused(pretrained: Path, classifier: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"is a fine-tuned classifier, without a decoder; a pre-training model"
    ):
        load_all(VideoMAE(CONFIG, CLIP), read_weights(classifier))
    with pytest.raises(
        WeightsError, match=r"is a pre-training model, .*without a .*head; a classifier is needed"
    ):
        load_all(VideoClassifier(CONFIG, CLIP, classes=3), read_weights(pretrained))


OTHER_SIZES = {
    "wider": {"dim": 32},
    "finer": {"patch": 2},
    "longer_tubelets": {"tubelet": 4},
    "deeper": {"depth": 4},
    "shallower": {"depth": 2},
    "other_heads": {"heads": 4},
    "other_positions": {"positions": Positions.sincos_3d},
    "wider_mlp": {"mlp_dim": 28},
}


@pytest.mark.parametrize("change", OTHER_SIZES.values(), ids=OTHER_SIZES)
@pytest.mark.parametrize("load", [load_all, partial(load_encoder, class_names=NAMES)])
def test_weights_of_another_model_size_are_refused(
    classifier: Path, load: Loader, change: dict[str, Any]
) -> None:
    model = VideoClassifier(replace(CONFIG, name="other", **change), CLIP, classes=3)
    with pytest.raises(WeightsError, match=WEIGHTS):
        load(model, read_weights(classifier))


@pytest.mark.parametrize("change", OTHER_SIZES.values(), ids=OTHER_SIZES)
def test_pre_training_weights_of_another_model_size_are_refused(
    pretrained: Path, change: dict[str, int]
) -> None:
    other = replace(CONFIG, name="other", **change)
    for model, load in (
        (VideoMAE(other, CLIP), load_all),
        (VideoClassifier(other, CLIP, classes=3), partial(load_encoder, class_names=NAMES)),
    ):
        with pytest.raises(WeightsError, match=WEIGHTS):
            load(model, read_weights(pretrained))


def test_another_width_is_refused_with_the_size_to_choose(pretrained: Path) -> None:
    model = VideoClassifier(replace(CONFIG, name="wide", dim=32), CLIP, classes=3)
    for name, advice in (("small", r"model\.dim=16"), ("vit_small", "model=vit_small")):
        info = replace(PRETRAINED, model=replace(CONFIG, name=name))
        weights = replace(read_weights(pretrained), info=info)
        message = f"holds {name}, the model is wide: .*Choose {advice} .*or other weights"
        with pytest.raises(WeightsError, match=message):  # only of presets the name will do
            load_encoder(model, weights, NAMES)


def test_another_stride_is_no_other_clip(pretrained: Path) -> None:
    model = VideoClassifier(CONFIG, replace(CLIP, stride=2), classes=3)
    assert load_encoder(model, read_weights(pretrained), NAMES).loaded


@pytest.mark.parametrize("name", ["blocks.1.mlp.fc1.weight", "patch_embed.proj.bias"])
def test_a_partial_encoder_is_refused_with_what_is_missing(
    pretrained: Path, classifier: Path, name: str
) -> None:
    for path, key in ((pretrained, f"encoder.{name}"), (classifier, name)):
        rewritten(path, without=(key,))
        with pytest.raises(WeightsError, match=f"missing: {name}"):
            load_encoder(VideoClassifier(CONFIG, CLIP, classes=3), read_weights(path), NAMES)
        with pytest.raises(WeightsError, match=f"does not fit.*missing: {key}"):
            load_model(path)


def test_a_tensor_too_many_is_refused(pretrained: Path) -> None:
    with safe_open(pretrained, framework="pt") as file:
        metadata = file.metadata()
    save_file(load_file(pretrained) | {"extra": torch.ones(1)}, pretrained, metadata=metadata)
    with pytest.raises(WeightsError, match="unexpected: extra"):
        load_model(pretrained)


@pytest.mark.parametrize("name", ["head.bias", "head.weight"])
def test_a_damaged_head_is_refused_or_started_anew(classifier: Path, name: str) -> None:
    """Half a head never travels, and the user gets a message, not a traceback."""
    rewritten(classifier, without=(name,))
    model = VideoClassifier(CONFIG, CLIP, classes=3)
    randomise(model, seed=1)
    before = model.head.weight.clone(), model.head.bias.clone()
    with contextlib.suppress(WeightsError):
        load_encoder(model, read_weights(classifier), NAMES)
    assert torch.equal(model.head.weight, before[0])
    assert torch.equal(model.head.bias, before[1])


def test_overrides_of_the_clip_give_more_tokens(pretrained: Path) -> None:
    model = load_model(pretrained, frames=8, size=16)
    assert (model.clip.frames, model.clip.size, model.clip.stride) == (8, 16, 3)
    clip = random_clip(1, clip=model.clip)
    assert model.features(clip).shape == (1, 4 * 4 * 4, CONFIG.dim)
    for name, value in load_model(pretrained).state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_an_override_of_the_heads_changes_what_the_model_computes(classifier: Path) -> None:
    model, other = load_model(classifier), load_model(classifier, num_heads=4)
    assert [block.attn.heads for block in other.blocks] == [4, 4, 4]
    assert not torch.allclose(model(random_clip()), other(random_clip()))
    assert read_weights(classifier, num_heads=4).info.model.heads == 4  # for every command


def test_a_decoder_that_a_classifier_has_not_needs_no_heads(classifier: Path) -> None:
    before = load_model(classifier).config
    assert load_model(classifier, decoder_num_heads=3).config == before


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"frames": 5}, "frames=5 is not a multiple of model.tubelet=2"),
        ({"size": 13}, "size=13 is not a multiple of model.patch=4"),
        ({"num_heads": 3}, "dim=16 is not a multiple of model.heads=3"),
        ({"frames": 0}, "frames must be at least 1, got 0"),
        ({"size": -4}, "size must be at least 1, got -4"),
        ({"num_heads": 0}, "heads must be at least 1, got 0"),
    ],
    ids=str,
)
def test_overrides_that_do_not_fit_are_refused(
    pretrained: Path, overrides: dict[str, int], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_model(pretrained, **overrides)


class Trap:
    """Leaves a trace when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.trace),)


def torch_zip(trap: Trap) -> bytes:
    file = io.BytesIO()
    torch.save({"model": trap}, file)
    return file.getvalue()


@pytest.mark.parametrize("name", ["x.pth", "x.pt", "x.pkl", WEIGHTS])
@pytest.mark.parametrize("dump", [pickle.dumps, torch_zip])
def test_no_pickle_is_ever_executed(
    tmp_path: Path, dump: Callable[[Trap], bytes], name: str
) -> None:
    trace = tmp_path / "trace"
    path = tmp_path / "given" / name
    path.parent.mkdir()
    path.write_bytes(dump(Trap(trace)))
    places = [path, path.parent] if name == WEIGHTS else [path]
    for place in places:
        for load in (read_weights, load_model):
            with pytest.raises(WeightsError, match=re.escape(str(path))):
                load(place)
    assert not trace.exists()
    if dump is pickle.dumps:
        pickle.loads(path.read_bytes())
    else:
        torch.load(io.BytesIO(path.read_bytes()), weights_only=False)
    assert trace.exists()  # the trap works


def test_an_interrupted_save_leaves_the_old_weights(
    pretrained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = pretrained.read_bytes()

    def fail(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("the disk is full")

    monkeypatch.setattr("videomae.weights.weights.save_file", fail)
    with pytest.raises(OSError, match="full"):
        save_weights(pretrained, build_model(PRETRAINED).state_dict(), PRETRAINED)
    assert pretrained.read_bytes() == before
    assert list(pretrained.parent.iterdir()) == [pretrained]


def test_commands_print_a_weights_error_without_a_traceback() -> None:
    assert issubclass(WeightsError, UserError)
