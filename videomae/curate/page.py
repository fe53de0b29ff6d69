"""Stage page: what was measured and decided, as files to look at without a network or a server.

out/page/index.html leads to all others. The files are written to a folder beside it, which then
takes its name, so that no page is half written. Equal tables and settings make equal pages.
"""

import logging
import os
import shutil
from collections.abc import Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videomae.config import ConfigError, CurateConfig
from videomae.curate import overview
from videomae.curate.clip_pages import (
    Cards,
    ClipPage,
    Section,
    clip_pages,
    groups_of,
    numbered,
    rows_of_pages,
)
from videomae.curate.corpus import Corpus, is_unmeasured
from videomae.curate.judging import (
    ID,
    LABELS,
    Agreement,
    Judged,
    Label,
    agreements,
    draw,
    judged_clips,
    labels_text,
    read_labels,
    rows_of,
)
from videomae.lists.text_files import NotTextError, text_lines
from videomae.pictures import html
from videomae.run.console import Facts
from videomae.run.files import naming

logger = logging.getLogger(__name__)

PAGE = "page"
INDEX = "index.html"
NEW, OLD = ".page.new", ".page.old"
"""Folders beside the page: the one being written, and the one whose place it takes."""


def write_page(config: CurateConfig, out: Path) -> None:
    """Write out/page.

    Raises:
        ConfigError: stage select has not judged the table, or a file of judged clips is wrong.
    """
    _put_back(out)
    corpus = Corpus.read(out)
    own = _own_labels(out, corpus)
    judged = _judged(config, out, corpus, own)
    labels = own or _drawn_labels(config, corpus)
    pages = clip_pages(corpus, config.page)
    pages["judge"] = [_to_judge(labels, corpus)]
    pages["judged"] = _disagreements(corpus, judged, config.page.per_page)
    planned = [page for some in pages.values() for page in some]
    shown = rows_of_pages(planned)
    cards = Cards(corpus, out, shown)
    found = agreements(judged, corpus) if judged is not None else []
    templates = html.environment("videomae.curate")
    with _in_place_of(out / PAGE) as folder:
        _write(folder / LABELS, labels.text)
        for page in planned:
            text = templates.get_template("clips.html").render(
                name=corpus.name, page=page, sections=cards.sections(page), labels=LABELS
            )
            _write(folder / page.file, text)
        text = templates.get_template("spread.html").render(
            name=corpus.name, spreads=_spreads(corpus)
        )
        _write(folder / "balance.html", text)
        facts = _index(corpus, pages, cards, judged, found)
        blurred = overview.faces_blurred(corpus, out, shown)
        text = templates.get_template(INDEX).render(facts, blurred=blurred)
        _write(folder / INDEX, text)
    _print_summary(out, cards, found)


def _index(
    corpus: Corpus,
    pages: dict[str, list[ClipPage]],
    cards: Cards,
    judged: Judged | None,
    found: list[Agreement],
) -> dict[str, Any]:
    """Return what the template of the first file shows."""
    groups = groups_of(corpus)
    return {
        "name": corpus.name,
        "rules_hash": corpus.rules_hash,
        "changed": corpus.changed,
        "totals": overview.totals(corpus),
        "steps": overview.funnel(corpus),
        "charts": overview.charts(corpus),
        "reasons": [
            (name, len(rows), is_unmeasured(name)) for name, rows in corpus.by_reason.items()
        ],
        "pages": pages,
        "compared": corpus.table["duplicate_group"].null_count < corpus.num_clips,
        "groups": len(groups),
        "copies": sum(map(len, groups)),
        "searched": corpus.table["contaminates"].null_count < corpus.num_clips,
        "contaminated": len(corpus.contaminated),
        "spreads": _spreads(corpus),
        "licences": overview.counted(corpus, "licence", "unknown"),
        "platforms": overview.counted(corpus, "platform", "unknown"),
        "errors": overview.errors(corpus),
        "most": overview.MOST_VALUES,
        "people": overview.people(corpus),
        "without_picture": len(cards.clips) - len(cards.thumbnails),
        "shown": len(cards.clips),
        "judged": judged,
        "agreements": found,
        "labels": LABELS,
    }


def _spreads(corpus: Corpus) -> list[overview.Spread]:
    spreads = (overview.spread(corpus, column) for column in ("hashtags", "cluster"))
    return [each for each in spreads if each is not None]


@dataclass(frozen=True)
class Labels:
    """The clips of labels.csv."""

    lines: list[Label]
    text: str
    """Text of the file."""


def _own_labels(out: Path, corpus: Corpus) -> Labels | None:
    """Return labels.csv, without the clips that are gone, where somebody has filled it in.

    Raises:
        ConfigError: it is damaged.
    """
    file = out / PAGE / LABELS
    if not file.exists():
        return None
    lines = read_labels(file)
    if all(line.keep is None for line in lines):
        return None
    there = rows_of(lines, corpus) >= 0
    gone = {line.clip_id for line, has in zip(lines, there, strict=True) if not has}
    left = [line for line, has in zip(lines, there, strict=True) if has]
    return Labels(left, _without(file, gone))


def _drawn_labels(config: CurateConfig, corpus: Corpus) -> Labels:
    """Return clips that are drawn to be judged."""
    rows, weights = draw(corpus, config.page.to_judge, config.seed)
    ids = corpus.take([ID], rows)[ID].to_pylist()
    lines = [
        Label(number, clip, None, weight)
        for number, (clip, weight) in enumerate(zip(ids, weights.tolist(), strict=True), start=2)
    ]
    return Labels(lines, labels_text(lines))


def _without(file: Path, clips: Set[str]) -> str:
    """Return the text of labels.csv without the lines that name some clips."""
    lines = [line for line in text_lines(file) if not any(clip in line for clip in clips)]
    return "".join(f"{line}\n" for line in lines)


def _judged(config: CurateConfig, out: Path, corpus: Corpus, own: Labels | None) -> Judged | None:
    """Return the clips that config.judged, or labels.csv, says are judged; None without either.

    Raises:
        ConfigError: the file is wrong, or judges no clip.
    """
    if config.judged is not None:
        file = Path(config.judged)
        judged = judged_clips(read_labels(file), corpus, file)
    elif own is not None:
        file = out / PAGE / LABELS
        judged = judged_clips(own.lines, corpus, file)
    else:
        return None
    if not len(judged.rows):
        raise ConfigError(
            f"judged={file}: no clip that the rules decide about is judged: fill in its column "
            "keep, with keep or drop"
        )
    return judged


def _to_judge(labels: Labels, corpus: Corpus) -> ClipPage:
    """Return the file that asks to judge clips."""
    rows = rows_of(labels.lines, corpus).tolist()
    by_row = dict(zip(rows, labels.lines, strict=True))
    return ClipPage("judge.html", "Clips to judge", [Section("", rows)], to_judge=by_row)


def _disagreements(corpus: Corpus, judged: Judged | None, most: int) -> list[ClipPage]:
    """Return the file of the judged clips about which the rules say otherwise."""
    if judged is None:
        return []
    kept = corpus.kept[judged.rows]
    sections = []
    for title, flags in (
        ("You keep them, the rules do not", judged.wanted & ~kept),
        ("The rules keep them, you do not", ~judged.wanted & kept),
    ):
        rows = judged.rows[flags]
        note = f"{numbered(len(rows), 'clip')}." + (
            f" {most} are shown." if len(rows) > most else ""
        )
        sections.append(Section(title, rows[:most].tolist(), note))
    return [ClipPage("judged.html", "Where you and the rules disagree", sections)]


def has_page(out: Path) -> bool:
    """Return whether there is a page."""
    _put_back(out)
    return (out / PAGE).is_dir()


def forget_page(out: Path, clips: Set[str]) -> None:
    """Remove the page, which may show forgotten clips.

    labels.csv stays without the lines of these clips.
    """
    folder = out / PAGE
    if not has_page(out):
        return
    for file in folder.iterdir():
        if file.name != LABELS:
            file.unlink()
    if (folder / LABELS).exists() and clips:
        try:
            _write(folder / f".{LABELS}", _without(folder / LABELS, clips))
            (folder / f".{LABELS}").replace(folder / LABELS)
        except NotTextError as error:
            logger.warning(f"{folder / LABELS} is removed: {error}")
            (folder / LABELS).unlink()


def _put_back(out: Path) -> None:
    """Clear up what a killed process left of a page."""
    if (out / OLD).exists() and not (out / PAGE).exists():
        (out / OLD).rename(out / PAGE)
    for name in (NEW, OLD):
        shutil.rmtree(out / name, ignore_errors=True)


@contextmanager
def _in_place_of(folder: Path) -> Iterator[Path]:
    """Yield an empty folder, which takes the place of another one when the block ends."""
    new, old = folder.parent / NEW, folder.parent / OLD
    new.mkdir()
    try:
        yield new
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)


def _write(file: Path, text: str) -> None:
    """Write a file of the page, and wait until it is on the disk."""
    with naming(file), file.open("w", encoding="utf-8", newline="\n") as target:
        target.write(text)
        target.flush()
        os.fsync(target.fileno())


def _print_summary(out: Path, cards: Cards, found: list[Agreement]) -> None:
    files = [file.stat().st_size for file in (out / PAGE).iterdir()]
    rows = [
        ("files", f"{len(files):,}", f"{sum(files) / 1e6:,.1f} MB"),
        ("clips that are shown", f"{len(cards.clips):,}", ""),
        ("of them without a thumbnail", f"{len(cards.clips) - len(cards.thumbnails):,}", ""),
    ]
    for each in found[:1]:  # the rules are on the page
        for name, share in (("precision", each.precision), ("recall", each.recall)):
            if share is not None:
                span = (
                    f"{share.least:.0f} to {share.most:.0f} %; {share.right} of {share.of} judged"
                )
                rows.append((f"{name} of {each.name}", f"{share.percent:.0f} %", span))
    logger.info(Facts(f"{out / PAGE / INDEX}", rows))
