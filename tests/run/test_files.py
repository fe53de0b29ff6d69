"""Files that are written: an error of the system says which."""

import errno
from pathlib import Path

import pytest

from videomae.run.bad_files import TRAIN, BadFile, add_bad_files
from videomae.run.files import append_text, naming, replacing
from videomae.run.sinks import TensorBoard

FULL = Path("/dev/full")
NO_SPACE = "No space left on device"


def fail(*_: object, **__: object) -> None:
    """As a write to a full disk does, which names no file."""
    raise OSError(errno.ENOSPC, NO_SPACE)


@pytest.mark.skipif(not FULL.exists(), reason="no disk that is full")
def test_a_full_disk_is_told_with_the_file_that_it_has_no_room_for(tmp_path: Path) -> None:
    for name in ("metrics.jsonl", "bad_files.jsonl"):
        (tmp_path / name).symlink_to(FULL)
    with pytest.raises(OSError, match=NO_SPACE) as caught:
        append_text(tmp_path / "metrics.jsonl", "{}\n")
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    bad = BadFile(0, "a.mp4", 1, "holds no frame")
    with pytest.raises(OSError, match=rf"{NO_SPACE}.*bad_files\.jsonl"):
        add_bad_files(tmp_path, [bad], TRAIN)


def test_a_file_that_cannot_be_replaced_is_named(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(OSError, match=NO_SPACE) as caught, replacing(path):
        fail()
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match=NO_SPACE) as caught, naming(path):
        raise OSError(errno.ENOSPC, NO_SPACE, "elsewhere")
    assert caught.value.filename == "elsewhere"
    with pytest.raises(PermissionError) as denied, naming(path):
        raise OSError(errno.EACCES, "Permission denied")
    assert denied.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_without_room_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = TensorBoard(tmp_path / "tensorboard", 0)
    monkeypatch.setattr(board.writer, "add_scalar", fail)
    with pytest.raises(OSError, match=rf"{NO_SPACE}.*tensorboard"):
        board.numbers({"loss": 1.0}, 1)
    board.close()


def test_appended_text_stands_at_the_end(tmp_path: Path) -> None:
    for text in ("é\n", "b\n"):
        append_text(tmp_path / "a.txt", text)
    assert (tmp_path / "a.txt").read_bytes() == "é\nb\n".encode()
