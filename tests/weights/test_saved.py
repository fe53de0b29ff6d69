"""Weights out of training checkpoints, and checkpoints that are not what they should be."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata, MetadataIndex

from tests.test_commands import call
from tests.train import finetuning, pretraining, train
from videomae.run.files import sha256
from videomae.train.resuming import CheckpointError, find_checkpoint
from videomae.weights.formats import read_weights
from videomae.weights.tensors import WeightsError


def newest(run: Path) -> Path:
    found = find_checkpoint(run / "checkpoints", "auto")
    assert found is not None
    return found


@pytest.fixture(scope="module")
def run(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pre-training run that ended before its last step."""
    directory = tmp_path_factory.mktemp("run")
    train(pretraining(videos, directory, max_steps=2))
    return directory


def test_a_checkpoint_is_weights_like_any_other(run: Path, videos: Path, tmp_path: Path) -> None:
    ours, theirs = read_weights(newest(run)), read_weights(run)
    assert ours.info == theirs.info
    assert ours.info.step == 2
    assert ours.tensors.keys() == theirs.tensors.keys()
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in theirs.tensors)
    target = tmp_path / "exported.safetensors"
    assert call("convert", f"weights={newest(run)}", f"target={target}", "format=videomae") == 0
    assert all(
        torch.equal(read_weights(target).tensors[n], theirs.tensors[n]) for n in ours.tensors
    )
    tuned = train(finetuning(videos, tmp_path / "tuned", weights=str(newest(run)), max_steps=1))
    assert [link.name for link in read_weights(tuned).info.parents] == [theirs.info.name]


def test_of_a_fine_tuning_with_a_running_mean_the_mean_is_taken(
    videos: Path, tmp_path: Path
) -> None:
    directory = train(finetuning(videos, tmp_path, "optim.ema_decay=0.9", max_steps=2))
    ours, theirs = read_weights(newest(directory)), read_weights(directory)
    assert ours.info == theirs.info
    assert all(torch.equal(ours.tensors[name], theirs.tensors[name]) for name in theirs.tensors)


def test_the_file_last_stands_for_the_newest_checkpoint(run: Path, tmp_path: Path) -> None:
    last = run / "checkpoints" / "last"
    assert read_weights(last).sha256() == read_weights(newest(run)).sha256()
    (tmp_path / "checkpoints").mkdir()
    other = tmp_path / "checkpoints" / "last"
    other.write_text("../../etc")
    with pytest.raises(WeightsError, match="last names no checkpoint: name one beside it"):
        read_weights(other)


def test_a_run_without_weights_names_its_checkpoint(run: Path, tmp_path: Path) -> None:
    (tmp_path / "checkpoints" / "step_2").mkdir(parents=True)
    with pytest.raises(WeightsError, match=r"no weights.safetensors yet: name .*step_2"):
        read_weights(tmp_path)


class Touch:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return (open, (str(self.path), "w"))


def rewrite(path: Path, change: Callable[[Metadata], None]) -> None:
    """Change the metadata of a checkpoint, and its hashes with them."""
    metadata = pickle.loads((path / ".metadata").read_bytes())
    change(metadata)
    (path / ".metadata").write_bytes(pickle.dumps(metadata))
    about = json.loads((path / "run.json").read_text())
    names = [file.name for file in path.iterdir() if file.name != "run.json"]
    about["sha256"] = {name: sha256(path / name) for name in names}
    (path / "run.json").write_text(json.dumps(about))


def test_a_tensor_that_is_declared_an_object_is_refused_and_never_unpickled(
    run: Path, videos: Path, tmp_path: Path
) -> None:
    """Whichever way the checkpoint is taken: as one's own, by its path, or as weights."""
    received, marker = shutil.copytree(run, tmp_path / "received"), tmp_path / "it ran"
    path = newest(received)
    (path / "__1_0.distcp").touch()
    torch.save(Touch(marker), path / "__1_0.distcp")

    def declare(metadata: Metadata) -> None:
        for name in [*metadata.state_dict_metadata]:
            place = _StorageInfo("__1_0.distcp", 0, (path / "__1_0.distcp").stat().st_size)
            metadata.state_dict_metadata[name] = BytesStorageMetadata()
            metadata.storage_data[MetadataIndex(name)] = place

    rewrite(path, declare)
    refused = r"\.metadata declares \S+ as BytesStorageMetadata.*tensors only"
    for directory, resume in ((received, "auto"), (tmp_path / "own", str(path))):
        with pytest.raises(CheckpointError, match=refused):
            train(pretraining(videos, directory, resume=resume))
    with pytest.raises(WeightsError, match=refused):
        read_weights(path)
    target = tmp_path / "converted.safetensors"
    assert call("convert", f"weights={path}", f"target={target}", "format=videomae") == 2
    assert not marker.exists()


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (exec, ("raise SystemExit('it ran')",))


def test_code_in_a_checkpoint_is_refused_and_not_run(
    run: Path, videos: Path, tmp_path: Path
) -> None:
    """Also where its hashes fit."""
    other = shutil.copytree(run, tmp_path / "run")
    path = newest(other)
    (path / ".metadata").write_bytes(pickle.dumps(Hostile()))
    about = json.loads((path / "run.json").read_text())
    with pytest.raises(WeightsError, match=r"\.metadata missing or damaged"):
        read_weights(path)
    about["sha256"][".metadata"] = sha256(path / ".metadata")
    (path / "run.json").write_text(json.dumps(about))
    with pytest.raises(WeightsError, match=r"holds builtins\.exec, which is refused"):
        read_weights(path)
    with pytest.raises(CheckpointError, match=r"holds builtins\.exec, which is refused"):
        train(pretraining(videos, other, resume="auto"))
