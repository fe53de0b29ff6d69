"""What a shell proposes after `videomae`."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from videomae.run.completion import SHELLS, completions
from videomae.run.schema import COMMANDS


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("videomae ", [*COMMANDS, "completion"]),
        ("videomae pre", ["pretrain", "predict", "prepare"]),
        ("videomae pretrain +e", ["+exp="]),
        ("videomae pretrain +exp=tiktok_vitg", ["+exp=tiktok_vitg"]),
        ("videomae finetune run=cpu model=vit_t", ["model=vit_tiny"]),
        ("videomae finetune run.precision=b", ["run.precision=bf16"]),
        ("videomae finetune overwrite=", ["overwrite=true", "overwrite=false"]),
        ("videomae finetune data.train_list=", []),
        ("videomae nothing ", []),
    ],
)
def test_words_follow_from_the_settings(line: str, expected: list[str]) -> None:
    assert completions(line) == expected


def test_what_is_given_often_comes_first() -> None:
    names = completions("videomae pretrain data.")
    assert names[0] in ("data.root=", "data.train_list=")
    assert names.index("data.train_list=") < names.index("data.first_frame=")
    assert len(names) > 20


def test_configs_of_other_folders_are_proposed(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "vit_mine.yaml").write_text("name: vit_mine\n")
    line = f"videomae pretrain --config-dir {tmp_path} model=vit_m"
    assert completions(line) == ["model=vit_mine"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["pretr"], ["pretrain"]),
        (["pretrain", "model", "=", "vit_t"], ["vit_tiny"]),
        (["pretrain", "model", "="], None),
        (["pretrain", "run.preci"], ["run.precision="]),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], expected: list[str] | None) -> None:
    """Bash splits words at =, as COMP_WORDS shows."""
    line = "videomae " + " ".join(words).replace(" = ", "=").replace(" =", "=")
    found = replies(tmp_path, line, words)
    assert found == expected if expected else "vit_giant" in found


def test_bash_completes_what_stands_before_the_cursor(tmp_path: Path) -> None:
    found = replies(
        tmp_path, "videomae pretrain model=vit_t", ["pretrain", "model", "=", "vit_txx"]
    )
    assert found == ["vit_tiny"]


@pytest.mark.parametrize(
    ("line", "words", "expected"),
    [
        ("weights=out", ["weights", "=", "out"], "out puts"),
        ("'weights=out", ["'weights=out"], "weights=out puts"),
    ],
)
def test_bash_completes_paths(tmp_path: Path, line: str, words: list[str], expected: str) -> None:
    """As files, so that bash itself puts quotes and the slash behind a folder."""
    (tmp_path / "out puts").mkdir()
    found = replies(tmp_path, f"videomae finetune {line}", ["finetune", *words])
    assert found == ["compopt", "-o", "filenames", expected]


def replies(tmp_path: Path, line: str, words: list[str]) -> list[str]:
    """What bash is told: options of compopt, and the replies.

    Args:
        line: the command line up to the cursor.
        words: behind `videomae`, as bash splits them; the last one may go on behind the cursor.
    """
    program = tmp_path / "videomae"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m videomae "$@"\n')
    program.chmod(0o755)
    quoted = " ".join(shlex.quote(word) for word in ["videomae", *words])
    script = f"""PATH={tmp_path}:$PATH
{SHELLS["bash"]}
compopt() {{ [[ $2 == nospace ]] || printf '%s\n' compopt "$@"; }}
COMP_LINE={shlex.quote(line)} COMP_POINT={len(line)}
COMP_WORDS=({quoted}) COMP_CWORD={len(words)}
_videomae
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert done.stderr == ""
    return done.stdout.splitlines()
