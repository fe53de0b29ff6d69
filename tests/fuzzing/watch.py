"""What attempts open and whom they call, from the log of strace, which sees native code too."""

import os
import re
import shutil
import site
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

CALLS = "open,openat,openat2,creat,connect,sendto,sendmsg"
BEGIN, END = "/dev/null/begin/", "/dev/null/end/"
"""What a server tries to open before and after an attempt, so that the log tells them apart."""
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
RESULT = re.compile(r"\) += \d+<(.*)>$")
FOLDER = re.compile(r"^(?:AT_FDCWD|\d+)<(.*?)>, ")
CALL = re.compile(r"^\d+ +(?:<\.\.\. )?(\w+)(?: resumed>|\()(.*)$")
SYSTEM = (
    "/proc",
    "/dev",
    "/sys",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/share",
    "/usr/local/lib",
    "/usr/local/share",
    "/etc/ld.so.cache",
    "/etc/ld.so.preload",
    "/etc/fonts",
    "/var/cache/fontconfig",
    "/etc/locale.alias",
    "/etc/localtime",
    "/etc/mime.types",
    "/etc/ssl/openssl.cnf",
)
"""Libraries, fonts, time zones and what the kernel shows: any program opens these."""
LATE_S = 30.0
"""The log is not so far behind."""


def available() -> bool:
    """Whether strace is here and may trace."""
    return shutil.which("strace") is not None


class Watch:
    """Reads the log of a traced server while it works.

    Args:
        fifo: where strace writes.
        own: folders that attempts may open files in, besides those of the system and of Python.
    """

    def __init__(self, fifo: Path, own: Sequence[Path]) -> None:
        self.fifo = fifo
        repository = Path(__file__).resolve().parents[2]
        python = (sys.prefix, sys.base_prefix, *site.getsitepackages(), *sys.path, repository)
        places = [*SYSTEM, *filter(None, map(str, python)), *map(str, own)]
        self.allowed = {os.path.normpath(place) for place in places}
        self.allowed |= {os.path.realpath(place) for place in places}
        self.found: dict[int, list[str]] = {}
        self.complete = threading.Condition()

    def traced(self, command: Sequence[str]) -> list[str]:
        """Begin to read the log, and return the command that writes it."""
        os.mkfifo(self.fifo)
        threading.Thread(target=self._read, daemon=True).start()
        options = ["-f", "-y", "-qq", "--seccomp-bpf", "-s", "8192", "-e", f"trace={CALLS}"]
        return ["strace", *options, "-e", "signal=none", "-o", str(self.fifo), *command]

    def outside(self, number: int) -> list[str] | None:
        """What was opened or called during an attempt that should not have been; None: not known.

        Args:
            number: how many requests the server had before this one.
        """
        with self.complete:
            known = self.complete.wait_for(lambda: number in self.found, LATE_S)
            return self.found.pop(number) if known else None

    def _read(self) -> None:
        current: list[str] = []
        with self.fifo.open(errors="replace") as log:
            for line in log:
                if BEGIN in line:
                    current = []
                elif END in line:
                    number = int(line.split(END)[1].split('"')[0])
                    with self.complete:
                        self.found[number] = current
                        self.complete.notify_all()
                else:
                    current += self.judge(line)

    def judge(self, line: str) -> Iterator[str]:
        """What a line of the log tells that should not have happened."""
        match = CALL.match(line.rstrip("\n"))
        if match is None:
            return
        call, rest = match.groups()
        if call in ("connect", "sendto", "sendmsg"):
            if "AF_INET" in rest:
                yield f"{call}({rest[:200]}"
            return
        if (opened := RESULT.search(rest)) and not self._may_open(unescaped(opened[1])):
            yield f"opened {opened[1][:300]}"
        elif quoted := QUOTED.search(rest):
            name = unescaped(quoted[1])
            if folder := FOLDER.match(rest):
                name = os.path.join(unescaped(folder[1]), name)
            if not self._may_open(name):
                yield f"tried to open {name[:300]!r}"

    def _may_open(self, path: str) -> bool:
        path = os.path.normpath(path)
        if not path.startswith("/"):  # a pipe, a socket, memory
            return True
        parents = [path, *map(str, Path(path).parents)]
        return any(parent in self.allowed for parent in parents)


def unescaped(text: str) -> str:
    """A path as strace writes it, with its escapes undone."""
    return text.encode("latin-1", "replace").decode("unicode_escape", "replace")
