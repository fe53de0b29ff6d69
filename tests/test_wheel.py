"""An installed wheel runs the commands from any directory, with its own configs."""

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.conftest import ROOT, run_command
from tests.pages import PAGES, linked

pytestmark = pytest.mark.long


def succeed(*command: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    """What a command prints; it must not fail."""
    finished = subprocess.run(
        command, cwd=cwd, env=os.environ | (env or {}), capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    arguments = ("--wheel", "--no-isolation", "--outdir", folder, ROOT)
    succeed(sys.executable, "-m", "build", *arguments, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet")
    succeed(*pip, "--no-deps", "--no-index", "--target", folder, wheel, cwd=folder)
    return folder


def test_a_wheel_holds_the_package_and_its_configs_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = set(archive.namelist())
    tops = {name.split("/")[0] for name in inside}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"videomae"}
    shipped = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml")}
    assert "configs/exp/tiktok_vitg.yaml" in shipped
    assert {f"videomae/{name}" for name in shipped} <= inside
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "videomae").rglob("*.py")}
    assert modules <= inside
    assert "videomae/report/templates/page.html" in inside
    assert "videomae/pictures/templates/style.css" in inside
    assert "videomae/curate/templates/index.html" in inside


def test_a_source_archive_holds_every_page_and_what_it_leads_to(tmp_path: Path) -> None:
    arguments = ("--sdist", "--no-isolation", "--outdir", tmp_path, ROOT)
    succeed(sys.executable, "-m", "build", *arguments, cwd=tmp_path)
    (built,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(built) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    assert "docs/weights.md" in inside
    assert set(PAGES) <= inside
    for page in PAGES:
        for path, _ in linked(page):
            assert path.relative_to(ROOT).as_posix() in inside, (page, path)


def test_an_installed_wheel_runs_from_anywhere_with_its_own_code_and_configs(
    installed: Path, tmp_path: Path
) -> None:
    """Both are marked where they were installed, to tell them from the checkout's."""
    package = installed / "videomae"
    with (package / "__init__.py").open("a") as file:
        file.write('print("imported:", __file__)\n')
    exp = package / "configs" / "exp" / "tiktok_vitg.yaml"
    exp.write_text(exp.read_text().replace("epochs: 300", "epochs: 77"))

    env = {"PYTHONPATH": str(installed)}
    finished = run_command("pretrain", "+exp=tiktok_vitg", "--cfg", "job", cwd=tmp_path, env=env)
    assert finished.returncode == 0, finished.stderr
    assert f"imported: {package / '__init__.py'}\n" in finished.stdout
    assert "name: tiktok_vitg\n" in finished.stdout
    assert "  epochs: 77\n" in finished.stdout
    assert list(tmp_path.iterdir()) == []  # printing a config leaves nothing behind
