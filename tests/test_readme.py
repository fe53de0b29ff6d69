"""The README and the pages of docs/ are true of the program: commands, links, settings, numbers.

The pages that a newcomer follows are run in tests/test_followed_pages.py.
"""

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin, get_type_hints

import pytest
from hydra import compose, initialize_config_dir
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import open_dict

from tests.conftest import ROOT, composed
from tests.pages import PAGES, Command, code, commands, linked, prose
from videomae.config import config_dir
from videomae.run.overwrite import MADE_BY_A_RUN
from videomae.run.record import RECORD
from videomae.run.schema import COMMANDS, config_object, register
from videomae.train.recipes import read_header, row

SHOWN = [command for page in PAGES for command in commands(page)]


def test_every_command_of_the_package_is_shown() -> None:
    assert {command.name for command in SHOWN} == set(COMMANDS)


@pytest.mark.parametrize("command", SHOWN, ids=str)
def test_each_command_composes(command: Command) -> None:
    given = [word for word in command.overrides if word != "..."]
    jobs = [given]
    if given[:1] == ["-m"]:  # a sweep
        parsed = OverridesParser.create().parse_overrides(given[1:])
        (jobs,) = BasicSweeper.split_arguments(parsed, max_batch_size=None)
        assert len(jobs) > 1
    register(command.name)
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        for overrides in jobs:
            whole = compose(command.name, overrides=overrides, return_hydra_config=True)
            with open_dict(whole):
                del whole["hydra"]
            config_object(whole, command.name)


@pytest.mark.parametrize("page", PAGES)
def test_scripts_take_the_options_that_a_page_shows(page: str) -> None:
    for line in code(PAGES[page]):
        if found := re.search(r"(?:python|bash) (scripts/\w+\.\w+)(.*)", line.partition("#")[0]):
            path = ROOT / found[1].replace("soak.sh", "soak.py")  # which its arguments go to
            for option in re.findall(r"--[\w-]+", found[2]):
                assert f'"{option}"' in path.read_text(), line


def anchors(text: str) -> set[str]:
    """What the headings of a page can be linked by, as GitHub makes it of them."""
    titles = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_anchors_are_those_of_github() -> None:
    titles = "# Where VideoMAE's own code does otherwise\n## metrics.jsonl\n```\n# no title\n```\n"
    assert anchors(titles) == {"where-videomaes-own-code-does-otherwise", "metricsjsonl"}


@pytest.mark.parametrize("page", PAGES)
def test_each_link_of_a_page_leads_somewhere(page: str) -> None:
    for path, anchor in linked(page):
        assert path.is_file(), path
        assert not anchor or anchor in anchors(path.read_text()), (path, anchor)


def test_the_readme_leads_to_each_page() -> None:
    for page in PAGES:
        assert page == "README.md" or f"]({page})" in PAGES["README.md"], page


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_are_there(page: str) -> None:
    named = r"\b(?:scripts|tests|configs|videomae|docs)/(?:\w+/)*(?:\w+\.\w+\b|\w+(?!\w*\*))?"
    for name in re.findall(named, PAGES[page]):
        assert name == "configs/exp/NAME.yaml" or (ROOT / name).exists(), name


def test_the_table_in_contributing_names_every_module() -> None:
    named: dict[str, list[str]] = {}
    for room, names in re.findall(r"`videomae/(\w+)/`: ([^|]*)", PAGES["CONTRIBUTING.md"]):
        named.setdefault(room, []).extend(re.findall(r"`(\w+)`", names))
    assert len(named) > 10
    for room, modules in named.items():
        files = [path.stem for path in (ROOT / "videomae" / room).glob("*.py")]
        assert sorted(modules) == sorted(set(files) - {"__init__", "__main__"})


def settings(config_class: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a config class; NAME stands where any name can."""
    kinds = get_type_hints(config_class)
    for field in fields(config_class):
        kind, key = kinds[field.name], f"{prefix}{field.name}"
        yield key
        if get_origin(kind) is dict:
            kind, key = get_args(kind)[1], f"{key}.NAME"
        if isinstance(kind, type) and is_dataclass(kind):
            yield from settings(kind, f"{key}.")


@pytest.mark.parametrize("page", PAGES)
def test_settings_and_exps_that_a_page_names_are_there(page: str) -> None:
    known = {key for config_class in COMMANDS.values() for key in settings(config_class)}
    dotted = r"(?<![\w./-])((?:model|data|mask|augment|optim|run|probe)\.[\w.]+)"
    for words in re.findall(r"`([^`\n]+)`", prose(PAGES[page])):
        for key in re.findall(dotted, words):
            if not key.endswith((".py", ".json")):
                assert key.rstrip(".").removesuffix(".NAME") in known, words
        for exp in re.findall(r"\+exp=(\w+)", words):
            assert exp == "NAME" or (ROOT / f"configs/exp/{exp}.yaml").is_file(), words


def test_the_recipes_of_the_readme_are_those_of_the_command() -> None:
    shown = re.findall(r"^\| (\w+) \| vit_.*$", PAGES["README.md"], flags=re.MULTILINE)
    assert len(shown) == 3
    for exp in shown:
        path = config_dir() / "exp" / f"{exp}.yaml"
        with initialize_config_dir(str(config_dir()), version_base="1.3"):
            name, _, model, _, *rest, _ = row(path, read_header(path))
        assert f"| {' | '.join((name, model, *rest))} |" in PAGES["README.md"]


@pytest.mark.parametrize("page", ["README.md", "docs/measurements.md"])
def test_the_demo_reports_what_a_page_says(page: str) -> None:
    for exp in ("demo_finetune", "demo_scratch"):
        reported = read_header(config_dir() / "exp" / f"{exp}.yaml").facts["Reported"]
        assert f"**{reported.split()[0]}" in PAGES[page]


def test_the_page_on_the_run_directory_names_all_that_a_run_writes() -> None:
    for name in (*MADE_BY_A_RUN, RECORD):
        assert f"`{name}" in PAGES["docs/run_directory.md"], name


SAID = {
    "docs/packs.md": [
        ("`data.max_bad_fraction` (1 %)", "finetune", "data.max_bad_fraction", 0.01),
        ("`data.timeout_s` (120 s)", "finetune", "data.timeout_s", 120),
        ("`data.max_clip_bytes` (2 GiB", "finetune", "data.max_clip_bytes", 2**31),
        ("a short side of 256 px", "pack", "short_side", 256),
        ("crf 22", "pack", "crf", 22),
        ("frame every 32 frames", "pack", "keyint", 32),
        ("(`stride=4`)", "pack", "stride", 4),
    ],
    "docs/scaling.md": [
        ("`run.stall_timeout_s` (30 minutes)", "pretrain", "run.stall_timeout_s", 1800),
    ],
    "docs/own_videos.md": [
        ("`optim.warmup_epochs` is 20 in pre-training", "pretrain", "optim.warmup_epochs", 20),
        ("and 5 in fine-tuning", "finetune", "optim.warmup_epochs", 5),
        ("The batch is 64 videos", "finetune", "optim.global_batch", 64),
        ("for 30 epochs", "finetune", "optim.epochs", 30),
        ("Nothing is mirrored", "finetune", "data.hflip", False),
        ("a clip of 16 frames", "finetune", "data.clip.frames", 16),
        ("4 apart", "finetune", "data.clip.stride", 4),
        ("of 224 px", "finetune", "data.clip.size", 224),
    ],
    "docs/run_directory.md": [
        ("(default `outputs/NAME`)", "finetune", "output_dir", "outputs/finetune"),
        ("`run.keep_checkpoints` (2)", "pretrain", "run.keep_checkpoints", 2),
    ],
}
"""By page: words, and the default that they tell of."""


@pytest.mark.parametrize("page", SAID)
def test_defaults_are_those_that_a_page_says(page: str) -> None:
    text = " ".join(PAGES[page].split())
    for words, command, key, value in SAID[page]:
        assert words in text, words
        found: Any = composed(command)
        for name in key.split("."):
            found = getattr(found, name)
        assert found == value, words
