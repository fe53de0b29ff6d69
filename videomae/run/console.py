"""What people see: lines, tables, a progress bar, on stderr while a command runs.

Everything printed passes through here or videomae.run.text.shown: no name and no message can
steer a terminal, and no secret stays in a log.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.segment import Segment
from rich.table import Table

from videomae.run.text import shown


class SafeConsole(Console):
    """rich's console, on which control characters of what is printed are escapes."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text))


console = SafeConsole(stderr=True, highlight=False)


def note(text: str) -> None:
    """One line to people, from whichever process has something to tell."""
    console.print(shown(text), markup=False, soft_wrap=True)


def tell(text: str) -> None:
    """A line of a command's result, to stdout."""
    print(shown(text))


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
        table.add_column(overflow="fold")  # a narrow terminal shows all of a number
        table.add_column(justify="right", style="bold", overflow="fold")
        table.add_column(style="dim", overflow="fold")
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
