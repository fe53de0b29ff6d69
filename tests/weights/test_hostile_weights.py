"""Weights of others that promise more than they hold: refused before memory is taken."""

import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.model import CLIP, CONFIG, randomise
from videomae.config import ConfigError, Positions, UserError, WeightsFormat
from videomae.model.positions import position_table
from videomae.weights.formats import read_weights, write_weights
from videomae.weights.load import build_model, load_model, pick_classes
from videomae.weights.tensors import WeightsError
from videomae.weights.weights import MARK, Kind, WeightsInfo, save_weights

INFO = WeightsInfo(Kind.classifier, "c", CONFIG, CLIP, classes=3, class_names=["a", "b", "c"])
ARGS = {"num_frames": 4, "input_size": 12, "sampling_rate": 3}
PROTO = b"\x80\x02"
BYTEARRAY = b"c__builtin__\nbytearray\n"


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    model = build_model(INFO)
    randomise(model)
    return dict(model.state_dict())


@pytest.fixture
def official(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    torch.save({"model": tensors, "args": ARGS}, tmp_path / "odd.pth")
    return tmp_path / "odd.pth"


@pytest.fixture
def own(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    save_weights(tmp_path / "odd.safetensors", tensors, INFO)
    return tmp_path / "odd.safetensors"


def read(path: Path) -> None:
    load_model(path, num_heads=2, verbose=False)


def with_pickle(path: Path, content: bytes, compression: int = zipfile.ZIP_STORED) -> None:
    """Replace what a file of torch.save holds besides the numbers of its tensors."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, old in entries.items():
            archive.writestr(name, content if name.endswith("data.pkl") else old)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["blocks.0.attn.qkv.weight", "pos_embed", "unused"])
def test_an_expanded_tensor_is_refused(
    official: Path, tensors: dict[str, Tensor], name: str, zipped: bool
) -> None:
    """Forty gigabytes in a file of a few thousand bytes."""
    content = tensors | {name: torch.zeros(1).expand(10**5, 10**5)}
    torch.save({"model": content}, official, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"odd\.pth: 40,\S+ bytes of tensors in \S+ bytes"):
        read(official)


def test_tensors_that_share_memory_are_refused(official: Path, tensors: dict[str, Tensor]) -> None:
    shared = torch.zeros(10**5)
    torch.save({"model": tensors | {f"x{i}": shared for i in range(1000)}}, official)
    with pytest.raises(UserError, match="they share memory or are expanded"):
        read(official)


def test_a_compressed_file_is_refused(official: Path) -> None:
    """Which is of 400 kB, and of 400 MB when it is read."""
    with_pickle(official, bytes(4 * 10**7), zipfile.ZIP_DEFLATED)
    with pytest.raises(UserError, match=r"odd\.pth .*entry '\w+/data\.pkl' is compressed"):
        read(official)


def test_entries_that_lie_over_one_another_are_refused(official: Path) -> None:
    content = bytearray(official.read_bytes())
    directory = content.rfind(b"PK\x01\x02")
    content[directory + 20 : directory + 28] = struct.pack("<II", 10**9, 10**9)
    official.write_bytes(content)
    with pytest.raises(UserError, match=r"entries are 1,\S+ bytes large, all of it"):
        read(official)


def test_a_second_table_of_contents_is_refused(official: Path) -> None:
    """Of which torch reads one, Python the other."""
    content = bytearray(official.read_bytes())
    content[-50:-42] = struct.pack("<Q", 4)
    official.write_bytes(content)
    with pytest.raises(UserError, match=r"odd\.pth"):
        read(official)
    official.write_bytes(b"PK\x03\x04" + bytes(content) + b"PK\x05\x06" + bytes(18))
    with pytest.raises(UserError, match=r"odd\.pth"):
        read(official)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BYTEARRAY + b"J\xff\xff\xff\x7f\x85R.", "holds a bytearray"),
        (BYTEARRAY + b"\x8a\x09" + (2**63).to_bytes(9, "little") + b"\x85R.", "holds a bytearray"),
        (b"}" + b")" + b"\x85" * 10**5 + b"Ns.", "nests tuples more than 100 deep"),
        (b"}" + b")" + b"N\x86" * 10**5 + b"Ns.", "nests tuples more than 100 deep"),
        (
            b"c_codecs\nencode\nq\x01X\x40\x42\x0f\x00"
            + b"a" * 10**6
            + b"q\x02X\x05\x00\x00\x00utf-8q\x03]("
            + b"h\x01h\x02h\x03\x86R" * 100
            + b"e.",
            "copies more than any weights need",
        ),
        (b"h\x01.", "recalls what it has not made"),
        (b"R.", "takes what it has not made"),
        (b"q\x01.", "keeps what it has not made"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)
@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_takes_more_than_its_size_is_refused(
    official: Path, content: bytes, reason: str, zipped: bool
) -> None:
    if zipped:
        with_pickle(official, PROTO + content)
    else:
        official.write_bytes(PROTO + content)
    with pytest.raises(UserError, match=rf"odd\.pth .*{reason}"):
        read(official)


def test_a_numpy_type_of_any_size_is_refused(official: Path) -> None:
    size = b"X\x0b\x00\x00\x00V2000000000"
    scalar = b"cnumpy.core.multiarray\nscalar\nh\x02\x85R."
    with_pickle(official, PROTO + b"cnumpy\ndtype\n" + size + b"\x85Rq\x02" + scalar)
    with pytest.raises(UserError, match=r"odd\.pth .*NumPy type 'V2000000000'"):
        read(official)


def told(path: Path, **changes: Any) -> None:
    """Change what a weights file of this project says of itself."""
    with safe_open(path, framework="pt") as file:
        values = json.loads(file.metadata()[MARK])
    for key, value in changes.items():
        section = values[key.split("__")[0]] if "__" in key else values
        section[key.split("__")[-1]] = value
    save_file(load_file(path), path, metadata={MARK: json.dumps(values)})


@pytest.mark.parametrize(
    "changes",
    [
        {"model__depth": 10**9},
        {"model__dim": 10**9, "model__mlp_dim": 10**9},
        {"model__dim": "16"},
        {"model__dim": 16.0},
        {"model__depth": True},
        {"model__mlp_dim": 10**30},
        {"model__patch": 10**9},
        {"model__norm_eps": "small"},
        {"model__norm_eps": float("inf")},
        {"model__position_grid": [10**3, 10**3, 10**3]},
        {"model__position_grid": [2.0, 3.0, 3.0]},
        {"model__decoder_dim": 10**12, "model__decoder_heads": 1},
        {"clip__frames": 4 * 10**6},
        {"clip__frames": 4.0},
        {"clip__size": 10**9 * 4},
        {"classes": 10**12, "class_names": None},
        {"classes": 2, "class_names": None},
        {"class_names": [1, 2, 3]},
        {"class_names": "abc"},
        {"drop_path": 7.0},
        {"head_drop": -1},
        {"step": "seven"},
        {"name": ["c"]},
        {"parents": [{"name": 1, "sha256": "x"}]},
        {"parents": [["name", "sha256"]]},
        {"mask": {"kind": "tube", "ratio": "half", "decoder_ratio": 0}},
    ],
    ids=str,
)
def test_metadata_of_a_model_that_the_tensors_are_not_are_refused(
    own: Path, changes: dict[str, Any]
) -> None:
    told(own, **changes)
    with pytest.raises(WeightsError, match=r"odd\.safetensors: its metadata .*get the file again"):
        read_weights(own)


@pytest.mark.parametrize("mean", [(0.5, 0.5, 0.5), (0.485,), "imagenet", None])
def test_weights_whose_pixels_were_normalised_otherwise_are_refused(
    own: Path, mean: object
) -> None:
    """Every command normalises as VideoMAE does, and would give them other pixels."""
    read_weights(own)
    told(own, normalisation={"mean": mean, "std": (0.229, 0.224, 0.225)})
    with pytest.raises(WeightsError, match=r"odd\.safetensors: .*normalisation=.* is none of"):
        read_weights(own)


@pytest.mark.parametrize("text", ["[" * 10**6, '{"a":' * 10**5, " " * 2**25 + "{}"], ids=len)
def test_json_that_nests_too_deep_or_is_too_large_is_refused(
    own: Path, tmp_path: Path, text: str
) -> None:
    weights = read_weights(own)
    save_file(load_file(own), own, metadata={MARK: text})
    with pytest.raises(WeightsError, match=r"odd\.safetensors(: its metadata| .* contents has)"):
        read_weights(own)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.json cannot be read \((JSON|more)"):
        read_weights(tmp_path)
    with pytest.raises(WeightsError, match=r"cannot be read \((JSON|more)"):
        pick_classes(weights, tmp_path / "config.json")


def test_a_million_tensors_without_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.safetensors"
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    text = json.dumps({f"t{number}": empty for number in range(100_000)}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(WeightsError, match=r"odd\.safetensors .* table of contents has 6,\d{3},\d"):
        read(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_of_millions_of_values_is_refused(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "odd.pth"
    content = {"model": {}, "log": list(range(10**6))}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(WeightsError, match=r"odd\.pth .* pickle is longer than 4,194,304 bytes"):
        read(path)


def test_positions_that_no_memory_holds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"1,000,000,000 tokens, each 16 wide"):
        position_table(Positions.sincos_1d, (1000, 1000, 1000), 16)


@pytest.fixture
def huggingface(tmp_path: Path, own: Path) -> Path:
    """A directory of transformers beside a file of the same tensors."""
    weights = read_weights(own)
    directory = tmp_path / "theirs"
    model = replace(weights.info.model, fc_norm_eps=1e-5)
    info = replace(weights.info, model=model)
    write_weights(directory, WeightsFormat.huggingface, weights.tensors, info)
    (directory / "model.safetensors").rename(tmp_path / "outside.safetensors")
    return directory


@pytest.mark.parametrize(
    "name",
    [
        lambda file: f"../{file.name}",
        str,
        lambda file: "..",
        lambda file: "",
        lambda file: "a\0b",
        lambda file: "x" * 300,
    ],
    ids=["up", "absolute", "dots", "empty", "zero", "long"],
)
def test_an_index_that_leads_out_of_its_directory_is_refused(
    huggingface: Path, name: Callable[[Path], str]
) -> None:
    file = huggingface.parent / "outside.safetensors"
    index = {"weight_map": dict.fromkeys(load_file(file), name(file))}
    (huggingface / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(WeightsError, match=r"index\.json: .* is not the name of a file in"):
        read_weights(huggingface)


def test_a_snapshot_of_the_hub_is_made_of_links(huggingface: Path) -> None:
    """Which stay readable: whoever downloaded it has made them."""
    (huggingface / "model.safetensors").symlink_to(huggingface.parent / "outside.safetensors")
    assert read_weights(huggingface).info.classes == 3
