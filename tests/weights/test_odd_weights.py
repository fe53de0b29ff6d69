"""Official checkpoints with something odd in them: read right, or refused by name."""

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.conftest import soaked
from tests.model import CLIP, CONFIG, random_clip, randomise
from videomae.config import UserError
from videomae.weights.load import build_model, load_model
from videomae.weights.weights import Kind, WeightsInfo

CLASSIFIER = WeightsInfo(Kind.classifier, "c", CONFIG, CLIP, classes=3)
PRETRAINED = WeightsInfo(Kind.pretrain, "p", CONFIG, CLIP)
ARGS = {"num_frames": 4, "input_size": 12, "sampling_rate": 3}
HEADS = {"num_heads": 2, "decoder_num_heads": 4}
Tensors = dict[str, Tensor]


def tensors_of(info: WeightsInfo) -> Tensors:
    model = build_model(info)
    randomise(model)
    return dict(model.state_dict())


def loaded(path: Path) -> Any:
    return load_model(path, verbose=False, **HEADS)


@pytest.fixture
def tensors() -> Tensors:
    return tensors_of(CLASSIFIER)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: {name: tensor.clone().requires_grad_() for name, tensor in x.items()},
        lambda x: {name: tensor.mT.contiguous().mT for name, tensor in matrices(x)} | vectors(x),
        lambda x: {name: tensor.double() for name, tensor in x.items()},
        lambda x: dict(zip(x, slices_of_one(list(x.values())), strict=True)),
    ],
    ids=["requires_grad", "not_contiguous", "float64", "one_storage"],
)
def test_however_the_tensors_lie_they_are_the_same(
    tmp_path: Path, tensors: Tensors, change: Callable[[Tensors], Tensors]
) -> None:
    outputs = []
    for name, content in (("plain.pth", tensors), ("odd.pth", change(tensors))):
        torch.save({"model": content, "args": argparse.Namespace(**ARGS)}, tmp_path / name)
        outputs.append(loaded(tmp_path / name)(random_clip()))
    assert torch.equal(*outputs)


def matrices(tensors: Tensors) -> list[tuple[str, Tensor]]:
    return [(name, tensor) for name, tensor in tensors.items() if tensor.ndim == 2]


def vectors(tensors: Tensors) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if tensor.ndim != 2}


def slices_of_one(tensors: list[Tensor]) -> list[Tensor]:
    joined = torch.cat([tensor.flatten() for tensor in tensors])
    parts = joined.split([tensor.numel() for tensor in tensors])
    return [part.view(tensor.shape) for part, tensor in zip(parts, tensors, strict=True)]


@pytest.mark.parametrize("dtype", [torch.int8, torch.int64, torch.bool, torch.complex64], ids=str)
@pytest.mark.parametrize("name", ["head.bias", "blocks.0.attn.qkv.weight"])
def test_weights_that_are_no_real_numbers_are_refused(
    tmp_path: Path, tensors: Tensors, name: str, dtype: torch.dtype
) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"model": tensors | {name: tensors[name].to(dtype)}, "args": ARGS}, path)
    with pytest.raises(UserError, match=rf"odd\.pth .*real numbers.*: {name} of {dtype}"):
        loaded(path)


@pytest.mark.parametrize(
    "change",
    [
        Tensor.to_sparse,
        lambda x: x.to("meta"),
        lambda x: torch.quantize_per_tensor(x, 0.1, 0, torch.qint8),
    ],
    ids=["sparse", "meta", "quantised"],
)
@pytest.mark.filterwarnings("ignore")
def test_tensors_that_are_not_held_in_full_are_refused(
    tmp_path: Path, tensors: Tensors, change: Callable[[Tensor], Tensor]
) -> None:
    path = tmp_path / "odd.pth"
    torch.save(tensors | {"head.weight": change(tensors["head.weight"])}, path)
    with pytest.raises(UserError, match=r"odd\.pth holds head\.weight sparse, quantised or"):
        loaded(path)


@pytest.mark.parametrize("shape", [(2, 0), *soaked((), (3,))], ids=str)
@pytest.mark.parametrize("info", [CLASSIFIER, PRETRAINED], ids=lambda info: info.kind.name)
def test_any_tensor_of_any_shape_is_refused(
    tmp_path: Path, info: WeightsInfo, shape: tuple[int, ...]
) -> None:
    tensors = tensors_of(info)
    for name in (*tensors, "pos_embed", "encoder.pos_embed"):
        if name not in tensors or tensors[name].shape != shape:
            path = tmp_path / "odd.pth"
            torch.save({"model": tensors | {name: torch.ones(shape)}, "args": ARGS}, path)
            with pytest.raises(UserError, match="odd"):
                loaded(path)


def test_a_file_without_some_block_is_refused_by_its_number(
    tmp_path: Path, tensors: Tensors
) -> None:
    path = tmp_path / "odd.pth"
    torch.save({x: y for x, y in tensors.items() if not x.startswith("blocks.1.")}, path)
    with pytest.raises(UserError, match=r"odd\.pth holds blocks\.2 but nothing of blocks\.1:"):
        loaded(path)
    torch.save(tensors | {"blocks.99999999.norm1.bias": torch.ones(16)}, path)  # in no time
    with pytest.raises(UserError, match=r"holds blocks\.99999999 but nothing of blocks\.3:"):
        loaded(path)


@pytest.mark.parametrize("name", ["num_frames", "input_size"])
@pytest.mark.parametrize("value", [15, 1, 4 * 10**8, 10**30])
def test_clips_that_cannot_be_are_refused(
    tmp_path: Path, tensors: Tensors, name: str, value: int
) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"model": tensors, "args": ARGS | {name: value}}, path)
    with pytest.raises(UserError, match=r"odd\.pth: .*(multiple|at most 1000000, got)"):
        loaded(path)


@pytest.mark.parametrize("value", [0, -1, True, 1.5, float("nan"), "4", None, [4], {}])
def test_settings_of_another_type_are_as_if_not_there(
    tmp_path: Path, tensors: Tensors, value: object
) -> None:
    for name in (*ARGS, "drop_path", "mask_ratio"):
        path = tmp_path / "odd.pth"
        torch.save({"model": tensors, "args": argparse.Namespace(**ARGS | {name: value})}, path)
        assumed = {"num_frames": 16, "input_size": 224, "sampling_rate": 4}.get(name)
        clip = loaded(path).clip
        found = {
            "num_frames": clip.frames,
            "input_size": clip.size,
            "sampling_rate": clip.stride,
        }
        assert found == ARGS | ({name: assumed} if assumed else {})


def test_the_size_of_learned_positions_shows_unless_nothing_fits(
    tmp_path: Path, tensors: Tensors
) -> None:
    path = tmp_path / "odd.pth"
    positions = torch.randn(1, 18, 16)
    for content, args in ((positions, {"num_frames": 4}), (positions, {"num_frames": 1})):
        torch.save({"model": tensors | {"pos_embed": content}, "args": args}, path)
        if args["num_frames"] == 4:
            assert loaded(path).clip.size == 12
        else:
            with pytest.raises(UserError, match="odd"):
                loaded(path)


def saved_bytes(tensors: Tensors, *, zipped: bool) -> bytes:
    file = io.BytesIO()
    content = {"model": tensors, "args": argparse.Namespace(**ARGS)}
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, tensors: Tensors, zipped: bool) -> None:
    whole = saved_bytes(tensors, zipped=zipped)
    path = tmp_path / "odd.pth"
    path.write_bytes(whole)
    loaded(path)
    for length in (*range(0, 400, 7), *range(400, len(whole), len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"odd\.pth"):
            loaded(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_with_wrong_bytes_is_loaded_or_refused(
    tmp_path: Path, tensors: Tensors, zipped: bool
) -> None:
    """Nothing but a UserError ever comes out."""
    whole = saved_bytes(tensors, zipped=zipped)
    rng = np.random.default_rng(0)
    path, refused = tmp_path / "odd.pth", 0
    for number in range(60):
        content = bytearray(whole)
        for place in rng.integers(0, 3000 if number % 2 else len(whole), 4):
            content[place] = rng.integers(0, 256)
        path.write_bytes(content)
        try:
            loaded(path)
        except UserError:
            refused += 1
    assert refused > 10
