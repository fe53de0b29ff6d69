#!/usr/bin/env python
"""Does this tree do what another commit does? The net under changes of structure.

    python scripts/same_numbers.py                    # beside the commit named below
    python scripts/same_numbers.py COMMIT --parts runs
    python scripts/same_numbers.py COMMIT --keep DIR  # keep both reports

Compared are the resolved config of every exp (configs), metrics without times, weights and results
of runs in miniature, of both stages, in one process and in two, killed and gone on with, and of
every other command (runs), and the exit status and words of wrong commands (errors). What differs
and is not listed in DIFFERENCES, with its reason, is printed; the status is then 1.
"""

import argparse
import difflib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.net import runs, world  # noqa: E402
from tests.net.bad_commands import BAD  # noqa: E402

REFERENCE = "4316cb7c6682"
"""The commit whose numbers are to stay."""


class Difference(NamedTuple):
    """What may differ, and why."""

    part: str
    """Part of the report: configs, errors or runs."""
    before: str
    """Regular expression of what the reference says, as JSON."""
    reason: str


DIFFERENCES: tuple[Difference, ...] = ()
NEW_SETTINGS: dict[str, tuple[str, ...]] = {}
"""Settings that the reference does not have, by section; of the others each must have its value."""


def configs(tree: Path, work: Path) -> dict[str, Any]:
    """The resolved config of every exp, by its name."""
    wanted = {}
    for path in sorted((tree / "configs" / "exp").glob("*.yaml")):
        header = re.search(r"python -m videomae\.(\w+) \+exp=", path.read_text())
        assert header, path
        wanted[path.stem] = [header[1], f"+exp={path.stem}", "--cfg", "job", "--resolve"]
    said = driven(tree, work, list(wanted.values()))
    return {
        exp: _known_settings(yaml.safe_load(out)) if status == 0 else [status, out, err]
        for exp, (status, out, err) in zip(wanted, said, strict=True)
    }


def _known_settings(config: dict[str, Any]) -> dict[str, Any]:
    """A config without the settings that are new."""
    for section, names in NEW_SETTINGS.items():
        for name in names:
            config.get(section, {}).pop(name, None)
    return config


def errors(tree: Path, work: Path) -> dict[str, Any]:
    """Exit status and words of every wrong command."""
    said = driven(tree, work, [list(words) for words in BAD])
    return {
        " ".join(words): {
            "status": status,
            "out": _plain(out, tree, work),
            "err": _plain(err, tree, work),
        }
        for words, (status, out, err) in zip(BAD, said, strict=True)
    }


def driven(tree: Path, work: Path, commands: list[list[str]]) -> list[tuple[int, str, str]]:
    """What commands of that tree end with and say."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "net" / "driver.py")],
        input="".join(json.dumps(words) + "\n" for words in commands),
        cwd=work,
        env=runs.environment(tree),
        capture_output=True,
        text=True,
        check=False,
    )
    answers = [tuple(json.loads(line)) for line in done.stdout.splitlines()]
    if len(answers) != len(commands):
        raise RuntimeError(done.stderr[-3000:])
    return answers


def _plain(said: str, tree: Path, work: Path) -> str:
    """Without places, times and the ends of lines that depend on their length.

    Of the log's lines the time of day goes whole: those of earlier commits had none.
    """
    said = re.sub(r"^\d\d:\d\d:\d\d ", "", said, flags=re.MULTILINE)
    for place, name in ((work, "WORK"), (tree, "TREE")):
        said = said.replace(str(place), name)
    return " ".join(re.sub(r"\d\d:\d\d:\d\d", "TIME", said).split())


PARTS: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "configs": configs,
    "errors": errors,
    "runs": runs.do_all,
}


def report(tree: Path, data: Path, work: Path, parts: list[str]) -> dict[str, Any]:
    """All of it, by part and key."""
    found = {}
    for part in parts:
        shutil.copytree(data, work)
        print(f"{part} of {tree}", flush=True)
        found |= {f"{part}: {key}": each for key, each in PARTS[part](tree, work).items()}
        shutil.rmtree(work)
    return found


def differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Each as text; what is listed with a reason is left out."""
    for key in sorted(before.keys() | now.keys()):
        if key.startswith("configs: ") and key not in before:  # a recipe that is new
            continue
        old, new = (json.dumps(each.get(key), indent=1, sort_keys=True) for each in (before, now))
        if old == new or any(
            key.startswith(f"{each.part}: ") and re.search(each.before, old) for each in DIFFERENCES
        ):
            continue
        lines = difflib.unified_diff(old.splitlines(), new.splitlines(), "before", "now", n=1)
        yield f"{key}\n" + "\n".join(f"    {line}" for line in list(lines)[2:40])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commit", nargs="?", default=REFERENCE, help=f"default: {REFERENCE}")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--keep", type=Path, help="write before.json and now.json there")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        before, now, data, work = (Path(folder) / x for x in ("before", "now", "data", "work"))
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--detach", "--quiet", str(before), args.commit], check=True)
        try:
            for name in ("videomae", "configs"):  # which may be edited meanwhile
                shutil.copytree(ROOT / name, now / name)
            world.make(data)
            reports = [report(tree, data, work, args.parts) for tree in (before, now)]
        finally:
            subprocess.run([*git, "remove", "--force", str(before)], check=True)
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
        for name, each in zip(("before", "now"), reports, strict=True):
            text = json.dumps(each, indent=1, sort_keys=True) + "\n"
            (args.keep / f"{name}.json").write_text(text)
    found = list(differences(*reports))
    print(*found, sep="\n")
    same = len(reports[0]) - len(found)
    print(
        f"{same} of {len(reports[0])} are the same, {len(found)} differ; {len(DIFFERENCES)} listed"
    )
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
