"""The README and the pages of docs/: their text, and the commands that they show."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.conftest import ROOT

PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text()
    for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), ROOT / "data_lists/README.md")
}
"""Text by path."""
LAUNCHERS = ("one_node.sh", "several_nodes.sh", "slurm.sh")
"""Scripts that take the name of a command and its settings."""


class Command(NamedTuple):
    """A command that a page shows."""

    page: str
    name: str
    """Of the package's command, such as pretrain."""
    overrides: list[str]

    def __str__(self) -> str:
        return " ".join((self.page, self.name, *self.overrides))


def code(text: str) -> Iterator[str]:
    """The lines of a page's code, fenced or indented, continued lines joined."""
    fenced = False
    for line in re.sub(r"\\\n *", " ", text).splitlines():
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            yield line.strip()


def prose(text: str) -> str:
    """A page without its fenced code."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def linked(page: str) -> Iterator[tuple[Path, str]]:
    """The file and the anchor, perhaps "", of every link of a page that stays in the checkout."""
    for target in re.findall(r"\[[^\]]+\]\(([^)\s]+)\)", prose(PAGES[page])):
        place, _, anchor = target.partition("#")
        if "://" not in target:
            yield ((ROOT / page).parent / place if place else ROOT / page).resolve(), anchor


def commands(page: str) -> Iterator[Command]:
    """Every command of the package that a page shows, started by Python or by a launcher."""
    for line in code(PAGES[page]):
        words = shlex.split(line, comments=True) if re.search(r"videomae\.|\.sh ", line) else []
        for number, word in enumerate(words):
            if word.startswith("videomae.") and words[number - 1] == "-m":
                yield Command(page, word.removeprefix("videomae."), words[number + 1 :])
            elif Path(word).name in LAUNCHERS:
                yield Command(page, words[number + 1], words[number + 2 :])


def snippets(page: str) -> list[str]:
    """The Python that a page shows."""
    return re.findall(r"```python\n(.*?)```", PAGES[page], flags=re.DOTALL)
