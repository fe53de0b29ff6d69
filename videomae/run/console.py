"""Output on the terminal while a command runs: the log, tables and a progress bar, on stderr.

Modules say what they do through the standard library's `logging`, each under its own name.
`log_to_console` prints it. All printed text passes through here or videomae.run.text.shown, so that
control characters in names cannot change the terminal, and no secret stays in a log.
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
"""Name of the package's logger, the parent of the loggers of all modules."""
TIME_OF_DAY = "%H:%M:%S"
LOG_EVERY_S = 60.0
"""Seconds between two progress messages of the log where there is no terminal for a bar."""

logger = logging.getLogger(__name__)


class SafeConsole(Console):
    """A console of rich that prints control characters as escapes."""

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
    """A log message that is a table, with rows of a name, a value and an explanation."""

    title: str
    rows: Sequence[tuple[str, str, str]]

    def __str__(self) -> str:
        return "\n".join([self.title, *("  ".join(row).rstrip() for row in self.rows)])

    def table(self) -> Table:
        """Return the rows as a table of rich."""
        table = Table(show_header=False, box=None)
        table.add_column(overflow="fold")  # a narrow terminal shows all of a number
        table.add_column(justify="right", style="bold", overflow="fold")
        table.add_column(style="dim", overflow="fold")
        for row in self.rows:
            table.add_row(*map(Text, row))
        return table


class ConsoleHandler(logging.Handler):
    """Prints the log to stderr; with the time of day where stderr is not a terminal."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print one message of the log."""
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
        is_main: whether this is the main process of a run. Of other processes only warnings are
            shown.
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
    """Progress of a count: a bar on a terminal, else a log message from time to time."""

    def __init__(self, progress: Progress, task: TaskID, unit: str) -> None:
        self.progress = progress
        self.task = task
        self.unit = unit
        self._told = time.monotonic()
        self._first: tuple[float, float] | None = None  # when the first were done, and how many

    @property
    def total(self) -> int:
        """The number at which the progress is complete."""
        return int(self.progress.tasks[0].total or 0)

    def advance(self, count: int = 1, note: str = "") -> None:
        """Add `count` to what is done, and log it from time to time where no bar is drawn.

        Args:
            note: text for the end of the bar, or of the log line.
        """
        self.progress.update(self.task, advance=count, note=note)
        now, task = self._mark(), self.progress.tasks[0]
        if self.progress.disable and now - self._told >= LOG_EVERY_S:
            self._told = now
            done = f"{task.completed:,.0f} of {self.total:,}{self.speed()}{self.left()}"
            logger.info(f"{task.description} {done}  {note}".rstrip())
        elif self.unit and not note:
            self.progress.update(self.task, note=self.speed().strip())

    def reach(self, done: int, note: str) -> None:
        """Set the number that is done, and the note at the end of the bar."""
        self.progress.update(self.task, completed=done, note=note)
        self._mark()

    def left(self) -> str:
        """Return the remaining time as text for the end of a log line; empty if it is not known."""
        pace = self._pace()
        if pace is None:
            return ""
        remaining = self.total - self.progress.tasks[0].completed
        return f"  {timedelta(seconds=round(pace * remaining))} left"

    def speed(self) -> str:
        """Return the speed as text for a log line; empty if it is not known, or without a unit."""
        pace = self._pace() if self.unit else None
        return f"  {1 / pace:.3g} {self.unit}/s" if pace else ""

    def _pace(self) -> float | None:
        """Return the seconds that an item takes; None if they are not known.

        They are those since the first items were done: the time before, such as the start of
        processes, does not count.
        """
        done = self.progress.tasks[0].completed
        if self._first is None or done <= self._first[1]:
            return None
        began, first = self._first
        return (time.monotonic() - began) / (done - first)

    def _mark(self) -> float:
        """Remember when the first items were done, and return the monotonic time, in seconds."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, self.progress.tasks[0].completed
        return now


@contextmanager
def progress_bar(description: str, total: int, done: int = 0, unit: str = "") -> Iterator[Bar]:
    """Draw a progress bar with the time left while the block runs, if there is a terminal.

    It is drawn only where the log is shown: by the main process of a command.

    Args:
        done: number that is done already.
        unit: plural of what is counted, for a speed such as "3 videos/s"; empty: none is shown.
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
        task = progress.add_task(description, total=total, completed=done, note="")
        yield Bar(progress, task, unit)
