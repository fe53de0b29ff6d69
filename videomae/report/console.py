"""What people see while a command runs: lines, tables, a progress bar. All of it goes to stderr."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

console = Console(stderr=True, highlight=False)


def note(text: str) -> None:
    """One line to people, from whichever process has something to tell."""
    console.print(text, markup=False, soft_wrap=True)


@dataclass(frozen=True)
class Say:
    """Prints on the main process; silent on the others."""

    enabled: bool

    def line(self, text: str) -> None:
        """One line to people, on stderr."""
        if self.enabled:
            note(text)

    def rich(self, thing: RenderableType) -> None:
        """Anything that rich can draw."""
        if self.enabled:
            console.print(thing)

    def table(self, title: str, rows: Sequence[tuple[str, str, str]]) -> None:
        """What, value, how it came about."""
        table = Table(title=title, title_justify="left", show_header=False, box=None)
        table.add_column()
        table.add_column(justify="right", style="bold")
        table.add_column(style="dim")
        for row in rows:
            table.add_row(*row)
        self.rich(table)

    @contextmanager
    def bar(self, description: str, total: int, done: int = 0) -> Iterator["Bar"]:
        """A progress bar with the time left, while the block runs."""
        with Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not (self.enabled and console.is_terminal),
        ) as progress:
            task = progress.add_task(description, total=total, completed=done, note="")
            yield Bar(progress, task)


@dataclass(frozen=True)
class Bar:
    """One running progress bar."""

    progress: Progress
    task: TaskID

    def advance(self, count: int = 1) -> None:
        """So many more are done."""
        self.progress.advance(self.task, count)

    def reach(self, done: int, note: str) -> None:
        """So many are done in all."""
        self.progress.update(self.task, completed=done, note=note)
