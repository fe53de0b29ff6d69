"""python -m videomae.probe: what it reports, its features on disk, going on, refusals."""

import importlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.conftest import TINY, composed, write_list, write_video
from tests.test_commands import call
from tests.test_predict import CLIP, MODEL, classifier, encoder_of_pretraining
from tests.train import json_lines
from tests.train.processes import Job, in_processes
from videomae.data.dataset import EvaluationClips
from videomae.evaluation import features as features_module
from videomae.lists.clips import read_clips
from videomae.model.pixels import normalise
from videomae.video.opening import pack_at
from videomae.weights.load import encoder_of, load_model
from videomae.weights.weights import Kind, read_own, save_weights

TOKENS = (CLIP.frames // MODEL.tubelet) * (CLIP.size // MODEL.patch) ** 2
CLASSES = 2
SETTINGS = (
    *TINY,
    f"data.classes={CLASSES}",
    "output_dir=out",
    "probe.lrs=[0.001,0.01]",
    "probe.linear_epochs=20",
    "probe.attentive_epochs=10",
    "probe.min_steps=1",
    "probe.batch=4",
    "probe.k=3",
)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """Weights, two lists of dark and bright videos, and the overrides that give them."""
    monkeypatch.chdir(tmp_path)
    encoder_of_pretraining(tmp_path / "weights.safetensors")
    for number in range(16):
        # Frame i has grey level 20 + 12 i on its left: long videos are bright in the middle.
        frames = 7 + number % 3 if number % 2 else 30 + number % 5
        write_video(tmp_path / "videos" / f"{number}.mp4", frames=frames, seed=number)
    write_list(Path("train.txt"), [f"{n}.mp4 {n % 2}" for n in range(10)])
    write_list(Path("test.txt"), [f"{n}.mp4 {n % 2}" for n in range(10, 16)])
    lists = ("data.train_list=train.txt", "data.test_list=test.txt", "data.root=videos")
    return (*SETTINGS, *lists, "weights=weights.safetensors")


def test_a_probe_on_videos_that_it_learned_from_is_warned_of(
    place: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    results = probed(*place, "data.test_list=train.txt", "probe.kinds=[knn]")
    assert results["knn"]["shared_with"] == {"data.train_list": 10}
    said = " ".join(capsys.readouterr().err.split())
    assert "10 of 10 videos of data.test_list are in data.train_list too" in said


def probed(*overrides: str) -> dict[str, dict[str, Any]]:
    """results.json of a run that succeeds."""
    assert call("probe", *overrides) == 0
    return json.loads(Path("out/results.json").read_text())


def shards() -> dict[Path, int]:
    """The files of features, and when they were written."""
    return {path: path.stat().st_mtime_ns for path in Path("out/features").rglob("*.safetensors")}


def test_results_of_all_probes(place: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    results = probed(*place)
    assert list(results) == ["knn", "linear", "attentive"]
    for name, entry in results.items():
        assert entry["top1"] == 100, name  # dark and bright are told apart by any encoder
        assert entry["top5"] == entry["mean_class_accuracy"] == 100
        assert (entry["num_videos"], entry["num_unreadable"]) == (6, 0)
        assert (entry["num_train"], entry["num_train_unreadable"]) == (10, 0)
        assert set(entry["per_class"]) == {"0", "1"}
    assert (results["knn"]["k"], results["knn"]["temperature"]) == (3, 0.07)
    for name in ("linear", "attentive"):
        assert results[name]["lr"] in (0.001, 0.01)
        assert set(results[name]["held_out_top1"]) == {"0.001", "0.01"}
        assert results[name]["num_held_out"] == 2
    said = capsys.readouterr()
    assert "linear: lr" in said.err
    assert "held-out training videos" in said.err
    assert said.out.splitlines()[1].split() == ["knn", "100.00", "100.00", "6", "0"]
    assert Path("out/config.yaml").is_file()
    kept = load_file("out/features.safetensors")
    assert kept["features"].shape[0] == 6
    assert set(kept["label"].tolist()) == {0, 1}
    hashes = json.loads(Path("out/environment.json").read_text())["sha256"]
    assert set(hashes) == {"data.train_list", "data.test_list", "weights"}


@pytest.mark.parametrize("make", [encoder_of_pretraining, classifier])
def test_the_features_are_the_models_own(place: tuple[str, ...], make: Any) -> None:
    weights = make(Path("weights.safetensors"))
    probed(*place, "probe.kinds=[attentive]", "probe.views=2")
    config = composed("probe", *place, "data.segments=2", "data.crops=1")
    clips = read_clips("train.txt", config.data, labelled=True)
    views = EvaluationClips(clips, config.data)
    model = load_model(weights, verbose=False)
    (file,) = [path for path in shards() if len(load_file(path)["video"]) == 20]
    kept = load_file(file)
    assert kept["video"].tolist() == [n for n in range(10) for _ in range(2)]
    assert kept["tokens"].dtype == torch.float16
    assert kept["tokens"].shape == (20, TOKENS, MODEL.dim)
    with torch.inference_mode():
        for n in range(10):
            tokens = model.features(normalise(views[n].clip))
            own = slice(2 * n, 2 * n + 2)
            torch.testing.assert_close(kept["mean"][own], tokens.mean(1), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(kept["tokens"][own].float(), tokens, rtol=2e-3, atol=2e-3)


@pytest.mark.long
def test_a_second_run_reads_the_features(
    place: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = probed(*place)
    before = shards()
    assert len(before) == 2
    assert call("probe", *place) == 2
    assert "overwrite=true (the features are kept)" in capsys.readouterr().err

    def never(*_: object) -> None:
        raise AssertionError("computed again")

    with monkeypatch.context() as patch:
        patch.setattr(features_module.FeatureExtractor, "tokens", never)
        assert probed(*place, "overwrite=true") == first
    assert capsys.readouterr().err.count("there already, not computed again") == 2
    assert shards() == before
    # Another list, other weights, other clips: other features.
    for change in (("data.clip.stride=1",), ("weights=scratch",), ("probe.views=2",)):
        count = len(shards())
        probed(*place, *change, "overwrite=true", "probe.kinds=[knn]")
        assert len(shards()) > count


def test_a_killed_run_is_gone_on_with(
    place: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features_module, "SHARD", 4)
    whole = probed(*place)
    names = [path.name for path in shards()]
    assert sorted(names) == ["000000000.safetensors"] * 2 + ["000000004.safetensors"] * 2 + [
        "000000008.safetensors"
    ]
    for path in list(shards())[::2]:
        path.unlink()
    Path("out/results.json").unlink()
    left = shards()
    capsys.readouterr()
    assert probed(*place) == whole
    assert "going on" in capsys.readouterr().err
    assert left.items() <= shards().items()
    assert len(shards()) == 5


def test_how_many_videos_share_a_file_and_a_batch_changes_nothing(
    place: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = probed(*place)
    monkeypatch.setattr(features_module, "SHARD", 3)
    again = probed(*place, "run.device_batch=5", "run.workers=1", "output_dir=out/again")
    again = json.loads(Path("out/again/results.json").read_text())
    assert {name: entry["top1"] for name, entry in again.items()} == {
        name: entry["top1"] for name, entry in first.items()
    }
    assert again["linear"]["lr"] == first["linear"]["lr"]


def test_unreadable_videos(place: tuple[str, ...]) -> None:
    with Path("train.txt").open("a") as file:
        file.write("gone.mp4 0\n")
    with Path("test.txt").open("a") as file:
        file.write("lost.mp4 1\nlost2.mp4 1\n")
    results = probed(*place)
    for entry in results.values():
        assert entry["top1"] == 75
        assert (entry["num_videos"], entry["num_unreadable"]) == (8, 2)
        assert (entry["num_train"], entry["num_train_unreadable"]) == (11, 1)
    rows = [
        (row["path"], row["line"], row["list"]) for row in json_lines(Path("out/bad_files.jsonl"))
    ]
    assert rows == [("gone.mp4", 11, "train"), ("lost.mp4", 7, "test"), ("lost2.mp4", 8, "test")]
    assert probed(*place, "overwrite=true") == results
    assert len(json_lines(Path("out/bad_files.jsonl"))) == 3


def test_the_random_encoder_and_the_encoder_alone(place: tuple[str, ...]) -> None:
    knn = "probe.kinds=[knn]"
    scratch = probed(*place[:-1], "weights=scratch", knn)
    assert scratch["knn"]["num_videos"] == 6
    whole = read_own(Path("weights.safetensors"))
    tensors = {
        name.removeprefix("encoder."): tensor
        for name, tensor in whole.tensors.items()
        if name.startswith("encoder.") and not name.startswith("encoder.norm.")
    }
    save_weights(Path("alone.safetensors"), tensors, replace(whole.info, kind=Kind.encoder))
    given = (*place[:-1], "weights=alone.safetensors", "overwrite=true")
    assert probed(*given)["linear"]["num_videos"] == 6
    encoder, report = encoder_of(read_own(Path("alone.safetensors")), CLIP)
    assert "fc_norm.weight" in report.missing
    clip = torch.randn(2, 3, CLIP.frames, CLIP.size, CLIP.size)
    original = load_model("weights.safetensors", verbose=False)
    with torch.inference_mode():
        normed = original.encoder.norm(encoder.features(clip))  # which the encoder alone has not
        torch.testing.assert_close(normed, original.features(clip))


def test_the_weights_decide_what_the_encoder_sees(
    place: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    """Not data=, nor another preset of the model; the command line may, and is told so."""
    bare = [word for word in place if not word.startswith(("data.clip.", "model"))]
    probed(*bare, "probe.kinds=[knn]")
    said = capsys.readouterr().err
    assert "from the weights: vit_tiny, frames=4, stride=2, size=32" in said
    assert "not said by the weights, so from data=custom: sampling=dense" in said
    assert "from the command line" not in said
    found = {path.parent for path in shards()}
    probed(*place, "probe.kinds=[knn]", "overwrite=true")  # the same settings, all given
    assert {path.parent for path in shards()} == found
    probed(*bare, "probe.kinds=[knn]", "data.clip.size=64", "overwrite=true")
    said = capsys.readouterr().err
    assert "data.clip.size=64 from the command line; the weights were trained at 32" in said
    assert len({path.parent for path in shards()}) == 2 * len(found)


def test_prepared_lists_are_probed(place: tuple[str, ...], tmp_path: Path) -> None:
    for number in range(16):
        folder = tmp_path / "own" / ("dark", "bright")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}.mp4").symlink_to(tmp_path / "videos" / f"{number}.mp4")
    given = ("videos=own", "out=lists", "test_fraction=0.4", "scan=off")
    assert call("prepare", "dataset=folders", *given) == 0
    lists = ("data.train_list=", "data.test_list=", "data.root=", "data.classes=")
    bare = [word for word in place if not word.startswith(lists)]
    results = probed(*bare, "data.prepared=lists", "probe.kinds=[knn]")
    assert set(results["knn"]["per_class"]) == {"bright", "dark"}
    assert results["knn"]["top1"] == 100


@pytest.mark.long
def test_features_of_a_pack_are_those_of_that_pack(place: tuple[str, ...], tmp_path: Path) -> None:
    """A folder, a pack in its place, and another pack in place of that one."""
    root = tmp_path / "root"
    root.symlink_to(tmp_path / "videos")
    given = (*place, "data.root=root", "probe.kinds=[knn]", "overwrite=true")
    every = write_list(Path("all.txt"), [f"{number}.mp4" for number in range(16)])
    folders: list[set[Path]] = []
    for pack in (None, "first", "second"):
        if pack:
            crf = {"first": 22, "second": 40}[pack]
            words = (f"list={every}", "root=videos", f"out={pack}", f"crf={crf}", "workers=1")
            assert call("pack", *words) == 0
            root.unlink()
            root.symlink_to(tmp_path / pack)
            pack_at.cache_clear()  # each run is a process of its own
        probed(*given)
        folders.append({path.parent for path in shards()})
    assert [len(each) for each in folders] == [2, 4, 6]
    probed(*given)
    assert {path.parent for path in shards()} == folders[-1]


def test_a_damaged_file_of_features_is_named(
    place: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    probed(*place)
    path = next(iter(shards()))
    path.write_bytes(path.read_bytes()[:100])
    assert call("probe", *place, "overwrite=true") == 2
    assert f"{path} cannot be used" in capsys.readouterr().err


def spoil(tensors: dict[str, Tensor], metadata: dict[str, str], how: str) -> None:
    """Make a file of features one of others, or of something else."""
    if how == "videos":
        tensors["video"] = tensors["video"] + 10**9
    elif how == "order":
        tensors["video"] = tensors["video"].flip(0).contiguous()
    elif how == "type":
        tensors["video"] = tensors["video"].float()
    elif how == "nan":
        tensors["mean"][:] = float("nan")
    elif how == "rows":
        tensors["mean"] = tensors["mean"][:3].contiguous()
    elif how == "no mean":
        del tensors["mean"]
    elif how == "tokens":
        tensors["tokens"] = tensors["tokens"][:2].contiguous()
    elif how == "bad rows":
        metadata["bad"] = "[[1]]"
    elif how == "bad object":
        metadata["bad"] = '{"a": 1}'
    else:
        metadata["made_of"] = "{}"


HOW = (
    "videos",
    "order",
    "type",
    "nan",
    "rows",
    "no mean",
    "tokens",
    "bad rows",
    "bad object",
    "of",
)


@pytest.mark.long
def test_features_that_are_none_of_these_videos_are_named(
    place: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    probed(*place)
    path = next(iter(shards()))
    whole = path.read_bytes()
    for how in HOW:
        path.write_bytes(whole)
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata()
        spoil(tensors, metadata, how)
        save_file(tensors, path, metadata=metadata)
        assert call("probe", *place, "overwrite=true") == 2, how
        assert f"{path} cannot be used" in capsys.readouterr().err, how


def test_weights_that_are_damaged_are_refused(
    place: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = features_module.FeatureExtractor.tokens
    monkeypatch.setattr(
        features_module.FeatureExtractor, "tokens", lambda self, x: tokens(self, x) * float("nan")
    )
    assert call("probe", *place) == 2
    assert "the features are not finite" in capsys.readouterr().err
    assert shards() == {}


def test_tokens_that_do_not_fit_are_refused(
    place: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("videomae.evaluation.probe_features")
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage)
    assert call("probe", *place) == 2
    assert "probe.kinds=[knn,linear]" in capsys.readouterr().err
    assert probed(*place, "probe.kinds=[knn,linear]")["linear"]["top1"] == 100


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.train_list=null"], ["data.train_list is not set"]),
        (["weights=null"], ["weights is not set"]),
        (["weights=nowhere"], ["no weights at nowhere"]),
        (["data.test_list=empty.txt"], ["data.test_list=empty.txt lists no clip"]),
        (["data.root=empty"], ["none of the first 10 videos of data.train_list"]),
        (["data.test_list=bad.txt"], ["none of the videos of data.test_list can be read"]),
        (["data.train_list=bad.txt"], ["none of the videos of data.train_list can be read"]),
        (["output_dir=empty.txt"], ["output_dir=empty.txt", "is a file"]),
        (["output_dir=run"], ["output_dir=run holds a training run"]),
        (["probe.lrs=[]"], ["probe.lrs must be rates above 0"]),
        (["probe.kinds=[]"], ["probe.kinds must name at least one of knn, linear, attentive"]),
        (["probe.views=0"], ["probe.views must be at least 1"]),
        (["probe.temperature=0"], ["probe.temperature must be more than 0"]),
        (["data.decoder=eye"], ["no decoder 'eye'"]),
    ],
)
def test_what_cannot_work_is_refused(
    place: tuple[str, ...],
    overrides: list[str],
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("empty.txt").write_text("")
    Path("empty").mkdir()
    Path("videos/bad.mp4").write_bytes(b"no video")
    write_list(Path("bad.txt"), ["bad.mp4 0"])
    Path("run").mkdir()
    Path("run/metrics.jsonl").write_text("")
    assert call("probe", *place, *overrides) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said
    assert not Path("out/results.json").exists()


@pytest.mark.soak
@pytest.mark.long
def test_two_processes_share_the_features(place: tuple[str, ...]) -> None:
    alone = probed(*place)
    next(iter(shards())).unlink()
    job = Job("probe", [*place, "overwrite=true"], directory=str(Path.cwd()))
    assert in_processes(2, job) == [0, 0]
    assert json.loads(Path("out/results.json").read_text()) == alone
    assert len(shards()) == 2
