"""Reading of untrusted text files piece by piece, so that no file can exhaust the memory.

It is used for clip lists, annotations and class names. JSON lists of objects are read object by
object, so that a long list is never held in memory as a whole.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from videomae.run.files import regular

BLOCK = 2**21
"""Number of characters that are read at once."""
MOST_LINE = 2**21
"""Largest number of characters of a line, at least BLOCK; no path is so long."""
MOST_OBJECT = PIECE = 2**16
"""Largest number of characters of an object in a JSON list, and of a piece that is read at once."""
NOT_UTF8 = re.compile("[\ud800-\udfff]")
"""Characters that stand for bytes that are not UTF-8, in text read with surrogateescape."""
BLANKS = re.compile(r"[ \t\n\r]*")
"""Pattern of the whitespace of JSON."""
DECODER = json.JSONDecoder()


class NotTextError(ValueError):
    """An error: a file is not the text that is expected. Its message names the line and the
    reason."""


def text_blocks(path: Path) -> Iterator[str]:
    """Yield the text of a file, some whole lines at a time.

    Raises:
        OSError: the file cannot be read.
        NotTextError: it is not UTF-8, or a line is longer than MOST_LINE.
    """
    number = 1
    with _opened(path) as file:
        while block := file.read(BLOCK):
            block += file.readline(MOST_LINE + 1)
            last = block.rfind("\n", 0, len(block) - 1) + 1  # only this one can be too long
            number += block.count("\n", 0, last)
            _check_length(block, last, number)
            number += block.count("\n", last)
            yield block


def text_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, without their line ends.

    Raises:
        OSError: the file cannot be read.
        NotTextError: it is not UTF-8, or a line is longer than MOST_LINE.
    """
    with _opened(path) as file:
        number = 0
        while line := file.readline(MOST_LINE + 1):
            number += 1
            _check_length(line, 0, number)
            yield line.removesuffix("\n")


def _check_length(text: str, start: int, number: int) -> None:
    """Refuse a line that ends a text.

    Args:
        start: where in the text it begins.
        number: its own, for the message.
    """
    if len(text) - start - text.endswith("\n") > MOST_LINE:
        raise NotTextError(f"line {number} has more than {MOST_LINE:,} characters")


def short_text(path: Path, most: int) -> str:
    """Return the text of a short file.

    Args:
        most: largest number of characters.

    Raises:
        OSError: it cannot be read.
        NotTextError: it is not UTF-8, or longer.
    """
    with _opened(path) as file:
        text = file.read(most + 1)
    if len(text) > most:
        raise NotTextError(f"it has more than {most:,} characters")
    return text


def json_objects(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON list, one by one.

    Raises:
        OSError: it cannot be read.
        NotTextError: it is no list of objects of at most MOST_OBJECT characters.
    """
    with _opened(path) as file:
        document = _Document(file)
        document.take("[")
        if document.next_character() != "]":
            yield document.object()
            while document.next_character() == ",":
                document.take(",")
                yield document.object()
        document.take("]")
        document.take("")


@contextmanager
def _opened(path: Path) -> Iterator[TextIO]:
    """Open an untrusted text file; if it is not UTF-8, raise a NotTextError that names the line."""
    with regular(path).open(encoding="utf-8-sig") as file:
        try:
            yield file
        except UnicodeDecodeError as error:
            raise NotTextError(f"line {_first_not_utf8(path)} is not UTF-8") from error


def _first_not_utf8(path: Path) -> int:
    """Return the number of the first line that is not UTF-8, from 1."""
    number = 1
    with path.open(encoding="utf-8", errors="surrogateescape") as file:
        while (piece := file.readline(BLOCK)) and not NOT_UTF8.search(piece):
            number += piece.endswith("\n")
    return number


class _Document:
    """A JSON document that is read piece by piece; the text before the current place is dropped."""

    def __init__(self, file: TextIO) -> None:
        self.file = file
        self.text = ""
        self.place = 0
        """Index in the text at which the next value begins."""
        self.line = 1
        """Number of the line that the text begins on, from 1."""

    def next_character(self) -> str:
        """Return the next character that is not whitespace; "" at the end of the document."""
        while True:
            found = BLANKS.match(self.text, self.place)
            assert found is not None
            self.place = found.end()
            if self.place < len(self.text) or not self._read_on():
                return self.text[self.place : self.place + 1]

    def take(self, expected: str) -> None:
        """Skip the next character, which must be `expected`; "" stands for the end.

        Raises:
            NotTextError: it is another one.
        """
        if self.next_character() != expected:
            raise self._error(f"expected {expected or 'the end'}", self.place)
        self.place += len(expected)

    def object(self) -> dict[str, Any]:
        """Return the object that begins here, and skip it.

        Raises:
            NotTextError: there is none, or it is too long.
        """
        if self.next_character() != "{":
            raise self._error("expected an object", self.place)
        while True:
            try:
                found, self.place = DECODER.raw_decode(self.text, self.place)
                assert isinstance(found, dict)
                return found
            except json.JSONDecodeError as error:
                said = self._error(error.msg, error.pos)
                if len(self.text) - self.place > MOST_OBJECT:
                    reason = f"{error.msg}, or an object of more than {MOST_OBJECT:,} characters"
                    raise self._error(reason, self.place) from error
                if not self._read_on():
                    raise said from error
            except (ValueError, RecursionError) as error:  # a number, or a depth, without end
                raise self._error(str(error), self.place) from error

    def _error(self, reason: str, place: int) -> NotTextError:
        return NotTextError(f"line {self.line + self.text.count(chr(10), 0, place)}: {reason}")

    def _read_on(self) -> bool:
        """Read the next piece of the file; return whether there was one."""
        piece = self.file.read(PIECE)
        self.line += self.text.count("\n", 0, self.place)
        self.text, self.place = self.text[self.place :] + piece, 0
        return bool(piece)
