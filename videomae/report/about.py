"""The head of a report page: its title, its date, and how each of its runs was made."""

import shlex
from collections.abc import Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any, NamedTuple

from videomae.report.gather import RunRecord
from videomae.run.text import redacted

MOST_NAMES = 3
"""Largest number of runs that the title names."""
MOST_COMMAND = 2000
"""Largest number of characters of a command that are shown."""
SHORT = 10
"""Number of characters of a commit that are shown where its whole name stands elsewhere."""


class About(NamedTuple):
    """When, how and from which commit a page was made."""

    made: str
    """Date, time and time zone."""
    command: str
    commit: str | None
    """Git commit of the package that made the page; None: it is in no checkout."""


def about_page(arguments: Sequence[str], commit: str | None) -> About:
    """Return when, how and from which commit a page is made now.

    Args:
        arguments: the command line.
        commit: git commit of the package.
    """
    now = datetime.now().astimezone()
    made = now.strftime("%Y-%m-%d %H:%M %Z")
    return About(made, _command(arguments), commit and _shortened(commit))


def title_of(runs: Sequence[RunRecord]) -> str:
    """Return the names of some runs, each once."""
    names = list(dict.fromkeys(run.name for run in runs))
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def origin_of(run: RunRecord) -> dict[str, str]:
    """Return the command of a run, when it began, and its commit, as its environment.json says.

    What it does not say is an empty text. Of a run that went on it is the last part's.
    """
    environment = run.environment
    command: Any = environment.get("command")
    return {
        "command": _command(command) if isinstance(command, list) and command else "",
        "began": _date(environment.get("began")),
        "commit": _text(environment.get("commit"))[:64],
    }


def commits_of(runs: Sequence[RunRecord]) -> list[str]:
    """Return the commits of some runs, each once, shortened."""
    found = dict.fromkeys(origin_of(run)["commit"] for run in runs)
    return [_shortened(commit) for commit in found if commit]


def _shortened(commit: str) -> str:
    name, _, edited = commit.partition("-")
    return name[:SHORT] + (f"-{edited}" if edited else "")


def _command(arguments: Sequence[Any]) -> str:
    """Return a command line as text that can be pasted, with secrets masked."""
    name, *rest = (redacted(str(argument)) for argument in arguments)
    path = PurePath(name)
    module = path.parent.name if path.stem == "__main__" else path.name.removesuffix(".py")
    words = ["python", "-m", f"videomae.{module.removeprefix('videomae.')}", *rest]
    text = redacted(shlex.join(words))
    return text if len(text) <= MOST_COMMAND else f"{text[:MOST_COMMAND]} ..."


def _date(value: object) -> str:
    """Return an ISO date and time without its seconds; an empty text for anything else."""
    try:
        return datetime.fromisoformat(_text(value)).strftime("%Y-%m-%d %H:%M %Z")
    except ValueError:
        return ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
