"""python -m videomae.report: tables, the page, what it says of runs that lack something."""

import json
import os
import re
import shutil
from html import escape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.conftest import run_command, soaked, write_list
from tests.test_commands import call
from tests.train import CLASSES, FINETUNE, PRETRAIN, labelled_list, video_list
from videomae.config import ConfigError
from videomae.evaluation.metrics import interval_of_mean, mean_of_splits
from videomae.report.about import About, about_page, origin_of
from videomae.report.find import find_runs
from videomae.report.gather import Point, RunRecord, Warned, read_run
from videomae.report.page import page
from videomae.report.predicted import ClassProbability, Prediction
from videomae.report.results import Result
from videomae.report.samples import choose
from videomae.report.summary import COLUMNS, TOP1, fitted, rows
from videomae.run.files import sha256

NAMES = ["<b>jump</b>", 'run & "hide"', "swim|dive"]
BAD = "<img src=x onerror=alert(1)>.mp4"
TEST = [*(f"{number}.mp4 {number % CLASSES}" for number in range(10)), f"{BAD} 1"]


@pytest.fixture(scope="module")
def made(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs pretrain, first and second (two seeds), evaluation; and their lists.

    Made by the commands.
    """
    here = tmp_path_factory.mktemp("made")
    knn = labelled_list(here / "knn.txt")
    probe = ["probe.every_epochs=1", "probe.classes=3", "probe.k=3", f"probe.root={videos}"]
    probe += [f"probe.{name}_list={knn}" for name in ("train", "test")]
    data = [f"data.root={videos}", f"data.train_list={video_list(here / 'pretrain.txt')}"]
    given = [*PRETRAIN, *probe, *data, "run.log_every=1", "name=pretraining"]
    assert call("pretrain", *given, f"output_dir={here / 'pretrain'}") == 0
    common = [
        *FINETUNE,
        "data=custom",
        "name='<i>tiny</i> | run'",
        f"data.root={videos}",
        f"data.test_list={write_list(here / 'test.txt', TEST)}",
        f"data.class_names={write_list(here / 'names.txt', NAMES)}",
    ]
    train = [
        f"data.train_list={labelled_list(here / 'train.txt')}",
        f"data.val_list={labelled_list(here / 'val.txt')}",
        "eval_every=1",
        "test_weights=best",
        f"weights={here / 'pretrain'}",
    ]
    for seed, name in enumerate(("first", "second")):
        end = (f"seed={seed}", f"output_dir={here / name}")
        assert call("finetune", *common, *train, *end) == 0
    end = (f"weights={here / 'first'}", f"output_dir={here / 'evaluation'}", "data.crops=3")
    assert call("evaluate", *common, *end) == 0
    return here


@pytest.fixture
def runs(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `made` that a test may spoil; the working directory is below it."""
    shutil.copytree(made, tmp_path / "made")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for config in (tmp_path / "made").glob("*/config.yaml"):  # weights= of the copies
        config.write_text(config.read_text().replace(f"{made}/", f"{tmp_path / 'made'}/"))
    return tmp_path / "made"


def reported(capsys: pytest.CaptureFixture[str], *overrides: str, status: int = 0) -> Any:
    """The rows of the tables that are printed, the page's text, and what was said."""
    assert call("report", *overrides) == status
    said = capsys.readouterr()
    table = [re.split(r" (?<!\\)\| ", line[2:-2]) for line in said.out.splitlines() if line]
    return table, Path("outputs/report/report.html").read_text(), said.err


class Tags(HTMLParser):
    """The tags of a page and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words.append(" ".join(data.split()))


@pytest.mark.long
def test_the_numbers_of_the_table_are_those_of_the_results(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, text, _ = reported(capsys, f"runs={runs}/*/results.json")
    assert table[0] == [name for name in COLUMNS if name != "top-5 %"]  # of three classes
    shown = {name: place for place, name in enumerate(table[0])}
    written = "&lt;i>tiny&lt;/i> \\| run"
    found = {row[0].removeprefix(f"{written} (").removesuffix(")"): row for row in table[2:5]}
    config = yaml.safe_load((runs / "first" / "config.yaml").read_text())
    folder = Path(config["data"]["test_list"]).parent
    tops = []
    for name in ("first", "second", "evaluation"):
        results = json.loads((runs / name / "results.json").read_text())
        row = found[str(runs / name)]
        low, high = results["top1_interval"]
        top1, *remarks = row[TOP1].split("; ")
        shared = [f"10 of 11 videos are in data.{part}_list too" for part in ("train", "val")]
        known = [each for each in remarks if "the training list of" in each]
        # of what they were fine-tuned from; the evaluated weights were fine-tuned on them, too
        assert len(known) == (2 if name == "evaluation" else 1)
        others = [each for each in remarks if each not in known]
        assert others == shared * (name != "evaluation") + ["1 of 11 videos unreadable"]
        assert top1 == f"{results['top1']:.2f} ({low:.2f} to {high:.2f})"
        assert row[shown["mean of classes %"]] == f"{results['mean_class_accuracy']:.2f}"
        assert row[-2:] == ["11", "1"]
        views = f"{results['views']['segments']} x {results['views']['crops']}"
        assert row[shown["views"]] == views
        assert row[shown["data"]] == results.get(
            "data", folder.name
        )  # data=custom, and test.txt tells nothing
        chosen = results.get("weights")
        assert row[shown["weights"]] == (
            f"best, step {chosen['step']}" if chosen else str(runs / "first")
        )
        assert top1 in text
        tops.append(results["top1"])
    mean = table[5]
    assert mean[0] == f"{written}, mean of 2 ± standard deviation"
    assert mean[TOP1] == f"{np.mean(tops[:2]):.2f} ± {np.std(tops[:2], ddof=1):.2f}"
    assert table[-1][0] == f"pretraining ({runs / 'pretrain'})"  # which the runs started from


def test_the_page_needs_nothing_from_outside(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text, _ = reported(capsys, f"runs={runs}/*")
    found = Tags(text)
    anchors = {attributes["id"] for _, attributes in found.tags if "id" in attributes}
    pictures = 0
    for tag, attributes in found.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "base", "form")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            if value is not None:
                assert value.startswith("data:image/") or value[1:] in anchors, value[:50]
                pictures += value.startswith("data:image/")
    assert pictures > 10
    assert not re.search(r"url\(|@import|https?:", text)
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text


def test_names_are_text_and_not_html(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, text, _ = reported(capsys, f"runs={runs}/*")
    tags = Tags(text)
    words = " ".join(tags.words)
    for name in (*NAMES, BAD, "<i>tiny</i> | run"):
        assert name in words
    assert "<b>jump" not in text
    assert escape(BAD) in text
    assert not any(attributes.get("src") == "x" for _, attributes in tags.tags)


def test_each_run_has_its_curves_classes_videos_and_hashes(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, text, said = reported(capsys, f"runs={runs}/*", "samples=2")
    parts = text.split("<section")[1:]
    sections = {part.split("<code>")[1].split("</code>")[0]: part for part in parts}
    assert sections.keys() - {""} >= {str(runs / n) for n in ("pretrain", "first", "evaluation")}
    pretrain = sections[str(runs / "pretrain")]
    for title in ("Loss", "Learning rate", "k-NN top-1", "Reconstructions", "Attention of the"):
        assert f"<h3>{title}" in pretrain
    first = sections[str(runs / "first")]
    titles = ("Loss", "Learning rate", "Validation accuracy", "Confusion", "Test videos")
    for title in (*titles, "Attention of the last block", "Features of 10 test videos in a plane"):
        assert f"<h3>{title}" in first
    lines = [json.loads(x) for x in (runs / "first" / "predictions.jsonl").read_text().splitlines()]
    right = [row["top"][0]["label"] == row["label"] for row in lines if row["readable"]]
    shown = [min(2, sum(right)), min(2, len(right) - sum(right))]
    assert [first.count(f'class="{kind}">{kind}') for kind in ("right", "wrong")] == shown
    assert first.count("data:image/jpeg") == 4 * sum(shown)  # of clips of four frames
    results = json.loads((runs / "first" / "results.json").read_text())
    for value in (*results["sha256"].values(), str(runs / "pretrain"), escape(BAD)):
        assert value in first
    evaluation = sections[str(runs / "evaluation")]
    assert "<h3>Loss" not in evaluation
    assert f"<code>{runs / 'first'}</code></a>, that from" in " ".join(evaluation.split())
    assert "Damaged" not in text
    assert "4 runs: outputs/report/report.html" in said


def spoil_last_line(run: Path) -> None:
    text = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(text[:-20])


def spoil_losses(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    for row in rows[:2]:
        row["loss"] = None
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


DAMAGES: list[tuple[Any, int, list[str]]] = [
    (lambda run: (run / "config.yaml").unlink(), 0, ["config.yaml is not there"]),
    (spoil_last_line, 1, ["metrics.jsonl: line ", "is cut off", "<h3>Loss"]),
    (spoil_losses, 0, ["logged numbers were not finite", "<h3>Loss"]),
    (
        lambda run: change(run / "predictions.jsonl", "swim|dive", "fly"),
        1,
        ["predictions.jsonl is not what an evaluation writes", "fly"],
    ),
    (lambda run: shutil.rmtree(run / "figures"), 0, ["Test videos"]),
    (lambda run: (run / "results.json").unlink(), 0, ["not evaluated", "<h3>Loss"]),
    (lambda run: (run / "results.json").write_text("{"), 1, ["results.json cannot be read"]),
    (lambda run: (run / "config.yaml").write_text("a: ["), 1, ["config.yaml cannot be read"]),
    (lambda run: (run / "bad_files.jsonl").write_text("{}\n{"), 1, ["bad_files.jsonl: line 2"]),
    (lambda run: (run / "weights.safetensors").unlink(), 0, ["not finished: step 6"]),
]
"""What is done to a run, the status of a report of it, and what the page says."""
MORE_DAMAGES: list[tuple[Any, int, list[str]]] = [
    (lambda run: (run / "metrics.jsonl").unlink(), 0, ["evaluation, "]),
    (lambda run: (run / "metrics.jsonl").write_text(""), 0, ["metrics.jsonl holds no step"]),
    (lambda run: (run / "predictions.jsonl").unlink(), 0, ["evaluate the weights again"]),
    (
        lambda run: (run / "predictions.jsonl").write_text(""),
        1,
        ["predictions.jsonl holds 0 videos, results.json 11", "<h3>Confusion"],
    ),
    (lambda run: (run / "results.json").write_text("[1]"), 1, ["results.json is not what"]),
    (
        lambda run: (run / "results.json").write_text('{"top1": 1, "top5": 2}'),
        1,
        ["results.json is not what an evaluation writes", "mean_class_accuracy"],
    ),
    (lambda run: (run / "config.yaml").write_text("data: 3"), 1, ["config.yaml: data cannot"]),
    (
        lambda run: change(run / "config.yaml", "decoder: auto", "decoder: eye"),
        1,
        ["config.yaml: data cannot be understood: no decoder 'eye'"],
    ),
    (lambda run: change(run / "config.yaml", "epochs: 3", "epochs: many"), 0, ["Test videos"]),
    (
        lambda run: (run / "metrics.jsonl").write_text('{"step": 1, "loss": NaN}\n'),
        0,
        ["1 of 1 logged numbers were not finite", "no finite number yet"],
    ),
]


@pytest.mark.parametrize(
    ("spoil", "status", "words"),
    [*DAMAGES, *(pytest.param(*each, marks=pytest.mark.soak) for each in MORE_DAMAGES)],
)
def test_what_is_missing_or_damaged_is_named_and_the_rest_is_shown(
    runs: Path,
    spoil: Any,
    status: int,
    words: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(runs / "first")
    given = (f"runs=[{runs}/first,{runs}/second]", "samples=1")
    table, text, said = reported(capsys, *given, status=status)
    plain = " ".join(Tags(text).words)
    for word in words:
        assert word in plain or word in text
    if status:
        assert words[0] in said
        assert str(runs / "first") in said
    second = json.loads((runs / "second" / "results.json").read_text())
    assert any(row[TOP1].startswith(f"{second['top1']:.2f}") for row in table[2:])


def test_without_the_videos_the_page_says_so(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = runs / "first" / "config.yaml"
    config.write_text(re.sub(r"root: .*", "root: /no/videos", config.read_text()))
    _, text, _ = reported(capsys, f"runs={runs}/first", "samples=1")
    assert "No frames: /no/videos/" in text
    assert "data:image/jpeg" not in text
    config.write_text(re.sub(r"test_list: .*", "test_list: /no/list.txt", config.read_text()))
    _, text, _ = reported(capsys, f"runs={runs}/first", "samples=1")
    assert "No frames: data.test_list=/no/list.txt cannot be read" in text


@pytest.mark.parametrize("name", ["reconstruction.png"])
def test_missing_pictures_are_named(
    runs: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = runs / "pretrain" / "figures" / name
    picture.unlink()
    _, text, _ = reported(capsys, f"runs={runs}/pretrain")
    assert f"{picture} is not there" in text
    picture.write_text("no picture")
    _, text, said = reported(capsys, f"runs={runs}/pretrain", status=1)
    assert f"{picture} is no PNG picture" in said


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ([], ["runs is not set", "give runs="]),
        (["runs=nothing*"], ["runs=nothing* matches nothing", "results.json"]),
        (["runs=empty"], ["runs=empty matches empty, which hold no run", "metrics.jsonl"]),
        (["runs=3"], ["runs=3 matches nothing"]),
        (["runs=[a,3]"], ["runs must be a glob"]),
        (["runs={runs}/*", "out=file"], ["out=file", "is a file"]),
        (["runs={runs}/*", "samples=-1"], ["samples must be at least 0"]),
    ],
)
def test_what_cannot_work_is_refused(
    runs: Path, overrides: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    Path("file").touch()
    assert call("report", *(override.format(runs=runs) for override in overrides)) == 2
    said = capsys.readouterr().err
    for word in words:
        assert word in said
    assert not Path("outputs").exists()


@pytest.mark.parametrize("what", ["folder", *soaked("text", "page", "pipe")])
def test_a_page_of_others_is_not_replaced(
    runs: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    page = Path("out/report.html")
    page.parent.mkdir()
    if what == "folder":
        page.mkdir()
    elif what == "pipe":
        os.mkfifo(page)
    else:
        page.write_text("mine" if what == "text" else "<!doctype html><title>mine</title>")
    before = page.read_text() if page.is_file() else None
    assert call("report", f"runs={runs}/first", "samples=0", "out=out") == 2
    assert f"{page} is there, and is no page of a report: choose another out" in (
        capsys.readouterr().err
    )
    assert (page.read_text() if page.is_file() else None) == before
    for _ in range(2):  # its own it replaces
        assert call("report", f"runs={runs}/first", "samples=0", "out=mine") == 0


SECRET = "root:x:0:0:the secret\nline 17 42\n"


@pytest.mark.parametrize("text", [SECRET, "a.mp4 the secret\n", "the secret 3 4\n"])
@pytest.mark.parametrize("hashed", [False, True])
def test_no_line_of_what_is_not_the_test_list_is_quoted(
    runs: Path, text: str, hashed: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor where whoever wrote the run knows the hash of a file that is no clip list."""
    private = Path("private.txt").absolute()
    private.write_text(text)
    config = runs / "first" / "config.yaml"
    config.write_text(re.sub(r"test_list: .*", f"test_list: {private}", config.read_text()))
    if hashed:
        results = json.loads((runs / "first" / "results.json").read_text())
        results["sha256"]["test_list"] = sha256(private)
        (runs / "first" / "results.json").write_text(json.dumps(results))
    _, page, said = reported(capsys, f"runs={runs}/first", "samples=1")
    why = "is no list of labelled clips" if hashed else "is not the list that was tested on"
    assert f"No frames: data.test_list={private} {why}" in page
    assert "the secret" not in page + said
    assert "data:image/jpeg" not in page


def test_a_run_of_others_names_no_variable_of_the_environment(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRIVATE", "the secret")
    config = runs / "first" / "config.yaml"
    given = "test_list: '${oc.env:PRIVATE}'"
    config.write_text(re.sub(r"test_list: .*", given, config.read_text()))
    _, page, said = reported(capsys, f"runs={runs}/first", "samples=1", status=1)
    assert "the secret" not in page + said
    assert "config.yaml: data cannot be understood: it holds ${...}" in said


def test_control_characters_of_names_are_escapes_on_the_page(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd, seen = (
        "\x1b]0;owned\x07\x9b31m\u202egnp.\x00",
        "\\x1b]0;owned\\x07\\x9b31m\\u202egnp.\\x00",
    )
    run = (runs / "first").rename(runs / "a\x1b[2Jb")
    for name in ("results.json", "predictions.jsonl"):
        text = (run / name).read_text()
        for old in ("swim|dive", "3.mp4"):
            assert old in text or name == "results.json"
            text = text.replace(old, json.dumps(odd + old)[1:-1])
        (run / name).write_text(text)
    config = run / "config.yaml"
    named = f"name: {json.dumps(odd)}"
    config.write_text(re.sub(r"(?m)^name: .*", lambda _: named, config.read_text()))
    bad = {"path": odd, "line": 1, "error": odd, "list": odd}
    (run / "bad_files.jsonl").write_text(json.dumps(bad) + "\n")
    environment = json.loads((run / "environment.json").read_text()) | {"device": odd}
    (run / "environment.json").write_text(json.dumps(environment))
    _, page, said = reported(capsys, f"runs={runs}/a*b", "samples=4")
    assert not [each for each in odd + "\x1b" if not each.isprintable() and each in page + said]
    for name in (f"{seen}swim|dive", f"{seen}3.mp4", "a\\x1b[2Jb", f"<h2>{seen}</h2>"):
        assert name in page
    assert page.count("data:image/") >= 4


def test_globs_are_joined_and_each_run_is_taken_once(runs: Path) -> None:
    one, two = runs / "first", runs / "second"
    assert find_runs(f"{one}, {two}/results.json,{one}") == [one, two]
    assert find_runs([f"{runs}/*ation", f"{runs}/*/results.json"])[0] == runs / "evaluation"
    assert len(find_runs(f"{runs}/**")) == 4
    odd = one.rename(runs / "odd, x=[1]")
    assert find_runs(str(odd)) == find_runs([str(odd)]) == [odd]


def test_a_run_stands_for_its_evaluation_and_for_splits_without_a_mean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever outputs/* holds: no run and no evaluation is left out."""
    monkeypatch.chdir(tmp_path)
    expected = ["a", "a/evaluation", "b/evaluation", "c/split1", "d", "d/evaluation/split1"]
    for place in (*expected, "d/split1", "d/split2", "[e]/split1", "f/deeper/g"):
        Path("outputs", place).mkdir(parents=True)
        Path("outputs", place, "results.json").touch()
    Path("outputs/c/split2/checkpoints").mkdir(parents=True)
    found = [str(path.relative_to("outputs")) for path in find_runs("outputs/*")]
    assert found == ["[e]/split1", *expected]
    assert find_runs("outputs/c") == [Path("outputs/c/split1")]
    assert find_runs("outputs/*/results.json") == [Path("outputs/a"), Path("outputs/d")]
    with pytest.raises(ConfigError, match=r"runs=outputs/f .*: outputs/f/deeper/g$"):
        find_runs("outputs/f")


@pytest.mark.long
def test_remarks_of_a_mean_of_splits_and_of_videos_that_were_trained_on() -> None:
    found = [{"top1": 50.0}, {"top1": 75.0}]
    single = {"top5": 100.0, "mean_class_accuracy": 60.0, "num_videos": 8, "num_unreadable": 0}
    single |= {"views": {"segments": 5, "crops": 3}, "per_class": {"a": 60.0}}
    mean = Result.of(single | {"top1": 62.5, "splits": dict(zip("12", found, strict=True))})
    leaked = Result.of(single | {"top1": 90.0, "shared_with": {"data.train_list": 3}})
    runs = [RunRecord(Path("all"), results=[mean]), RunRecord(Path("leaked"), results=[leaked])]
    assert [row.remarks for row in rows(runs)] == [
        ("mean of 2 splits: 50.00, 75.00",),
        ("3 of 8 videos are in data.train_list too",),
    ]


@pytest.mark.soak
def test_probes_are_rows_of_their_own(
    made: Path, videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also: the command as a user calls it."""
    lists = [f"data.{name}_list={made / 'train.txt'}" for name in ("train", "test")]
    given = [*FINETUNE, f"weights={made / 'pretrain'}", f"data.root={videos}", *lists]
    given = [each for each in given if not each.startswith(("optim.", "run.image", "run.check"))]
    kinds = ("data=custom", "probe.kinds=[knn,linear]", "probe.k=3")
    assert call("probe", *given, *kinds, f"output_dir={tmp_path / 'probe'}") == 0
    capsys.readouterr()
    done = run_command("report", "runs=probe", "out=there", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "probe" / "results.json").read_text())
    for kind, line in zip(("knn", "linear"), done.stdout.splitlines()[2:], strict=False):
        assert line.startswith(f"| probe, {kind} probe | {results[kind]['top1']:.2f} (")
        assert f" | {made.name} | " in line  # train.txt tells nothing: its folder
    text = (tmp_path / "there" / "report.html").read_text()
    assert "linear probe" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["probe", "there"]


# Without a run

ABOUT = About("2026-11-26 12:00 UTC", "python -m videomae.report", "abc")


def result(top1: float = 50, videos: int = 10, classes: int = 2) -> Result:
    per_class: dict[str, float | None] = {f"c{n}": 100.0 * n / classes for n in range(classes)}
    return Result(top1, 90, top1, videos, 0, "1 x 1", per_class, (top1 - 5, top1 + 5))


def test_an_evaluation_on_fewer_videos_says_so_and_equal_seeds_have_no_mean() -> None:
    runs = [
        RunRecord(
            Path(str(n)), {"name": "a", "seed": 0}, data="d", results=[result(50 + n, 10 + n)]
        )
        for n in range(2)
    ]
    table = rows(runs)
    assert [row.remarks for row in table] == [("on 10 videos, others on 11",), ()]
    for seed, run in enumerate(runs):
        run.config["seed"] = seed
    assert rows(runs)[-1].cells[TOP1] == "50.50 ± 0.71"


def test_of_many_classes_the_matrix_is_a_picture_and_the_ends_are_listed() -> None:
    many = 400
    predictions = []
    for line in range(1, 2 * many + 1):
        label = line % many
        guess = ClassProbability(7 if label == 3 else label, f"c{7 if label == 3 else label}", 0.9)
        predictions.append(Prediction(line, f"{line}.mp4", label, f"c{label}", True, [guess]))
    own = [result(classes=many)]
    run = RunRecord(Path("x"), {"name": "a"}, results=own, predictions=predictions)
    text = page([run], rows([run]), [], {}, {}, ABOUT)
    assert "Confusion of 400 classes" in text
    assert len(text) < 200_000
    words = [word for word in Tags(text).words if word]
    assert words[words.index("taken for") + 2 :][:3] == ["c3", "c7", "2 of 2"]
    assert words[words.index("Best of 400 classes") + 1] == "c399"
    assert words[words.index("Worst of 400 classes") + 1] == "c0"


@pytest.mark.parametrize(("there", "table"), [(4, True), (40, False)])
def test_the_confusion_is_of_the_classes_that_occur(there: int, table: bool) -> None:
    """Of 101 classes those with videos, and those that a video was taken for."""
    predictions = []
    for label in range(there):
        guess = ClassProbability(
            99 if label == 3 else label, f"c{99 if label == 3 else label}", 0.9
        )
        predictions.append(Prediction(label + 1, "v.mp4", label, f"c{label}", True, [guess]))
    run = RunRecord(Path("x"), results=[result(classes=101)], predictions=predictions)
    text = page([run], rows([run]), [], {}, {}, ABOUT)
    assert f"the {there + 1} of 101 classes that occur" in " ".join(Tags(text).words)
    own = text.partition('<table class="confusion">')[2].partition("</table>")[0]
    assert own.count("<span>") == (there + 1 if table else 0)
    if table:
        assert [word for word in Tags(own).words if word][: there + 1] == [
            "c0",
            "c1",
            "c2",
            "c3",
            "c99",
        ]


def test_the_page_counts_the_runs_of_its_tables() -> None:
    """And beside them those that they started from, which have no row."""
    run = RunRecord(Path("x"), {"name": "a"}, results=[result()])
    before = RunRecord(Path("y"), {"name": "b"}, results=[result()])
    text = page([run, before], rows([run]), [], {}, {}, ABOUT)
    said = "Report of 1 run and of 1 more that it started from, made on"
    assert said in " ".join(" ".join(Tags(text).words).split())


def test_the_heads_of_the_wide_table_wrap() -> None:
    """So that its columns and a long path of weights fit 1280 pixels; numbers do not wrap."""
    text = page([many()], rows([many()]), [], {}, {}, ABOUT)
    style = text.partition("<style>")[2].partition("</style>")[0]
    assert re.search(r"\.num \{[^}]*white-space: nowrap", style)
    assert re.search(r"\.wide th \{[^}]*white-space: normal", style)


def test_samples_are_right_ones_then_wrong_ones_spread_over_the_list() -> None:
    guess = ClassProbability(0, "a", 1.0)
    listed = [Prediction(n, "v", int(n % 4 == 0), "a", True, [guess]) for n in range(1, 41)]
    listed.append(Prediction(41, "v", 0, "a", False, []))
    lines = [each.line for each in choose(listed, 3)]
    assert lines == [1, 19, 39, 4, 20, 40]
    assert [each.line for each in choose(listed[:3], 5)] == [1, 2, 3]
    assert choose(listed, 0) == []


def test_a_file_that_is_not_text_is_damaged_and_no_crash(tmp_path: Path) -> None:
    for name in ("config.yaml", "environment.json", "results.json", "metrics.jsonl"):
        (tmp_path / name).write_bytes(b"\xff\xfe\x00" * 20)
    assert len(read_run(tmp_path).damaged) == 4


def many(top5: float = 90, classes: int = 10) -> RunRecord:
    run = RunRecord(Path(f"c{classes}"), {"name": f"c{classes}"}, results=[result(classes=classes)])
    run.curves = {name: [Point(1, 5.0), Point(2, 7.0)] for name in ("val_top1", "val_top5")}
    return run


def test_top5_is_shown_from_ten_classes_up() -> None:
    few, enough = many(classes=9), many(classes=10)
    columns, table = fitted(COLUMNS, rows([few, enough]))
    place = columns.index("top-5 %")
    assert [row.cells[place] for row in table] == ["\N{EN DASH}", "90.00"]
    assert fitted(COLUMNS, rows([few]))[0] == [c for c in COLUMNS if c != "top-5 %"]
    for run, there in ((few, False), (enough, True)):
        text = page([run], rows([run]), [], {}, {}, ABOUT)
        assert ("top-5" in text.partition("</style>")[2]) is there


def test_the_mean_of_runs_of_several_splits_has_an_interval() -> None:
    """That of several seeds on one list has none: the videos are the same."""
    runs = [
        RunRecord(Path(str(n)), {"name": "a", "data": {"split": str(n)}}, results=[result(top1)])
        for n, top1 in enumerate((40.0, 60.0))
    ]
    low, high = interval_of_mean([(40.0, 10), (60.0, 10)])
    assert rows(runs)[-1].cells[TOP1] == f"50.00 ± 14.14 ({low:.2f} to {high:.2f})"
    for seed, run in enumerate(runs):
        run.config = {"name": "a", "seed": seed}
    assert rows(runs)[-1].cells[TOP1] == "50.00 ± 14.14"


def of_splits(directory: Path, *weights: dict[str, Any]) -> Path:
    """Write the runs of some splits, split1 ..., and the mean of their results; no training."""
    views = {"segments": 1, "crops": 1}
    found = {}
    for number, chosen in enumerate(weights, start=1):
        single = {"top1": 50.0, "top5": 100.0, "mean_class_accuracy": 50.0, "num_videos": 2}
        single |= {"num_unreadable": 0, "views": views, "per_class": {"a": 0.0, "b": 100.0}}
        found[str(number)] = single | {"weights": chosen}
        split = directory / f"split{number}"
        split.mkdir(parents=True)
        (split / "results.json").write_text(json.dumps(found[str(number)]))
    (directory / "results.json").write_text(json.dumps(mean_of_splits(found)))
    config = "name: mine\nweights: pretrained\ndata: {prepared: lists, split: all}\n"
    (directory / "config.yaml").write_text(config)
    (directory / "environment.json").write_text('{"commit": "abc"}')
    return directory


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ([{"chosen": "last", "step": 3}] * 2, "last, step 3"),
        ([{"chosen": "best", "step": 3}, {"chosen": "best", "step": 5}], "best, steps 3, 5"),
    ],
)
def test_a_mean_of_splits_is_of_the_weights_of_its_splits(
    tmp_path: Path, weights: list[dict[str, Any]], said: str
) -> None:
    """They are not the ones that the fine-tuning started from."""
    run = read_run(of_splits(tmp_path / "mine", *weights))
    assert rows([run])[0].cells[COLUMNS.index("weights")] == said
    evaluation = read_run(of_splits(tmp_path / "evaluation", {}, {}))
    assert rows([evaluation])[0].cells[COLUMNS.index("weights")] == "pretrained"


def test_a_mean_of_splits_tells_that_a_run_of_one_ended_early(tmp_path: Path) -> None:
    mean = of_splits(tmp_path / "mine", *[{"chosen": "last", "step": 2}] * 2)
    assert not any("ended" in each for row in rows([read_run(mean)]) for each in row.remarks)
    second = mean / "split2"
    (second / "metrics.jsonl").write_text('{"step": 2, "epoch": 0.5, "loss": 1.0}\n')
    (second / "weights.safetensors").touch()
    (second / "config.yaml").write_text("max_steps: 2\noptim: {epochs: 20}\n")
    (row,) = rows([read_run(mean)])
    assert row.remarks[-1] == "split 2 ended by max_steps=2: step 2, epoch 0.5 of 20"


def ended_early(directory: Path) -> Path:
    """Write the files of a training that max_steps=2 ended; its results are not there."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "metrics.jsonl").write_text('{"step": 2, "epoch": 0.5, "loss": 1.0}\n')
    (directory / "weights.safetensors").touch()
    (directory / "config.yaml").write_text("max_steps: 2\noptim: {epochs: 20}\n")
    return directory


@pytest.mark.parametrize(
    ("ended", "said"),
    [
        ((1, 2, 3), "each split ended by max_steps=2"),
        ((1, 3), "splits 1, 3 ended by max_steps=2"),
    ],
)
def test_every_split_that_ended_early_is_told_of_the_mean_and_of_its_evaluation(
    tmp_path: Path, ended: tuple[int, ...], said: str
) -> None:
    mean = of_splits(tmp_path / "mine", *[{"chosen": "last", "step": 2}] * 3)
    for number in ended:
        ended_early(mean / f"split{number}")
    evaluation = of_splits(mean / "evaluation", {}, {}, {})
    (evaluation / "config.yaml").write_text(f"name: mine\nweights: {mean}\n")
    found = [row.remarks[-1] for row in rows([read_run(mean), read_run(evaluation)]) if row.run]
    assert found == [said, f"the training of its weights: {said}"]


def test_an_evaluation_of_weights_that_ended_early_says_so(tmp_path: Path) -> None:
    """Also where they are the best ones of a training that goes on."""
    trained = ended_early(tmp_path / "mine")
    evaluation = of_splits(tmp_path / "all", {})  # its split1 is like an evaluation
    for weights in (trained, trained / "weights.safetensors"):
        (evaluation / "split1/config.yaml").write_text(f"name: mine\nweights: {weights}\n")
        (row,) = rows([read_run(evaluation / "split1")])
        early = "ended by max_steps=2: step 2, epoch 0.5 of 20"
        assert row.remarks == (f"the training of its weights: {early}",)
    (trained / "weights.safetensors").unlink()
    best = f"name: mine\nweights: {trained}/best.safetensors\n"
    (evaluation / "split1/config.yaml").write_text(best)
    (row,) = rows([read_run(evaluation / "split1")])
    early = "not finished: step 2, epoch 0.5 of 20"
    assert row.remarks == (f"the training of its weights: {early}",)
    (trained / "weights.safetensors").touch()
    (trained / "config.yaml").write_text("optim: {epochs: 0.5}\n")
    (row,) = rows([read_run(evaluation / "split1")])
    assert row.remarks == ()


def test_the_section_of_a_mean_of_splits_leads_to_the_splits(tmp_path: Path) -> None:
    run = read_run(of_splits(tmp_path / "mine", *[{"chosen": "last", "step": 3}] * 2))
    assert run.missing == []
    splits = [read_run(tmp_path / "mine" / f"split{n}") for n in (1, 2)]
    text = page([run, *splits], rows([run, *splits]), [], {}, {}, ABOUT)
    words = " ".join(" ".join(Tags(text).words).split())
    assert "fine-tuning of 2 splits, " in words
    assert "means of the splits" in words
    ids = [tag["id"] for name, tag in Tags(text).tags if name == "section"]
    section = text.partition('<section id="run-1">')[2].partition("</section>")[0]
    links = [tag["href"] for name, tag in Tags(section).tags if name == "a"]
    assert links == [f"#{each}" for each in ids[1:]]
    assert "split*" not in section
    assert [tag for name, tag in Tags(section).tags if tag.get("class") == "num muted"] == []
    alone = page([run], rows([run]), [], {}, {}, ABOUT)
    assert f"report runs='{tmp_path}/mine/split*'" in " ".join(Tags(alone).words)
    evaluation = read_run(of_splits(tmp_path / "evaluation", {}, {}))
    text = page([evaluation], rows([evaluation]), [], {}, {}, ABOUT)
    assert "evaluation of 2 splits, " in " ".join(" ".join(Tags(text).words).split())


def test_the_page_begins_with_its_date_and_each_run_with_its_command() -> None:
    run = RunRecord(Path("x"), {"name": "mine"}, results=[result()])
    run.environment = {
        "command": ["/somewhere/videomae/finetune.py", "data.root=/a b", "run.api_key=secret123"],
        "commit": "0123456789abcdef",
        "began": "2026-11-25T23:59:58+00:00",
    }
    text = page([run], rows([run]), [], {}, {}, ABOUT)
    words = " ".join(" ".join(Tags(text).words).split())
    assert "<title>videomae report: mine</title>" in text
    assert "Report of 1 run, made on 2026-11-26 12:00 UTC." in words
    assert "The runs are of commit 0123456789, the page of abc." in words
    assert "python -m videomae.finetune 'data.root=/a b'" in words
    assert "Began 2026-11-25 23:59 UTC, commit 0123456789abcdef" in words
    assert "secret123" not in text
    run.environment["command"] = ["videomae.probe", "x" * 10_000]
    assert origin_of(run)["command"].startswith("python -m videomae.probe xxx")
    assert len(origin_of(run)["command"]) < 2100
    for damaged in ({"command": 3, "commit": [], "began": "never"}, {"command": [None, {}]}):
        run.environment = damaged
        page([run], rows([run]), [], {}, {}, ABOUT)
    assert about_page(["/x/videomae/report/__main__.py", "runs=a"], None).command == (
        "python -m videomae.report runs=a"
    )


def warning(**changed: Any) -> str:
    given = {"step": 3, "guard": "chance", "text": "no better than chance", "setting": "optim.lr"}
    return json.dumps(given | changed) + "\n"


def test_warnings_of_the_training_come_first_and_each_once(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = runs / "first" / "warnings.jsonl"
    file.write_text(warning() + warning(step=5) + warning(text="<b>\x1b]0;x\x07", guard="other"))
    _, text, _ = reported(capsys, f"runs={runs}/first", "samples=0")
    assert "<h3>Warnings of the training</h3>" in text.partition("<table")[0]
    words = " ".join(" ".join(Tags(text).words).split())
    assert "Step 3 (2 times up to step 5): no better than chance chance; setting: optim.lr" in words
    assert "&lt;b&gt;\\x1b]0;x\\x07" in text
    assert "\x1b" not in text
    assert "<b>\\x1b" not in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (warning() + warning(step="3") + warning(step=-1), "warnings.jsonl: line 2 is damaged; 2"),
        (warning() + warning(text=7), "warnings.jsonl: line 2 is damaged"),
        (warning() + "[]\n" + "{", "warnings.jsonl: line 2 is damaged"),
        (warning() + '{"step": 3', "warnings.jsonl: line 2 is cut off"),
        (warning() + "x" * 2**22, "warnings.jsonl is larger than a run writes it"),
    ],
)
def test_warnings_of_others_are_checked(
    runs: Path, content: str, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "first" / "warnings.jsonl").write_text(content)
    _, text, said = reported(capsys, f"runs={runs}/first", "samples=0", status=1)
    assert words in said
    assert ("no better than chance" in text) is ("larger" not in words)


def test_many_and_long_warnings_make_no_large_page() -> None:
    run = RunRecord(Path("x"), {"name": "mine"}, results=[result()])
    run.warnings = [Warned(n, n, 1, "g", f"{n}: " + "w" * 1000, "s") for n in range(3000)]
    text = page([run], rows([run]), [], {}, {}, ABOUT)
    assert "The first 50 of 3000 are shown." in text
    assert len(text) < 120_000


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("{videos: '/home/me/dance clips', train_list: p/train.txt}", "dance clips"),
        ("{train_list: lists/mine.txt}", "mine"),
        ("{train_list: mine/train.txt, test_list: mine/test.txt}", "mine"),
        ("{prepared: outputs/mine/prepared, train_list: x.txt}", "mine"),
        ("{prepared: prepared/ucf101, train_list: x.txt, split: 1}", "ucf101, split 1"),
    ],
)
def test_data_of_ones_own_go_by_their_folder_or_list(tmp_path: Path, data: str, name: str) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/hydra.yaml").write_text("hydra: {runtime: {choices: {data: custom}}}")
    (tmp_path / "config.yaml").write_text(f"name: pretrain\nmask: {{}}\ndata: {data}\n")
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 1.0}\n')
    assert read_run(tmp_path).data == name
