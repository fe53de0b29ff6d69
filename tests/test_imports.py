"""Commands import on demand: --help and a typing error cost no import of torch and its like."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from videomae.run.schema import COMMANDS

HEAVY = {
    *("torch", "torchvision", "timm", "numpy", "matplotlib", "pyarrow", "av", "decord"),
    *("tensorboard", "safetensors", "cv2"),
}
"""Packages whose import takes longer than a command needs to explain itself."""
LIGHT = sorted(COMMANDS)
ENTRY = ("videomae.config", "videomae.run.command", "videomae.run.console")
"""What a command's module may import of this package before its function is called."""
REPORTED = """
import atexit, json, runpy, sys
atexit.register(lambda: print("MODULES", json.dumps(sorted(sys.modules)), file=sys.stderr))
runpy.run_module("videomae." + sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def heavy_after(command: str, *words: str, status: int) -> set[str]:
    """The heavy packages that a process has imported which runs a command with these words."""
    done = subprocess.run(
        [sys.executable, "-c", REPORTED, command, *words],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    said = done.stderr.rpartition("MODULES ")[2]
    return HEAVY & {name.partition(".")[0] for name in json.loads(said)}


def source_of(command: str) -> Path:
    """The file of a command's module; report and curate are rooms with a command in them."""
    file = ROOT / "videomae" / f"{command}.py"
    return file if file.exists() else ROOT / "videomae" / command / "__main__.py"


@pytest.mark.parametrize("command", LIGHT)
def test_help_imports_nothing_heavy(command: str) -> None:
    assert heavy_after(command, "--help", status=0) == set()


@pytest.mark.parametrize("command", LIGHT)
def test_a_misspelt_key_imports_nothing_heavy(command: str) -> None:
    assert heavy_after(command, "no_such_key=1", status=2) == set()


def test_a_missing_list_imports_nothing_heavy() -> None:
    assert heavy_after("pretrain", status=2) == set()


@pytest.mark.long
def test_what_a_command_needs_is_seen_here() -> None:
    """A check of the checks: finetune without its settings has imported torch when it says so."""
    assert "torch" in heavy_after("finetune", status=2)


def test_the_table_of_recipes_needs_nothing_heavy() -> None:
    """It composes the exps of other commands, of which its process knows nothing else."""
    assert heavy_after("recipes", "match=ucf101", status=0) == set()


@pytest.mark.parametrize("command", LIGHT)
def test_a_command_begins_with_its_own_imports(command: str) -> None:
    """Whatever else it needs is imported by its function, when that is called."""
    tree = ast.parse(source_of(command).read_text())
    for node in tree.body:
        if isinstance(node, ast.Import):
            assert all(name.name in sys.stdlib_module_names for name in node.names)
        if isinstance(node, ast.ImportFrom):
            module = str(node.module)
            assert module in ENTRY or module.partition(".")[0] in sys.stdlib_module_names, module


@pytest.mark.parametrize("command", LIGHT)
def test_a_command_is_a_docstring_and_one_function(command: str) -> None:
    tree = ast.parse(source_of(command).read_text())
    defined = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert defined == [command]
