"""Seeded mutations of documents: JSON by its keys and values, lines of text, Python's pickles."""

import copy
import io
import json
import pickletools
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.fuzzing.mutations import LARGE_INTEGERS, mutate_bytes

DEEP = 100_000
"""Levels of a document that nests deeper than any stack."""
DEEP_MARK = "\ue000deep\ue000"
NAMES = (
    "",
    ".",
    "..",
    "/",
    "-",
    "step",
    "path",
    "__class__",
    "sha256",
    "x" * 300,
    "a\nb",
    "\x1b[2J",
)
"""Keys that a document gets."""


@dataclass(frozen=True)
class Bait:
    """Where a hostile file may want to lead."""

    address: str
    """Of a listener on this machine, HOST:PORT."""
    outside: str
    """The absolute path of a file that no attempt has any business with."""

    def texts(self) -> tuple[str, ...]:
        """Addresses and paths that lead there, and text that no program expects."""
        return (
            self.outside,
            "../" * 12 + self.outside.lstrip("/"),
            "../outside",
            "/etc/shadow",
            "/dev/zero",
            f"http://{self.address}/x",
            f"tcp://{self.address}",
            f"file://{self.outside}",
            "",
            ".",
            "nan",
            "\0",
            "\x1b]0;title\x07\x1b[2J",
            "\u202eabc",
            "\ud800",
            "%s%n{0}{}",
            "x" * 5000,
            "\n",
            "\\",
        )


def hostile_value(rng: random.Random, bait: Bait) -> Any:
    """A value that no program expects there."""
    kind = rng.randrange(8)
    if kind < 3:
        return rng.choice((*LARGE_INTEGERS, 10**30, 3, 5, 7))
    if kind == 3:
        return rng.choice((0.5, -1.0, 1e308, -1e308, 1e-320, float("nan"), float("inf"), -0.0))
    if kind < 6:
        return rng.choice(bait.texts())
    return rng.choice(
        (None, True, False, [], {}, [0] * 5000, [[[[]]]], {"a": {"b": 1}}, [None], DEEP_MARK)
    )


def places_of(document: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) of a document."""
    found: list[tuple[Any, Any]] = []
    todo = [document]
    while todo:
        node = todo.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node))
        for key in keys:
            found.append((node, key))
            if isinstance(node[key], dict | list):
                todo.append(node[key])
    return found


def _nudged(value: Any, rng: random.Random) -> Any:
    """A value near to another."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, int | float):
        changes: list[Callable[[Any], Any]] = [
            lambda x: x + 1,
            lambda x: x - 1,
            lambda x: -x,
            lambda x: x * 2,
            lambda x: x * 10**6,
            float,
            str,
        ]
        return rng.choice(changes)(value)
    if isinstance(value, str):
        content, _ = mutate_bytes(value.encode("utf-8", "surrogatepass"), rng)
        return content.decode("utf-8", "replace")
    return [value]


def mutate_value(document: Any, rng: random.Random, bait: Bait) -> tuple[Any, str]:
    """A document of dicts and lists with one to three changes, and what they were."""
    root, names = {"document": copy.deepcopy(document)}, []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = places_of(root)
        if not places:
            break
        node, key = rng.choice(places)
        kind = rng.choice(
            ("set", "set", "set", "nudge", "nudge", "remove", "rename", "add", "copy")
        )
        if kind == "set":
            node[key] = hostile_value(rng, bait)
        elif kind == "nudge":
            node[key] = _nudged(node[key], rng)
        elif kind == "remove" and node is not root:
            del node[key]
        elif kind == "rename" and isinstance(node, dict) and node is not root:
            node[rng.choice(NAMES)] = node.pop(key)
        elif kind == "add" and isinstance(node, dict) and node is not root:
            node[rng.choice(NAMES)] = hostile_value(rng, bait)
        elif kind == "copy":
            other, place = rng.choice(places)
            if place in other if isinstance(other, dict) else place < len(other):
                node[key] = copy.deepcopy(other[place])
        names.append(f"{kind} {key}"[:60])
    return root["document"], ", ".join(names)


def dumped(document: Any) -> bytes:
    """The text of a JSON document. One value may nest deeper than any stack."""
    try:
        text = json.dumps(document)
    except (RecursionError, ValueError):
        text = "[]"
    deep = "[" * DEEP + "]" * DEEP
    return text.replace(json.dumps(DEEP_MARK), deep).encode()


def mutate_json(content: bytes, rng: random.Random, bait: Bait) -> tuple[bytes, str]:
    """A JSON document with other values, keys or bytes."""
    if rng.random() < 0.25:
        return mutate_bytes(content, rng)
    document, what = mutate_value(json.loads(content), rng, bait)
    return dumped(document), what


def mutate_json_lines(content: bytes, rng: random.Random, bait: Bait) -> tuple[bytes, str]:
    """JSON lines of which one holds other values; or with lines changed as text."""
    lines = content.splitlines()
    if not lines or rng.random() < 0.4:
        return mutate_lines(content, rng, bait)
    number = rng.randrange(len(lines))
    document, what = mutate_value(json.loads(lines[number]), rng, bait)
    lines[number] = dumped(document)
    return b"".join(line + b"\n" for line in lines), f"line {number + 1}: {what}"


def mutate_lines(content: bytes, rng: random.Random, bait: Bait) -> tuple[bytes, str]:
    """A text with lines or words changed, or its bytes."""
    kind = rng.choice(("bytes", "bytes", "line", "word", "word", "drop", "repeat", "swap", "ends"))
    lines = content.split(b"\n")
    number = rng.randrange(len(lines))
    strange = rng.choice(bait.texts()).encode("utf-8", "surrogatepass")
    if kind == "bytes":
        return mutate_bytes(content, rng)
    if kind == "line":
        lines[number] = strange
    elif kind == "word":
        words = lines[number].split(b" ")
        value = hostile_value(rng, bait)
        number_word = str(value).encode("utf-8", "surrogatepass")[:6000]
        words[rng.randrange(len(words))] = rng.choice((strange, number_word))
        lines[number] = b" ".join(words)
    elif kind == "drop":
        del lines[number]
    elif kind == "repeat":
        lines[number:number] = [lines[number]] * int(10 ** rng.uniform(0, 3))
    elif kind == "swap":
        other = rng.randrange(len(lines))
        lines[number], lines[other] = lines[other], lines[number]
    else:
        ends = rng.choice((b"\r\n", b"\r", b"\0", b"\n\n", b"\x0b", "\u2028".encode()))
        return ends.join(lines), f"line ends {ends!r}"
    return b"\n".join(lines), f"{kind} line {number + 1}"


HOSTILE_GLOBALS = (
    ("os", "system"),
    ("builtins", "eval"),
    ("builtins", "exec"),
    ("builtins", "bytearray"),
    ("torch", "zeros"),
    ("torch._utils", "_rebuild_tensor_v2"),
    ("collections", "OrderedDict"),
    ("numpy", "zeros"),
    ("pathlib", "PosixPath"),
)


def mutate_pickle(content: bytes, rng: random.Random, bait: Bait) -> tuple[bytes, str]:
    """A pickle in which an operation has another argument, is gone, or stands twice."""
    try:
        operations = list(pickletools.genops(io.BytesIO(content)))
    except ValueError:
        return mutate_bytes(content, rng)
    ends = [place for _, _, place in operations[1:]] + [len(content)]
    parts = [
        (operation.name, argument, content[place or 0 : end])
        for (operation, argument, place), end in zip(operations, ends, strict=True)
    ]
    names = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.choice(("argument",) * 6 + ("remove", "repeat", "swap"))
        number = rng.randrange(len(parts))
        if kind == "argument":
            known = [n for n, part in enumerate(parts) if part[1] is not None]
            number = rng.choice(known) if known else number
            name, argument, old = parts[number]
            parts[number] = (name, argument, _other_argument(name, argument, old, rng, bait))
        elif kind == "remove":
            del parts[number]
        elif kind == "repeat":
            parts[number:number] = [parts[number]] * rng.choice((1, 2, 100))
        else:
            other = rng.randrange(len(parts))
            parts[number], parts[other] = parts[other], parts[number]
        names.append(f"{kind} {parts[min(number, len(parts) - 1)][0]}")
        if not parts:
            break
    return b"".join(part for _, _, part in parts), ", ".join(names)


def _other_argument(
    name: str, argument: object, old: bytes, rng: random.Random, bait: Bait
) -> bytes:
    """An operation of a pickle of the same kind with another argument."""
    if isinstance(argument, bool):
        return b"\x89" if argument else b"\x88"
    if isinstance(argument, int) and not name.endswith(("PUT", "GET")):
        value = rng.choice((*LARGE_INTEGERS, argument + 1, argument * 2, 10**30))
        data = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
        return b"\x8a" + bytes([len(data)]) + data
    if name == "GLOBAL":
        module, function = rng.choice(HOSTILE_GLOBALS)
        return f"c{module}\n{function}\n".encode()
    if isinstance(argument, str):
        words = [
            *bait.texts(),
            *(word for pair in HOSTILE_GLOBALS for word in pair),
            "FloatStorage",
        ]
        data = rng.choice(words).encode("utf-8", "surrogatepass")
        return b"X" + len(data).to_bytes(4, "little") + data
    changed, _ = mutate_bytes(old[1:] or b"\0", rng)
    return old[:1] + changed
