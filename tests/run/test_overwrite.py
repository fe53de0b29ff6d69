"""What a new run refuses, and what it removes: what our commands wrote, and nothing of others."""

import json
import shutil
from pathlib import Path

import pytest

from videomae.run import overwrite
from videomae.run.directory import RunExistsError
from videomae.run.overwrite import (
    MADE_BY_A_RUN,
    begin_record,
    check_no_training,
    check_replaceable,
    check_unused,
    clear_run,
    would_remove,
    written_in,
)
from videomae.run.record import RECORD, made, recorded

ENVIRONMENT = '{\n  "command": []\n}\n'
OTHERS = {
    "evaluation/results.json",
    "probe/features/0.safetensors",
    "features/manifest.jsonl",
    "report.html",
    "figures/mine.png",
    "checkpoints/notes.txt",
}
FOLDERS = ("tensorboard", "checkpoints", "figures", "profile", "wandb", ".hydra")


def put(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def files(directory: Path) -> set[str]:
    """Every file and link below a directory."""
    paths = (path for path in directory.rglob("*") if path.is_symlink() or not path.is_dir())
    return {str(path.relative_to(directory)) for path in paths}


@pytest.fixture
def begun(tmp_path: Path) -> Path:
    """The directory of a run of an earlier commit that has just begun."""
    put(tmp_path / "environment.json", ENVIRONMENT)
    return tmp_path


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run with a checkpoint, with things of others around and amid its own."""
    directory = tmp_path / "run"
    own = ("environment.json", "config.yaml", "metrics.jsonl", "tensorboard", "figures/loss.png")
    for name in (*own, "checkpoints/step_2", "checkpoints/last", "weights.safetensors"):
        made(directory, name)
    for name in (*own[:3], own[4], "checkpoints/last", "weights.safetensors"):
        put(directory / name)
    put(directory / "tensorboard" / "events")
    put(directory / "checkpoints" / "step_2" / "run.json")
    put(directory / ".weights.77.safetensors")  # of a writer that was killed
    for name in OTHERS:
        put(directory / name)
    return directory


@pytest.mark.parametrize("name", MADE_BY_A_RUN[1:])
def test_anything_that_a_run_made_is_not_mixed_with(begun: Path, name: str) -> None:
    (begun / name).mkdir()
    with pytest.raises(RunExistsError, match=f"already holds a run \\(.*{name}\\)") as error:
        check_unused(begun, overwrite=False)
    for words in (str(begun), "resume=auto", "overwrite=true", "output_dir"):
        assert words in str(error.value)
    check_unused(begun, overwrite=True)


@pytest.mark.parametrize("name", MADE_BY_A_RUN[1:])
def test_a_run_that_begins_again_replaces_no_results(begun: Path, name: str) -> None:
    (begun / name).mkdir()
    if name in ("weights.safetensors", "results.json"):
        with pytest.raises(RunExistsError, match=name):
            check_unused(begun, overwrite=False, restart=True)
    else:
        check_unused(begun, overwrite=False, restart=True)


@pytest.mark.parametrize("asked", [{}, {"restart": True}, {"overwrite": True}])
@pytest.mark.parametrize("name", MADE_BY_A_RUN)
def test_things_of_others_with_the_same_names_are_kept(
    tmp_path: Path, name: str, asked: dict[str, bool]
) -> None:
    put(tmp_path / name / "theirs" if name in FOLDERS else tmp_path / name, '{"theirs": 1}')
    before = files(tmp_path)
    with pytest.raises(RunExistsError, match=f"holds no run, but .*{name}") as error:
        check_unused(tmp_path, **{"overwrite": False} | asked)
    assert "resume=auto" not in str(error.value)
    clear_run(tmp_path)
    assert files(tmp_path) == before


def test_a_file_and_a_checkpoint_that_the_run_did_not_write_are_not_replaced(run: Path) -> None:
    check_unused(run, overwrite=True)
    for name in ("results.json", "checkpoints/step_9"):
        put(run / name)
        with pytest.raises(RunExistsError, match=f"that it did not write .*{name}.*move them"):
            check_unused(run, overwrite=True)
        (run / name).unlink()


def test_a_directory_with_other_things_is_free(tmp_path: Path) -> None:
    put(tmp_path / "notes.txt")
    put(tmp_path / "evaluation" / "results.json")
    check_unused(tmp_path, overwrite=False)
    check_unused(tmp_path / "not there", overwrite=False)


def test_clearing_removes_what_is_recorded_and_nothing_else(run: Path) -> None:
    clear_run(run)
    assert files(run) == OTHERS
    clear_run(run)
    clear_run(run / "not there")
    assert files(run) == OTHERS


def test_clearing_a_run_of_before_there_were_records_leaves_evaluations(tmp_path: Path) -> None:
    for name in MADE_BY_A_RUN:
        put(tmp_path / name / "below" if name in FOLDERS else tmp_path / name, ENVIRONMENT)
    put(tmp_path / "checkpoints" / "step_3" / "run.json")
    others = {"notes.txt", "evaluation/results.json"}
    for name in others:
        put(tmp_path / name)
    check_replaceable(tmp_path)
    clear_run(tmp_path)
    assert files(tmp_path) == others | {"checkpoints/below"}


def test_what_earlier_commits_wrote_stays_known_when_their_run_goes_on(begun: Path) -> None:
    put(begun / "checkpoints" / "step_3" / "run.json")
    put(begun / "checkpoints" / "last")
    begin_record(begun)
    made(begun, "checkpoints/step_4")
    begin_record(begun)
    steps = {"checkpoints/step_3", "checkpoints/last", "checkpoints/step_4"}
    assert set(written_in(begun)) == {"environment.json", *steps}


@pytest.mark.parametrize("recorded", [True, False])
def test_links_are_removed_and_what_they_lead_to_stays(
    run: Path, caplog: pytest.LogCaptureFixture, recorded: bool
) -> None:
    scratch = run.parent / "scratch"
    shutil.move(run / "checkpoints", scratch)
    (run / "checkpoints").symlink_to(scratch)
    shutil.move(run / "tensorboard", run.parent / "events")
    (run / "tensorboard").symlink_to(run.parent / "events")
    (run / "weights.safetensors").unlink()
    (run / "weights.safetensors").symlink_to("nowhere")
    if not recorded:
        (run / RECORD).unlink()
        put(run / "environment.json", ENVIRONMENT)
    clear_run(run)
    assert files(scratch) == {"step_2/run.json", "last", "notes.txt"}
    assert files(run.parent / "events") == {"events"}
    assert not any((run / name).is_symlink() for name in MADE_BY_A_RUN)
    said = "\n".join(caplog.messages)
    for name, target in (("checkpoints", scratch), ("weights.safetensors", "nowhere")):
        assert f"{run / name} was a link to {target}: the link is removed" in said
    assert f"new checkpoints go into {run / 'checkpoints'} itself" in said


def test_a_run_that_begins_again_keeps_the_link_to_its_scratch_disk(run: Path) -> None:
    scratch = run.parent / "scratch"
    shutil.move(run / "checkpoints", scratch)
    (run / "checkpoints").symlink_to(scratch)
    clear_run(run, keep_links=True)
    assert (run / "checkpoints").is_symlink()
    assert files(scratch) == {"step_2/run.json", "last", "notes.txt"}
    assert not (run / "metrics.jsonl").exists()


def test_a_scratch_disk_that_is_not_there_is_no_reason_to_begin_again(run: Path) -> None:
    for name in ("weights.safetensors", "checkpoints"):
        path = run / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    (run / "checkpoints").symlink_to(run.parent / "not mounted")
    with pytest.raises(RunExistsError, match="not mounted, which is not there: mount"):
        check_unused(run, overwrite=False, restart=True)
    check_unused(run, overwrite=True)


def test_an_interrupted_removal_leaves_no_complete_checkpoint_and_goes_on(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_at(name: str) -> None:
        def remove(path: Path) -> None:
            if path.name == name:
                raise OSError(5, "Input/output error", str(path))
            real(path)

        monkeypatch.setattr(overwrite, "_remove", remove)

    real = overwrite._remove
    for name in ("environment.json", "config.yaml", "tensorboard", "step_2", "metrics.jsonl"):
        if (run / name).exists():
            stop_at(name)
            with pytest.raises(RunExistsError, match=f"{name} cannot be removed .*same command"):
                clear_run(run)
            assert not (run / "checkpoints" / "step_2" / "run.json").exists()
            check_unused(run, overwrite=True)
            check_replaceable(run)
    monkeypatch.undo()
    clear_run(run)
    assert files(run) == OTHERS


def test_nothing_is_removed_where_not_all_can_be(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = run / "checkpoints" / "step_2"
    monkeypatch.setattr(overwrite.os, "access", lambda path, _: Path(path) != locked)
    with pytest.raises(RunExistsError, match=f"as {locked} cannot be written to"):
        check_replaceable(run)


def test_no_training_replaces_the_results_of_an_evaluation_or_a_probe(tmp_path: Path) -> None:
    for name in ("environment.json", "results.json"):
        put(made(tmp_path, name))
    check_unused(tmp_path, overwrite=True)  # another evaluation may
    check_no_training(tmp_path)
    with pytest.raises(RunExistsError, match="holds results and no training"):
        check_replaceable(tmp_path)
    put(made(tmp_path, "metrics.jsonl"))
    check_replaceable(tmp_path)
    with pytest.raises(RunExistsError, match="holds a training run"):
        check_no_training(tmp_path)


def test_weights_that_would_go_with_the_run_are_known(run: Path) -> None:
    assert would_remove(run, run / "weights.safetensors")
    assert would_remove(run, run.parent / "run" / "checkpoints" / ".." / "checkpoints" / "step_2")
    assert not would_remove(run, run / "evaluation")
    scratch = run.parent / "scratch"
    shutil.move(run / "checkpoints", scratch)
    (run / "checkpoints").symlink_to(scratch)
    assert not would_remove(run, scratch / "step_2")


@pytest.mark.parametrize(
    "record",
    [
        '{"names": ["../mine", "/mine", "evaluation", "figures/../../mine"]}',
        '{"names": ["figures/../evaluation"]}',
        '{"names": ["figures/\\u0000", "", ".", "mine"]}',
    ],
)
def test_a_record_of_others_removes_nothing_of_ours(tmp_path: Path, record: str) -> None:
    directory = tmp_path / "run"
    put(directory / "evaluation" / "results.json")
    put(directory / "mine")
    put(tmp_path / "mine")
    put(directory / RECORD, record)
    before = files(tmp_path) - {f"run/{RECORD}"}
    clear_run(directory)
    assert files(tmp_path) == before


@pytest.mark.parametrize("damaged", ["", "[]", '{"names": 3}', '{"names": [3]}', "\udcff"])
def test_a_damaged_record_is_as_none(begun: Path, damaged: str) -> None:
    put(begun / "metrics.jsonl")
    (begun / RECORD).write_text(damaged, errors="surrogateescape")
    assert recorded(begun) is None
    assert set(written_in(begun)) == {"environment.json", "metrics.jsonl"}


def test_the_record_knows_a_thing_before_it_is_there(tmp_path: Path) -> None:
    path = made(tmp_path, "metrics.jsonl")
    assert not path.exists()
    assert recorded(tmp_path) == ["metrics.jsonl"]
    made(tmp_path, "metrics.jsonl")
    assert json.loads((tmp_path / RECORD).read_text()) == {"names": ["metrics.jsonl"]}


def test_what_is_mounted_in_a_run_is_not_emptied(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = files(run)
    monkeypatch.setattr(overwrite, "mounts", lambda: ["/", str(run / "tensorboard" / "a b")])
    with pytest.raises(RunExistsError, match=r"tensorboard/a b is mounted there"):
        clear_run(run)
    assert files(run) == before
    monkeypatch.setattr(overwrite, "mounts", lambda: ["/", str(run.parent), str(run) + "2"])
    clear_run(run)


@pytest.mark.skipif(not Path("/proc/self/mountinfo").exists(), reason="only Linux tells")
def test_mounts_are_known() -> None:
    assert "/proc" in overwrite.mounts()
