"""What people see: the log, tables, a progress bar, on stderr while a command runs.

Modules say what they do through the standard library's `logging`, each under its own name.
`log_to_console` shows it. All that is printed passes through here or videomae.run.text.shown: no
name and no message can steer a terminal, and no secret stays in a log.
"""

import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

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
from rich.text import Text

from videomae.run.text import shown

PACKAGE = "videomae"
"""The logger above those of all modules."""
TIME_OF_DAY = "%H:%M:%S"
TELLS_EVERY_S = 60.0
"""How often progress is logged where there is no terminal to draw a bar on."""

logger = logging.getLogger(__name__)


class SafeConsole(Console):
    """rich's console, on which control characters of what is printed are escapes."""

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=shown(segment.text))


console = SafeConsole(stderr=True, highlight=False)


def tell(text: str) -> None:
    """Print a line of a command's result to stdout."""
    print(shown(text))


@dataclass(frozen=True)
class Facts:
    """A message of the log that is a table: what, its value, how it came about."""

    title: str
    rows: Sequence[tuple[str, str, str]]

    def __str__(self) -> str:
        return "\n".join([self.title, *("  ".join(row).rstrip() for row in self.rows)])

    def table(self) -> Table:
        """Return the rows as rich draws them."""
        table = Table(show_header=False, box=None)
        table.add_column(overflow="fold")  # a narrow terminal shows all of a number
        table.add_column(justify="right", style="bold", overflow="fold")
        table.add_column(style="dim", overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


class ConsoleHandler(logging.Handler):
    """Prints the log to stderr; where that is no terminal, each message after the time of day."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message."""
        when = ""
        if not console.is_terminal:
            when = time.strftime(f"{TIME_OF_DAY} ", time.localtime(record.created))
        facts = record.msg if isinstance(record.msg, Facts) else None
        text = facts.title if facts else self.format(record)
        style = "italic" if facts else None
        console.print(shown(when + text), style=style, markup=False, soft_wrap=True)
        if facts:
            console.print(facts.table())


@contextmanager
def log_to_console(*, is_main: bool = True) -> Iterator[None]:
    """Show the package's log on stderr while the block, or the decorated function, runs.

    Args:
        is_main: whether this is the main process of a run, of which everything is shown. Of the
            others only warnings are: what concerns one process alone is logged as such.
    """
    package, handler = logging.getLogger(PACKAGE), ConsoleHandler()
    before = package.level, package.propagate
    package.setLevel(logging.INFO if is_main else logging.WARNING)
    package.propagate = False  # Hydra has a handler of its own at the root
    package.addHandler(handler)
    try:
        yield
    finally:
        package.removeHandler(handler)
        package.setLevel(before[0])
        package.propagate = before[1]


class Bar:
    """The progress of something that is counted: a bar on a terminal, else a line now and then."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self.progress = progress
        self.task = task
        self._told = time.monotonic()
        self._first: tuple[float, float] | None = None  # when the first were done, and how many

    @property
    def total(self) -> int:
        """How many there are in all."""
        return int(self.progress.tasks[0].total or 0)

    def advance(self, count: int = 1) -> None:
        """Count so many more as done, and log it from time to time where no bar is drawn."""
        self.progress.advance(self.task, count)
        now, task = self._mark(), self.progress.tasks[0]
        if self.progress.disable and now - self._told >= TELLS_EVERY_S:
            self._told = now
            logger.info(f"{task.description} {task.completed:,.0f} of {self.total:,}{self.left()}")

    def reach(self, done: int, note: str) -> None:
        """Set how many are done in all."""
        self.progress.update(self.task, completed=done, note=note)
        self._mark()

    def left(self) -> str:
        """Return the end of a line: the time left at the pace since the first were done, if known.

        What comes before the first, such as the start of processes, is not a measure of the rest.
        """
        done = self.progress.tasks[0].completed
        if self._first is None or done <= self._first[1]:
            return ""
        began, first = self._first
        pace = (time.monotonic() - began) / (done - first)
        return f"  {timedelta(seconds=round(pace * (self.total - done)))} left"

    def _mark(self) -> float:
        """Remember when the first were done; the time now, in seconds."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, self.progress.tasks[0].completed
        return now


@contextmanager
def progress_bar(description: str, total: int, done: int = 0) -> Iterator[Bar]:
    """Draw a progress bar with the time left while the block runs, if there is a terminal.

    It shows what the log shows: nothing outside of a run, and only the main process's.
    """
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        disable=not (logger.isEnabledFor(logging.INFO) and console.is_terminal),
    ) as progress:
        yield Bar(progress, progress.add_task(description, total=total, completed=done, note=""))
