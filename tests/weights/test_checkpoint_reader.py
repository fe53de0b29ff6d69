"""Checkpoints of others: what they claim is compared with their files, and nothing is run."""

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import _MEM_FORMAT_ENCODING, Metadata

from tests.train.test_checkpoint import contents, last, make_state, store
from videomae.run.files import sha256
from videomae.train.resuming import CheckpointError
from videomae.weights.checkpoint_reader import read_metadata

WEIGHT, DATA = "model.0.weight", "__0_0.distcp"


@pytest.fixture
def step(tmp_path: Path) -> Path:
    return store(tmp_path).save(3, *make_state(seed=0, steps=3))


def rehash(step: Path) -> None:
    """Make run.json fit the files, as whoever changes them would."""
    about = json.loads((step / "run.json").read_text())
    about["sha256"] = {file.name: sha256(file) for file in step.iterdir() if file.suffix != ".json"}
    (step / "run.json").write_text(json.dumps(about))


def changed(step: Path, change: Callable[[Any], object]) -> None:
    """Let `change` edit the unpickled metadata."""
    metadata = pickle.loads((step / ".metadata").read_bytes())
    change(metadata)
    (step / ".metadata").write_bytes(pickle.dumps(metadata))
    rehash(step)


def restore(step: Path) -> None:
    store(step.parent.parent).restore(step, *make_state(seed=1, steps=0))


def place(metadata: Metadata) -> Any:
    """Where the weight lies."""
    return next(x for key, x in metadata.storage_data.items() if key.fqn == WEIGHT)


def resized(metadata: Metadata, *size: int) -> None:
    entry: Any = metadata.state_dict_metadata[WEIGHT]
    entry.size = entry.chunks[0].sizes = torch.Size(size)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: setattr(place(m), "relative_path", "../outside"), "not the name of a file"),
        (lambda m: setattr(place(m), "relative_path", "/etc/passwd"), "not the name of a file"),
        (lambda m: setattr(place(m), "relative_path", ".."), "not the name of a file"),
        (lambda m: setattr(place(m), "relative_path", 7), "without a name or a file"),
        (lambda m: setattr(place(m), "offset", -1), r"places model\.0\.weight at \(-1"),
        (lambda m: setattr(place(m), "length", 10**15), r"of 10{9,}\d* bytes"),
        (lambda m: setattr(place(m), "length", 2**70), r"places model\.0\.weight at"),
        (lambda m: setattr(place(m), "length", 8), r"bytes of model\.0\.weight are nowhere"),
        (lambda m: setattr(place(m), "transform_descriptors", ["zstd"]), "compressed"),
        (lambda m: resized(m, 10**6, 10**6), r"bytes of model\.0\.weight are nowhere"),
        (lambda m: resized(m, 2, 3), r"Size mismatch|expected"),
        (lambda m: resized(m, *[1] * 9), "in place of a shape"),
        (lambda m: m.storage_data.clear(), "are nowhere"),
        (lambda m: m.state_dict_metadata.clear(), "Missing key"),
        (lambda m: setattr(m.state_dict_metadata[WEIGHT], "chunks", []), "do not make"),
        (lambda m: setattr(m, "storage_data", None), "no places"),
        (lambda m: setattr(m, "state_dict_metadata", [1]), "no description"),
    ],
)
def test_metadata_that_do_not_fit_the_files_are_refused(
    step: Path, change: Callable[[Any], object], reason: str
) -> None:
    changed(step, change)
    with pytest.raises(CheckpointError, match=reason) as error:
        restore(step)
    assert str(step) in str(error.value)


def test_members_of_enums_are_read_as_the_first_pythons_3_11_pickle_them(
    step: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def reduced(self: Any, _: int) -> Any:
        return getattr, (type(self), self.name)

    before = read_metadata(step)
    with monkeypatch.context() as patch:
        patch.setattr(_MEM_FORMAT_ENCODING, "__reduce_ex__", reduced)
        changed(step, lambda _: None)
    assert b"getattr" in (step / ".metadata").read_bytes()
    assert read_metadata(step).state_dict_metadata == before.state_dict_metadata
    restore(step)


def test_many_tensors_in_one_place_are_refused(step: Path) -> None:
    """As a small file that promises a large state would hold them."""

    def promise(metadata: Metadata) -> None:
        entry = metadata.state_dict_metadata[WEIGHT]
        key = next(key for key in metadata.storage_data if key.fqn == WEIGHT)
        for number in range(2000):
            name = f"model.{number}"
            metadata.state_dict_metadata[name] = entry
            metadata.storage_data[type(key)(name, key.offset)] = place(metadata)

    changed(step, promise)
    with pytest.raises(CheckpointError, match=r"promises \d+ bytes, the files have"):
        restore(step)


@pytest.mark.parametrize("name", [".metadata", DATA])
def test_a_link_that_leads_out_is_refused(step: Path, name: str) -> None:
    outside = (step / name).rename(step.parent / f"outside{name}")
    (step / name).symlink_to(outside)
    with pytest.raises(CheckpointError, match=rf"{name} missing or damaged"):
        restore(step)
    with pytest.raises(ValueError, match="link that leads out"):
        read_metadata(step)


def test_what_is_no_regular_file_is_not_waited_for(step: Path) -> None:
    (step / DATA).unlink()
    os.mkfifo(step / DATA)
    with pytest.raises(CheckpointError, match=rf"{DATA} missing or damaged"):
        restore(step)


def test_a_file_that_the_checkpoint_does_not_know_is_refused(step: Path) -> None:
    (step / "__7_0.distcp").write_bytes(b"of another run")
    with pytest.raises(CheckpointError, match=r"__7_0\.distcp missing or damaged"):
        restore(step)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80\x04]" + b"r\xff\xff\xff\x7f" + b".",  # a memo of two thousand million places
        b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b".",  # a bytearray of a terabyte
        b"\x80\x04" + b"]" * 10**5 + b"a" * 10**5 + b".",
        pickle.dumps(print),
        pickle.dumps(torch.nn.Linear),
        pickle.dumps([1, 2]),
        pickle.dumps(Metadata({})),
    ],
    ids=["empty", "memo", "bytearray", "deep", "print", "Linear", "list", "bare"],
)
def test_what_is_no_metadata_takes_no_memory_and_is_refused(step: Path, content: bytes) -> None:
    (step / ".metadata").write_bytes(content)
    rehash(step)
    with pytest.raises(CheckpointError, match=r"\.metadata"):
        restore(step)


def test_metadata_that_are_too_large_for_their_tensors_are_not_read(step: Path) -> None:
    (step / ".metadata").write_bytes(b"\x80\x04](" + b"N" * 2**23 + b"e.")
    rehash(step)
    with pytest.raises(CheckpointError, match=r"\.metadata has 8,388,614 bytes, more than"):
        restore(step)


def test_a_compressed_part_is_refused(step: Path) -> None:
    """Which might be a thousand times as large as the file."""
    whole, packed = (step / DATA).read_bytes(), io.BytesIO()
    where = place(pickle.loads((step / ".metadata").read_bytes()))
    part = io.BytesIO(whole[where.offset : where.offset + where.length])
    with (
        zipfile.ZipFile(part) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    (step / DATA).write_bytes(whole + packed.getvalue())

    def move(metadata: Metadata) -> None:
        place(metadata).offset, place(metadata).length = len(whole), len(packed.getvalue())

    changed(step, move)
    with pytest.raises(CheckpointError, match=r"entry 'archive/data\.pkl' is compressed"):
        restore(step)


@pytest.mark.parametrize("name", ["step", "samples", "identity", "weights", "sha256"])
@pytest.mark.parametrize("value", [None, "x", 1.5, [1], {"a": 1}])
def test_a_run_file_of_other_types_is_refused(step: Path, name: str, value: object) -> None:
    about = json.loads((step / "run.json").read_text())
    (step / "run.json").write_text(json.dumps(about | {name: value}))
    with pytest.raises(CheckpointError, match=f"{step}"):
        restore(step)


def test_what_is_saved_are_tensors_and_nothing_else(step: Path) -> None:
    """Weights, moments and counters; torch's own reader finds the same."""
    state = make_state(seed=0, steps=3)
    metadata: Any = dcp.FileSystemReader(step).read_metadata()
    ours = read_metadata(step)
    assert ours.state_dict_metadata.keys() == metadata.state_dict_metadata.keys()
    for name, entry in ours.state_dict_metadata.items():
        assert vars(entry)["size"] == metadata.state_dict_metadata[name].size
        assert vars(entry)["chunks"] == metadata.state_dict_metadata[name].chunks
    restored = make_state(seed=1, steps=0)
    assert store(step.parent.parent).restore(step, *restored) == 3
    assert contents(restored) == contents(state)
    assert last(step.parent.parent) == "step_3"
