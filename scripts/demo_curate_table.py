#!/usr/bin/env python
"""Compare what python -m videomae.curate found in the corpus of scripts/make_raw_corpus.py with the
truth, stage by stage: precision, recall and the numbers behind them.

python scripts/demo_curate_table.py outputs/demo_curate --out outputs/demo_curate/corpus

Prints the table, and writes it to precision_recall.md in the folder --out.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from make_raw_corpus import DISSOLVE, TRUTH

from videomae.curate.edited_copies import EDITS
from videomae.run.shares import wilson

NEAR = 2
"""Frames that a cut may be off."""
REPORT = "precision_recall.md"


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    stage: str
    what: str
    right: int
    found: int | None
    """Number of what was found, right or wrong; None: the line has no precision."""
    wanted: int | None
    """Number of what there is to find; None: the line has no recall."""
    note: str = ""

    def cells(self) -> list[str]:
        return [
            *(self.stage, self.what, share(self.right, self.found)),
            *(share(self.right, self.wanted), self.note),
        ]


def share(right: int, of: int | None) -> str:
    """Return a share with its numbers and Wilson's interval of 95 %."""
    if not of:
        return "-"
    low, high = wilson(right, of)
    return f"{right / of:.3f} ({right} of {of}; {low / 100:.2f} to {high / 100:.2f})"


@dataclass(frozen=True)
class Clip:
    """A clip of the table, the shot that it shows most of, and the truth about its video."""

    row: dict[str, Any]
    truth: dict[str, Any]
    shot: dict[str, Any]

    @property
    def longest(self) -> bool:
        """Whether its shot is the longest of its video."""
        return self.shot == longest(self.truth)


def longest(truth: dict[str, Any]) -> dict[str, Any]:
    """Return the longest shot of a video."""
    found: dict[str, Any] = max(truth["shots"], key=lambda shot: shot["end"] - shot["start"])
    return found


class Corpus:
    """The truth, and what curate says."""

    def __init__(self, truth: dict[str, Any], out: Path) -> None:
        self.videos = {each["path"]: each for each in truth["videos"]}
        self.tests = {each["shots"][0]["name"]: each["path"] for each in truth["tests"]}
        self.sources = pq.read_table(out / "sources.parquet").to_pylist()
        self.rows = pq.read_table(out / "clips.parquet").to_pylist()
        used = yaml.safe_load((out / "rules_used.yaml").read_text())
        self.rules = {each["name"]: each["threshold"] for each in used["rules"]}
        self.clips = [self.clip(row) for row in self.rows if row["start_frame"] is not None]
        self.by_path: dict[str, list[Clip]] = defaultdict(list)
        for clip in self.clips:
            self.by_path[clip.row["source_path"]].append(clip)
        self.first = {row["source_path"]: row["copy_of"] for row in self.sources}

    def clip(self, row: dict[str, Any]) -> Clip:
        truth = self.videos[row["source_path"]]

        def overlap(shot: dict[str, Any]) -> int:
            return min(row["end_frame"], shot["end"]) - max(row["start_frame"], shot["start"])

        return Clip(row, truth, max(truth["shots"], key=overlap))

    def clips_of(self, path: str) -> list[Clip]:
        """Return the clips of a file, or of the one with the same content that counts."""
        return self.by_path[self.first.get(path) or path]

    def shown(self, truth: dict[str, Any]) -> set[str]:
        """Return the test videos that a video shows."""
        return {self.tests[each["name"]] for each in truth["shots"] if each["name"] in self.tests}

    def is_fine(self, truth: dict[str, Any]) -> bool:
        """Return whether the longest scene of a video is to be kept, copies aside."""
        return (
            not truth["error"]
            and truth["persons"]
            and longest(truth)["name"] not in self.tests
            and truth["seconds"] >= self.rules["duration_min_s"]
            and truth["short_side"] >= self.rules["short_side_min"]
            and not any(self.has(truth, name) for name in EFFECTS)
        )

    def has(self, truth: dict[str, Any], effect: str) -> bool:
        """Return whether a video is to be dropped for an effect."""
        _, rule, below = EFFECTS[effect]
        if effect not in truth or rule not in self.rules:
            return False
        value: float = truth[effect]
        return value < self.rules[rule] if below else value > self.rules[rule]


EFFECTS = {
    "frozen": ("frozen_fraction", "frozen_max", False),
    "luma": ("luma_mean", "luma_min", True),
    "bars": ("bars_fraction", "bars_max", False),
    "text": ("text_fraction", "text_max", False),
}
"""By the name in the truth: the column, its rule, and whether the rule drops what is below."""
NAMES = {"frozen": "frozen", "luma": "dark", "bars": "bars", "text": "text"}


def sources(corpus: Corpus) -> Iterator[Row]:
    """Files of the same bytes, broken files and metadata."""
    copies = {path for path, each in corpus.videos.items() if each["kind"] == "copy"}
    found = {row["source_path"] for row in corpus.sources if row["copy_of"]}
    found |= {corpus.first[path] for path in found}
    real = copies | {corpus.videos[path]["copy_of"] for path in copies}
    yield Row("sources", "files of the same bytes", len(found & real), len(found), len(real))
    right = 0
    for row in corpus.sources:
        said = corpus.videos[row["source_path"]]["info"]
        given = row["hashtags_given"], row["views"], sorted(row["metadata_problems"])
        right += given == (said["hashtags"], said["views"], said["problems"])
    note = "hashtags, views and what is malformed"
    yield Row("sources", "metadata as written", right, None, len(corpus.sources), note)


def cuts(corpus: Corpus) -> Iterator[Row]:
    """Cuts, at most two frames off; dissolves apart."""
    right = found = wanted = soft = dissolves = 0
    for path, clips in corpus.by_path.items():
        truth = corpus.videos[path]
        if truth["damage"]:
            continue
        at = [clip.row["start_frame"] for clip in clips if clip.row["start_frame"]]
        inside = {cut for cut in at if any(abs(cut - d) <= DISSOLVE for d in truth["dissolves"])}
        soft += sum(any(abs(c - d) <= DISSOLVE for c in at) for d in truth["dissolves"])
        dissolves += len(truth["dissolves"])
        right += sum(any(abs(cut - each) <= NEAR for each in at) for cut in truth["cuts"])
        found, wanted = found + len(set(at) - inside), wanted + len(truth["cuts"])
    yield Row("measure", "cuts", right, found, wanted, f"at most {NEAR} frames off")
    if dissolves:
        methods = {row["cut_method"] for row in corpus.rows}
        note = "" if "transnetv2" in methods else "not looked for"
        yield Row("measure", "dissolves", soft, None, dissolves, note)


def broken(corpus: Corpus) -> Iterator[Row]:
    """Broken files that are named."""
    wrong = {path for path, each in corpus.videos.items() if each["error"]}
    named = {row["source_path"] for row in corpus.rows if row["error"]}
    missed = ", ".join(sorted(corpus.videos[path]["damage"] for path in wrong - named))
    note = f"not named: {missed}" if missed else ""
    yield Row("measure", "broken files named", len(named & wrong), len(named), len(wrong), note)


def effects(corpus: Corpus) -> Iterator[Row]:
    """Frozen, dark, letter-boxed and text-covered clips."""
    for effect, (column, rule, below) in EFFECTS.items():
        clips = [each for each in corpus.clips if each.row[column] is not None]
        if rule not in corpus.rules or not clips:
            continue
        limit = corpus.rules[rule]
        said = [clip.row[column] < limit if below else clip.row[column] > limit for clip in clips]
        real = [corpus.has(clip.truth, effect) for clip in clips]
        off = [abs(c.row[column] - c.truth[effect]) for c in clips if effect in c.truth]
        note = f"{column} off by {sum(off) / len(off):.3f} on average" if off else ""
        right = sum(a and b for a, b in zip(said, real, strict=True))
        stage = "text" if effect == "text" else "measure"
        yield Row(stage, NAMES[effect], right, sum(said), sum(real), note)


def duplicates(corpus: Corpus) -> Iterator[Row]:
    """Edited copies by edit; pairs in one group that are copies; pairs that are joined wrongly."""
    groups: dict[str, list[Clip]] = defaultdict(list)
    for clip in corpus.clips:
        if clip.row["duplicate_group"]:
            groups[clip.row["duplicate_group"]].append(clip)

    def joined(path: str, other: str) -> bool:
        names = [
            {clip.row["duplicate_group"] for clip in corpus.clips_of(each)} - {None}
            for each in (path, other)
        ]
        return bool(names[0] & names[1])

    total = [0, 0]
    for edit in (*EDITS, ""):
        kind = "edited" if edit else "again"
        copies = [v for v in corpus.videos.values() if v["kind"] == kind and v["change"] == edit]
        hits = sum(joined(each["path"], each["copy_of"]) for each in copies)
        if copies:
            total = [total[0] + hits, total[1] + len(copies)]
            yield Row("duplicates", edit or "a scene of another video", hits, None, len(copies))
    yield Row("duplicates", "all of these", total[0], None, total[1])
    kinds = ("original", "edited")
    stand = [each for each in corpus.clips if each.row["keep"] and each.truth["kind"] in kinds]
    first = sum(clip.truth["kind"] == "original" for clip in stand)
    note = "the others are edited copies that are larger"
    yield Row("duplicates", "originals, of the copies that are kept", first, len(stand), None, note)
    pairs = [pair for each in groups.values() for pair in combinations(each, 2)]
    right = sum(a.shot["name"] == b.shot["name"] for a, b in pairs)
    yield Row("duplicates", "pairs of clips in one group", right, len(pairs), None)
    yield from false_joins(corpus, pairs)


def relation(one: Clip, other: Clip) -> str:
    """Return what two clips that are no copies are to each other."""
    take = one.shot["take"]
    if not take or take != other.shot["take"]:
        return "other footage"
    still = one.truth["kind"] == "camera"
    return "a static camera at another time" if still else "another part of one take"


def false_joins(corpus: Corpus, pairs: list[tuple[Clip, Clip]]) -> Iterator[Row]:
    """Pairs that are no copies, by what they are; the share that was joined is in the note."""
    of: dict[str, int] = defaultdict(int)
    wrong: dict[str, int] = defaultdict(int)
    compared = [clip for clip in corpus.clips if clip.row["duplicate_group"]]
    for one, other in combinations(compared, 2):
        of[relation(one, other)] += one.shot["name"] != other.shot["name"]
    for one, other in pairs:
        wrong[relation(one, other)] += one.shot["name"] != other.shot["name"]
    for kind in sorted(of):
        if of[kind]:
            note = f"{wrong[kind]} of {of[kind]} pairs joined"
            yield Row("duplicates", kind, 0, None, None, note)


def contamination(corpus: Corpus) -> Iterator[Row]:
    """Test videos that are shown, by edit and in all."""
    said, real, by_edit = set(), set(), defaultdict(list)
    for path, clips in corpus.by_path.items():
        truth = corpus.videos[path]
        shown = {(path, test) for test in corpus.shown(truth)}
        found = {(path, test) for clip in clips for test in clip.row["contaminates"] or ()}
        said, real = said | found, real | shown
        if truth["kind"] == "shown":
            by_edit[truth["change"]].append(bool(shown & found))
    for edit, hits in by_edit.items():
        yield Row("contamination", edit, sum(hits), None, len(hits))
    yield Row("contamination", "videos that show a test", len(said & real), len(said), len(real))


def persons(corpus: Corpus) -> Iterator[Row]:
    """Clips without a person, of those that were looked at."""
    clips = [each for each in corpus.clips if each.row["person_frames_fraction"] is not None]
    if clips:
        said = [clip.row["person_frames_fraction"] == 0 for clip in clips]
        real = [not clip.truth["persons"] for clip in clips]
        right = sum(a and b for a, b in zip(said, real, strict=True))
        note = f"{len(clips)} clips looked at"
        yield Row("persons", "nobody in the clip", right, sum(said), sum(real), note)


def selection(corpus: Corpus) -> Iterator[Row]:
    """What is kept: one clip of each shot that is the longest of a video that is fine."""
    fine = [each for each in corpus.videos.values() if corpus.is_fine(each)]
    wanted = {longest(each)["name"] for each in fine}
    kept = [clip for clip in corpus.clips if clip.row["keep"]]
    names = {
        clip.shot["name"] for clip in kept if clip.longest and corpus.is_fine(clip.truth)
    } & wanted
    yield Row("select", "kept clips", len(names), len(kept), len(wanted), lost(corpus, wanted))


def lost(corpus: Corpus, wanted: set[str]) -> str:
    """Return why shots that are fine have no kept clip, and what else is kept."""
    kept = {clip.shot["name"] for clip in corpus.clips if clip.row["keep"]}
    said: dict[str, int] = defaultdict(int)
    for clip in corpus.clips:
        name = clip.shot["name"]
        if name in wanted - kept and clip.longest and corpus.is_fine(clip.truth):
            said[" + ".join(clip.row["reasons"]) or "undecided"] += 1
    return "; ".join(f"{count} dropped by {reason}" for reason, count in sorted(said.items()))


def table(rows: Iterable[Row]) -> list[list[str]]:
    """Return the cells of all lines, the titles first."""
    titles = ["stage", "what", "precision", "recall", "note"]
    return [titles, *(row.cells() for row in rows)]


def main() -> None:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("directory", type=Path, help="folder with truth.json")
    parser.add_argument("--out", type=Path, required=True, help="folder that curate wrote")
    args = parser.parse_args()
    truth = json.loads((args.directory / TRUTH).read_text(encoding="utf-8"))
    corpus = Corpus(truth, args.out)
    parts = (sources, cuts, broken, effects, duplicates, contamination, persons, selection)
    cells = table(row for part in parts for row in part(corpus))
    widths = [max(len(row[place]) for row in cells) for place in range(len(cells[0]))]
    for row in cells:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    lines = [f"| {' | '.join(row)} |" for row in cells]
    lines.insert(1, "|---" * len(cells[0]) + "|")
    (args.out / REPORT).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"also in {args.out / REPORT}")


if __name__ == "__main__":
    main()
