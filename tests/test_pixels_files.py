"""Pixels there and back; files that are whole or not there; hashes."""

import hashlib
import os
from pathlib import Path

import pytest
import torch

from videomae.model import pixels
from videomae.model.pixels import normalise, unnormalise
from videomae.run.files import remove_temporaries, replacing, sha256, write_text


def test_normalise_takes_out_the_mean_and_spread_of_each_colour() -> None:
    frames = torch.randint(0, 256, (2, 4, 5, 6, 3), dtype=torch.uint8)
    clip = normalise(frames)
    assert clip.shape == (2, 3, 4, 5, 6)
    assert clip.dtype == torch.float32
    for colour, (mean, std) in enumerate(
        [(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)]  # ImageNet
    ):
        expected = (frames[..., colour].double() / 255 - mean) / std
        torch.testing.assert_close(clip[:, colour].double(), expected, rtol=0, atol=1e-6)


def test_unnormalise_is_the_way_back_to_0_to_1() -> None:
    every_level = (
        torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16, 1).expand(-1, -1, -1, -1, 3)
    )
    back = unnormalise(normalise(every_level).permute(0, 2, 3, 4, 1))
    torch.testing.assert_close(back, every_level / 255, rtol=0, atol=1e-6)
    assert torch.equal((back * 255).round().byte(), every_level)


def test_unnormalise_gives_float32_whatever_it_gets() -> None:
    rough = torch.randn(2, 5, 3).bfloat16()
    assert unnormalise(rough).dtype == torch.float32
    assert torch.equal(unnormalise(rough), unnormalise(rough.float()))


def test_a_first_use_without_gradients_does_not_forbid_later_ones() -> None:
    """As in a notebook: a picture of a reconstruction first, a saliency map after it."""
    pixels._constants.cache_clear()
    with torch.inference_mode():
        unnormalise(torch.zeros(1, 3))
    clip = torch.zeros(1, 3, requires_grad=True)
    unnormalise(clip).sum().backward()
    assert torch.allclose(clip.grad, torch.tensor([[0.229, 0.224, 0.225]]))


def test_a_block_that_ends_well_replaces_the_file(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "x.txt"
    for text in ("first", "second"):
        with replacing(path) as temporary:
            assert temporary.parent == path.parent  # a rename is atomic within one folder only
            assert temporary.suffix == path.suffix  # some libraries go by it
            temporary.write_text(text)
            assert not path.exists() or path.read_text() != text
        assert path.read_text() == text
        assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, error: type[BaseException]
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of it")
            raise error

    with pytest.raises(error):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_no_partial_file_where_there_was_none(tmp_path: Path) -> None:
    def fail() -> None:
        with replacing(tmp_path / "x.txt") as temporary:
            temporary.write_text("half of it")
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011  # its own
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_writes_nothing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), replacing(path):
        pass
    assert path.read_text() == "old"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    kept = [".config.2024.json", ".data-1.x.tar", "data-1.12.tar", "list.txt"]
    left = [".data-1.12.tar", ".data-22.4567.tar", ".list.99.txt"]
    for name in kept + left:
        (tmp_path / name).touch()
    remove_temporaries(tmp_path, ["data-*.tar", "list.txt"])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


def test_processes_of_two_hosts_with_one_number_do_not_share_a_temporary_file(
    tmp_path: Path,
) -> None:
    with replacing(tmp_path / "x.txt") as one, replacing(tmp_path / "x.txt") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "x.txt").read_text() == "one"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_data_reach_the_disk_before_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.txt"
    path.write_text("old")
    synced: list[str] = []
    fsync = os.fsync

    def spy(descriptor: int) -> None:
        synced.append(path.read_text())  # what the name says while the data are being written
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", spy)
    write_text(path, "new")
    assert synced == ["old"]
    assert path.read_text() == "new"


def test_text_is_utf8_whatever_the_locale(tmp_path: Path) -> None:
    write_text(tmp_path / "x.txt", "Männer üben #バスケ\n")
    assert (tmp_path / "x.txt").read_bytes() == "Männer üben #バスケ\n".encode()


@pytest.mark.parametrize("size", [0, 1, 300_000])
def test_a_hash_is_of_all_the_bytes(tmp_path: Path, size: int) -> None:
    path = tmp_path / "x"
    path.write_bytes(os.urandom(size))
    assert sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()
