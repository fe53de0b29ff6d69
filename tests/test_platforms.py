"""Where the package runs, and that CI, its description and its words say the same of it."""

import re
import subprocess
import sys
import tomllib
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

SENTENCE = "videomae runs on Linux and macOS, not on Windows itself: install it in the Windows "


def on_windows(arguments: list[str], statement: str) -> subprocess.CompletedProcess[str]:
    """What Python ends with and says where it takes itself to be on Windows."""
    begin = f"import sys; sys.platform = 'win32'; sys.argv = {arguments}; "
    return subprocess.run(
        [sys.executable, "-c", begin + statement],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_command_on_windows_ends_with_one_sentence() -> None:
    """While the package is imported for `python -m`, sys.argv holds no more than this."""
    done = on_windows(["-m"], "import videomae.doctor")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(SENTENCE)
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("what", ["videomae", "videomae.model"])
def test_an_import_on_windows_fails_with_that_sentence(what: str) -> None:
    done = on_windows(["program.py"], f"import {what}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ImportError: {SENTENCE}")


@pytest.fixture(scope="module")
def project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def matrix() -> Any:
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    return workflow["jobs"]["versions"]["strategy"]["matrix"]


def test_ci_has_every_python_and_system_of_the_description(project: Any, matrix: Any) -> None:
    said = project["classifiers"]
    assert [f"Programming Language :: Python :: {each}" for each in matrix["python"]] == [
        each for each in said if "Python" in each
    ]
    assert project["requires-python"] == f">={matrix['python'][0]}"
    systems = {"ubuntu-latest": "POSIX :: Linux", "macos-latest": "MacOS"}
    assert {f"Operating System :: {systems[each]}" for each in matrix["os"]} == {
        each for each in said if "Operating System" in each
    }


def test_ci_has_the_oldest_torch_that_is_allowed_and_the_newest(project: Any, matrix: Any) -> None:
    (allowed,) = [each for each in project["dependencies"] if re.match(r"torch\W", each)]
    oldest, newest = matrix["torch"]
    assert oldest.split()[0] == f"torch=={allowed.removeprefix('torch>=')}.*"
    assert newest == "torch"
