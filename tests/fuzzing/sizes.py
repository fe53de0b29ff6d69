"""Files that take many times their size when they are read: dense documents, many small things."""

import json
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from tests.fuzzing.archives import rezipped
from tests.fuzzing.base import Attack
from tests.fuzzing.documents import Bait
from videomae.run.files import MOST_JSON, MOST_LINE, sha256
from videomae.weights.archive import MOST_PICKLE
from videomae.weights.checkpoint_reader import MOST_METADATA
from videomae.weights.tensors import MOST_HEADER

UNITS = ('{"":0},', "[0],", "[],", "0.1,", '"ab",')
"""What a dense document repeats."""


def dense_json(path: str, unit: str, _: Bait) -> None:
    """A JSON document that takes as much memory as its size lets it."""
    Path(path).write_text('{"a":[' + unit * ((MOST_JSON - 99) // len(unit)) + "0]}")


def dense_lines(path: str, _: Bait) -> None:
    """Lines of JSON that do."""
    line = '{"step":1,"path":"x","a":[' + UNITS[0] * ((MOST_LINE - 99) // len(UNITS[0])) + "0]}\n"
    Path(path).write_text(4 * line)


def laughs(path: str, key: str, _: Bait) -> None:
    """A YAML document whose aliases stand for billions of values below a key that is read."""
    lines = [f'{key}_0: &a0 {{x: "y"}}']
    for level in range(1, 12):
        names = ", ".join(f"k{n}: *a{level - 1}" for n in range(10))
        lines.append(f"{key}_{level}: &a{level} {{{names}}}")
    old = Path(path).read_text() if Path(path).exists() else ""
    kept = "\n".join(line for line in old.splitlines() if not line.startswith(f"{key}:"))
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("\n".join(lines) + f"\n{key}: *a11\n" + (kept + "\n") * (key != "data"))


def deep_yaml(path: str, _: Bait) -> None:
    """A YAML document that nests deep."""
    Path(path).write_text("data: " + "[" * 5000 + "]" * 5000 + "\n")


def many_tensors(path: str, _: Bait) -> None:
    """A safetensors header of a million tensors without numbers."""
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    one = len(json.dumps({"t100000": empty})) + 2
    text = json.dumps({f"t{number}": empty for number in range(MOST_HEADER // one)}).encode()
    Path(path).write_bytes(struct.pack("<Q", len(text)) + text)


def many_values(path: str, _: Bait) -> None:
    """A file of torch.save with a pickle of many small values."""
    content = b"\x80\x02}q\x00X\x05\x00\x00\x00modelq\x01](" + b"N" * (MOST_PICKLE - 99) + b"es."
    with zipfile.ZipFile(path) as archive:
        whole = Path(path).read_bytes()
        assert archive.namelist()
    changed = rezipped(whole, lambda name, data: content if name.endswith("data.pkl") else data)
    Path(path).write_bytes(changed)


def many_plain_values(path: str, _: Bait) -> None:
    """A plain pickle of many small values, with the metadata's operations only."""
    Path(path).write_bytes(b"\x80\x04](" + b"N" * (MOST_METADATA - 99) + b"e.")


def many_records(path: str, _: Bait) -> None:
    """Metadata of many records."""
    Path(path).write_bytes(pickle.dumps([{"a": (1, 2)} for _n in range(MOST_METADATA // 8)], 4))


def repeated(text: str, size: int, path: str, _: Bait) -> None:
    """A file of one text again and again."""
    Path(path).write_text(text * (size // len(text)))


def list_attacks(path: str) -> tuple[Attack, ...]:
    """Lists of millions of lines that say little, and of one line."""
    texts = {"blank lines": ("\n", 6 * 10**7), "lines": (" a\n", 9 * 10**6), "zeros": ("\0", 10**8)}
    return tuple(attack(path, name, partial(repeated, *texts[name])) for name in texts)


def annotation_attacks(path: str) -> tuple[Attack, ...]:
    """A dense JSON list in the place of annotations: one object, or many."""
    texts = {"one object": ('{"":0},', 6 * 10**7), "many": ('{"id":0},', 6 * 10**7)}
    return tuple(attack(path, name, partial(dense_list, *texts[name])) for name in texts)


def dense_list(text: str, size: int, path: str, _: Bait) -> None:
    """A JSON list of one object with a list, or of small objects."""
    many = (text * (size // len(text)))[:-1]
    Path(path).write_text(f"[{many}]" if "id" in text else f'[{{"id":0,"a":[{many}]}}]')


def json_attacks(path: str, units: Sequence[str] = UNITS[:2]) -> tuple[Attack, ...]:
    """Dense documents in the place of a JSON file."""
    return tuple(
        Attack(f"{path}: dense {unit}", partial(_named, path, partial(dense_json, path, unit)))
        for unit in units
    )


def _named(path: str, act: Callable[[Bait], None], bait: Bait) -> str:
    act(bait)
    return path


def hashed(step: Path, act: Callable[[str, Bait], None], path: str, bait: Bait) -> None:
    """Do so to a file of a checkpoint, and make its hashes fit."""
    act(path, bait)
    about = json.loads((step / "run.json").read_text())
    about["sha256"][Path(path).name] = sha256(Path(path))
    (step / "run.json").write_text(json.dumps(about))


def checkpoint_attacks(step: str) -> tuple[Attack, ...]:
    """Large files in a checkpoint."""
    path = f"{step}/.metadata"
    acts = {"values": many_plain_values, "records": many_records}
    return (
        *json_attacks(f"{step}/run.json"),
        *(attack(path, name, partial(hashed, Path(step), act)) for name, act in acts.items()),
    )


def run_attacks(*names: str) -> tuple[Attack, ...]:
    """Large files beside the checkpoints of a run."""
    found = [each for name in names for each in json_attacks(f"run/{name}", UNITS[:1])]
    return (*found, attack("run/metrics.jsonl", "dense lines", dense_lines))


def yaml_attacks() -> tuple[Attack, ...]:
    """YAML that stands for more than it is."""
    path = "run/config.yaml"
    return (
        *(attack(path, f"aliases in {key}", partial(laughs_at, key)) for key in ("data", "optim")),
        attack(path, "deep", deep_yaml),
        attack("run/.hydra/hydra.yaml", "aliases", partial(laughs_at, "hydra")),
    )


def laughs_at(key: str, path: str, bait: Bait) -> None:
    """Aliases below a key."""
    laughs(path, key, bait)


def attack(path: str, name: str, act: Callable[[str, Bait], None]) -> Attack:
    """An attack that replaces a file, whose name a refusal tells."""
    return Attack(f"{path}: {name}", partial(_named, path, partial(act, path)))
