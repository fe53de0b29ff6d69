"""Files made by hand by somebody who means harm, of kinds that mutations hardly find."""

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tests.fuzzing.archives import rezipped
from tests.fuzzing.base import Attack
from tests.fuzzing.documents import Bait

MARKER = "marker"
"""The name of a file that code from a hostile file would leave in the working directory."""


class Gadget:
    """An object that is unpickled by a call."""

    def __init__(self, function: Callable[..., Any], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[object, ...]]:
        return self.call


def gadgets() -> dict[str, Any]:
    """Objects that run code, take memory or call out when they are unpickled."""
    return {
        "system": Gadget(os.system, f"touch {MARKER}"),
        "exec": Gadget(exec, f"open({MARKER!r}, 'w')"),
        "eval in a dict": {"model": Gadget(eval, f"open({MARKER!r}, 'w')")},
        "open": Gadget(open, MARKER, "w"),
        "bytearray": Gadget(bytearray, 20 * 10**9),
        "zeros": Gadget(torch.zeros, 5 * 10**9),
    }


def write_gadget(path: str, content: object, _: Bait) -> None:
    """A file of torch.save that holds such an object."""
    torch.save(content, path)


def write_plain_pickle(path: str, _: Bait) -> None:
    """A plain pickle that runs code."""
    Path(path).write_bytes(pickle.dumps(gadgets()["system"]))


def expand(path: str, _: Bait) -> None:
    """Tensors that are one number, repeated by a stride of 0 to tens of gigabytes."""
    content = torch.load(path, weights_only=False)
    state = content.get("model", content)
    for name in list(state)[:8]:
        state[name] = torch.zeros(1).expand(100_000, 100_000)
    torch.save(content, path)


def deflate(path: str, _: Bait) -> None:
    """An archive that is a thousandth of what it holds."""
    content = torch.load(path, weights_only=False)
    state = content.get("model", content)
    state["unused"] = torch.zeros(400_000_000, dtype=torch.uint8)
    torch.save(content, path)
    small = rezipped(Path(path).read_bytes(), lambda _, data: data, zipfile.ZIP_DEFLATED)
    Path(path).write_bytes(small)


def promise_zip(path: str, _: Bait) -> None:
    """An archive whose directory promises entries of terabytes."""
    content = bytearray(Path(path).read_bytes())
    place = content.find(b"PK\x01\x02")
    while place >= 0:
        struct.pack_into("<II", content, place + 20, 0xFFFFFFF0, 0xFFFFFFF0)
        place = content.find(b"PK\x01\x02", place + 4)
    Path(path).write_bytes(content)


def many_entries(path: str, _: Bait) -> None:
    """An archive of a hundred thousand entries."""
    with zipfile.ZipFile(path, "a") as archive:
        for number in range(100_000):
            archive.writestr(f"archive/data/x{number}", b"")


def bomb(path: str, _: Bait) -> None:
    """A pickle whose lists hold each other, two by two: a billion leaves if copied."""
    node: list[object] = []
    for _level in range(30):
        node = [node, node]
    torch.save({"model": node}, path)


def long_number(path: str, _: Bait) -> None:
    """A pickle with an integer of 100 MB."""
    Path(path).write_bytes(b"\x80\x02\x8b" + struct.pack("<I", 10**8) + b"\x7f" * 10**8 + b".")


def torch_attacks(path: str) -> Sequence[Attack]:
    """Attacks on a file of torch.save."""
    acts: dict[str, Callable[[Bait], None]] = {
        f"gadget {name}": partial(write_gadget, path, content)
        for name, content in gadgets().items()
    }
    named = (write_plain_pickle, expand, deflate, promise_zip, many_entries, bomb, long_number)
    acts |= {act.__name__: partial(act, path) for act in named}
    return tuple(Attack(f"{path}: {name}", act) for name, act in acts.items())


def _lead(value: Callable[[Bait], str], bait: Bait) -> None:
    path = Path("weights/model.safetensors.index.json")
    index = json.loads(path.read_text())
    index["weight_map"] = dict.fromkeys(index["weight_map"], value(bait))
    path.write_text(json.dumps(index))


def weights_index_attacks() -> Sequence[Attack]:
    """Attacks on the index of a directory of transformers."""
    values: dict[str, Callable[[Bait], str]] = {
        "outside": lambda bait: bait.outside,
        "up": lambda bait: "../" * 12 + bait.outside.lstrip("/"),
        "address": lambda bait: f"http://{bait.address}/model.safetensors",
        "long": lambda _: "x" * 300,
        "zero": lambda _: "a\0b",
        "itself": lambda _: "model.safetensors.index.json",
        "folder": lambda _: ".",
    }
    return tuple(Attack(f"index leads {name}", partial(_lead, of)) for name, of in values.items())
