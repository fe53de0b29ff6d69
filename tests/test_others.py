"""Commands that write into a directory of others refuse, or leave what is theirs."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests import miniatures
from tests.conftest import write_list
from tests.test_commands import call
from tests.test_predict import encoder_of_pretraining


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_text(errors="replace") for path in paths}


def prepare(out: Path, _: Path) -> int:
    return call("prepare", *miniatures.ssv2(out.parent / "mini").overrides, f"out={out}")


def scan(out: Path, videos: Path) -> int:
    source = write_list(out.parent / "list.txt", ["0.mp4"])
    return call("scan", f"list={source}", f"root={videos}", f"out={out}", "workers=1")


def pack(out: Path, videos: Path) -> int:
    source = write_list(out.parent / "list.txt", ["0.mp4"])
    given = (f"list={source}", f"root={videos}", f"out={out}", "workers=1")
    return call("pack", *given, "short_side=32", "keyint=16")


def extract(out: Path, videos: Path) -> int:
    weights = encoder_of_pretraining(out.parent / "weights.safetensors")
    given = (f"weights={weights}", f"video={videos / '0.mp4'}", f"output_dir={out}", "run=debug")
    return call("extract", *given)


def split_all(out: Path, videos: Path) -> int:
    """Prepare lists with splits, and fine-tune on all; what is in `out` comes before the rest."""
    lists = out.parent / "lists"
    assert call("prepare", *miniatures.ucf101(out.parent / "mini").overrides, f"out={lists}") == 0
    given = ("+exp=ucf101_vitb_v1", "weights=scratch", f"data.prepared={lists}", "data.split=all")
    return call("finetune", *given, f"output_dir={out}", "run=debug")


@pytest.mark.parametrize(
    ("command", "names"),
    [
        (prepare, ("train.txt", "split1/test.txt")),
        (scan, ("clean.txt",)),
        (pack, ("staging/theirs.mp4", "shard-00000.tar")),
        (extract, ("manifest.jsonl",)),
        (split_all, ("results.json", "config.yaml")),
    ],
)
def test_what_a_command_would_replace_of_others_is_refused(
    videos: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[Path, Path], int],
    names: tuple[str, ...],
) -> None:
    out = tmp_path / "theirs"
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("theirs")
    before = contents(out)
    assert command(out, videos) == 2
    said = capsys.readouterr().err
    assert "choose another" in said
    assert all(name.partition("/")[0] in said for name in names)
    left = contents(out)
    assert {name: left.get(name) for name in before} == before


def test_an_extraction_removes_the_unfinished_files_of_its_own_videos_alone(
    videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    names = (".0.mp4.77.safetensors", ".x.2024.safetensors", ".1.mp4.77.safetensors")
    for name in names:
        (out / name).touch()
    assert extract(out, videos) == 0
    assert all((out / name).exists() for name in names)  # no extraction was here before
    assert extract(out, videos) == 0
    assert [(out / name).exists() for name in names] == [False, True, True]


def test_lists_are_replaced_by_name_and_others_beside_them_stay(tmp_path: Path) -> None:
    mini, out = miniatures.ucf101(tmp_path), tmp_path / "out"
    given = (*mini.overrides, f"out={out}")
    assert call("prepare", *given, "val_groups=2") == 0
    (out / "mine.txt").write_text("mine")
    assert call("prepare", *given, "overwrite=true") == 0
    assert not (out / "split3" / "val.txt").exists()
    (out / "split3" / "val.txt").write_text("mine")
    (out / "split9").mkdir()
    (out / "split9" / "train.txt").write_text("mine")
    before = contents(out)
    assert call("prepare", *given, "overwrite=true") == 2
    assert contents(out) == before
