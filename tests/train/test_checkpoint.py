"""Checkpoints: what comes back, which one is the newest, and what happens when a disk is full."""

import errno
import json
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch import nn

from tests.conftest import TINY, composed
from videomae.config import ClipConfig, FinetuneConfig, RunConfig, SourceConfig
from videomae.config.settings import all_settings
from videomae.model.presets import preset
from videomae.run.parallel import Processes
from videomae.train import checkpoint as module
from videomae.train.checkpoint import Checkpoints
from videomae.train.identity import run_identity
from videomae.train.resuming import CheckpointError, find_checkpoint
from videomae.train.sharding import DistributedModel
from videomae.weights.weights import Kind, WeightsInfo

ALONE = Processes(rank=0, world=1, local_world=1, device=torch.device("cpu"))
IDENTITY = {"model.dim": 32, "optim.betas": [0.9, 0.95], "seed": 0}
INFO = WeightsInfo(Kind.pretrain, "test", preset("vit_tiny"), ClipConfig(4, 1, 32))
State = tuple[DistributedModel[Any], torch.optim.AdamW]


GLOBAL_BATCH = 24


def make_state(seed: int, steps: int) -> State:
    """A model and an optimiser after some steps."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 2))
    state = (
        DistributedModel[Any](model, RunConfig(), ALONE),
        torch.optim.AdamW(model.parameters(), lr=0.1, fused=True),
    )
    for _ in range(steps):
        advance(state)
    return state


def advance(state: State) -> None:
    """One step, the same for equal states."""
    distributed, optimizer = state
    distributed.model(torch.linspace(-1, 1, 6).view(2, 3)).square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def contents(state: State) -> dict[str, Any]:
    """Weights, moments and counters, as plain numbers."""
    distributed, optimizer = state
    model = distributed.model
    found = {name: value.tolist() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        for key, value in optimizer.state[parameter].items():
            found[f"{name} {key}"] = value.tolist()
    return found


def store(directory: Path, keep: int = 2, identity: dict[str, Any] = IDENTITY) -> Checkpoints:
    return Checkpoints(directory / "checkpoints", identity, keep, GLOBAL_BATCH, ALONE, INFO)


def last(directory: Path) -> str:
    return (directory / "checkpoints" / "last").read_text()


def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path) -> None:
    saved = make_state(seed=0, steps=3)
    path = store(tmp_path).save(3, *saved)
    restored = make_state(seed=1, steps=0)
    assert store(tmp_path).restore(path, *restored) == 3
    assert contents(restored) == contents(saved)
    assert contents(saved)["0.weight step"] == 3
    advance(saved)
    advance(restored)
    assert contents(restored) == contents(saved)


def test_the_place_in_the_data_is_a_number_of_videos(tmp_path: Path) -> None:
    state = make_state(seed=0, steps=1)
    path = store(tmp_path).save(7, *state)
    run = json.loads((path / "run.json").read_text())
    assert run["samples"] == 7 * GLOBAL_BATCH
    (path / "run.json").write_text(json.dumps(run | {"samples": 7 * GLOBAL_BATCH + 1}))
    with pytest.raises(CheckpointError, match="169 videos are not 7 steps of 24 videos"):
        store(tmp_path).restore(path, *state)


def test_restoring_replaces_what_was_there(tmp_path: Path) -> None:
    saved, other = make_state(seed=0, steps=2), make_state(seed=1, steps=5)
    path = store(tmp_path).save(2, *saved)
    assert contents(other) != contents(saved)
    store(tmp_path).restore(path, *other)
    assert contents(other) == contents(saved)


def test_saving_changes_nothing(tmp_path: Path) -> None:
    state = make_state(seed=0, steps=2)
    before = contents(state)
    store(tmp_path).save(2, *state)
    assert contents(state) == before


def test_last_names_the_newest(tmp_path: Path) -> None:
    state = make_state(seed=0, steps=1)
    for step in (9, 10):  # 10 comes after 9, unlike "10" after "9"
        path = store(tmp_path).save(step, *state)
        assert last(tmp_path) == path.name == f"step_{step}"
        assert find_checkpoint(path.parent, "auto") == path


def test_last_is_moved_when_the_checkpoint_is_complete_and_before_any_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, directory = make_state(seed=0, steps=1), tmp_path / "checkpoints"
    store(tmp_path, keep=1).save(1, *state)
    written: list[str] = []

    def watch(path: Path, text: str) -> None:
        if path.name == "last":
            assert text == "step_2"
            assert find_checkpoint(directory, str(directory / text)) == directory / text
            restored = make_state(seed=5, steps=0)
            store(tmp_path).restore(directory / "step_2", *restored)
            assert contents(restored) == contents(state)
            assert (directory / "step_1").is_dir()
            assert last(tmp_path) == "step_1"
        written.append(path.name)
        path.write_text(text)

    monkeypatch.setattr(module, "write_text", watch)
    store(tmp_path, keep=1).save(2, *state)
    assert written == ["run.json", "last"]


@pytest.mark.parametrize("keep", [1, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int) -> None:
    state = make_state(seed=0, steps=1)
    for step in (8, 9, 10, 11):
        store(tmp_path, keep=keep).save(step, *state)
    left = {path.name for path in (tmp_path / "checkpoints").iterdir()}
    assert left == {"last", *[f"step_{step}" for step in (8, 9, 10, 11)[-keep:]]}


def test_a_checkpoint_whose_deletion_is_interrupted_is_no_complete_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, directory = make_state(seed=0, steps=1), tmp_path / "checkpoints"
    for step in (3, 7):
        store(tmp_path).save(step, *state)

    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store(tmp_path).remove_after(3)
    assert find_checkpoint(directory, "auto") == directory / "step_3"


@pytest.mark.parametrize("missing", ["run.json", ".metadata"])
def test_an_unfinished_checkpoint_is_passed_over(tmp_path: Path, missing: str) -> None:
    state = make_state(seed=0, steps=1)
    older, newer = store(tmp_path).save(3, *state), store(tmp_path).save(7, *state)
    (newer / missing).unlink()
    assert find_checkpoint(tmp_path / "checkpoints", "auto") == older
    with pytest.raises(CheckpointError, match=r"no complete checkpoint.*resume=auto"):
        find_checkpoint(tmp_path / "checkpoints", str(newer))


def test_a_folder_that_was_put_aside_is_passed_over(tmp_path: Path) -> None:
    state = make_state(seed=0, steps=1)
    older, newer = store(tmp_path).save(3, *state), store(tmp_path).save(7, *state)
    newer.rename(newer.with_name("step_7.bak"))
    assert find_checkpoint(older.parent, "auto") == older


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    state = make_state(seed=0, steps=1)
    older, newer = store(tmp_path).save(3, *state), store(tmp_path).save(7, *state)
    data = newer / "__0_0.distcp"
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"__0_0\.distcp .*damaged.*resume={older}$"):
        store(tmp_path).restore(newer, *make_state(seed=1, steps=0))


def test_an_unfinished_checkpoint_is_written_anew(tmp_path: Path) -> None:
    state = make_state(seed=0, steps=3)
    unfinished = tmp_path / "checkpoints" / "step_3"
    unfinished.mkdir(parents=True)
    (unfinished / "__0_0.distcp").write_text("half of it")
    (unfinished / "__7_0.distcp").write_text("of a process that is no more")
    path = store(tmp_path).save(3, *state)
    assert not (path / "__7_0.distcp").exists()
    assert sorted(each.name for each in path.parent.iterdir()) == ["last", "step_3"]
    restored = make_state(seed=1, steps=0)
    store(tmp_path).restore(path, *restored)
    assert contents(restored) == contents(state)


def test_what_resume_means(tmp_path: Path) -> None:
    state, directory = make_state(seed=0, steps=1), tmp_path / "checkpoints"
    assert find_checkpoint(directory, "never") is None
    assert find_checkpoint(directory, "auto") is None
    older, newer = store(tmp_path).save(1, *state), store(tmp_path).save(2, *state)
    assert find_checkpoint(directory, "never") is None
    assert find_checkpoint(directory, "auto") == newer
    assert find_checkpoint(directory, str(older)) == older
    elsewhere = tmp_path / "another run" / "checkpoints"
    assert find_checkpoint(elsewhere, "auto") is None
    assert find_checkpoint(elsewhere, str(tmp_path)) == newer  # the run's newest
    assert find_checkpoint(elsewhere, str(directory)) == newer
    with pytest.raises(CheckpointError, match="resume=nowhere is no complete checkpoint"):
        find_checkpoint(directory, "nowhere")


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def fail_in_the_middle(state: Any, *, checkpoint_id: Path, **_: object) -> None:
    (checkpoint_id / "__0_0.distcp").write_bytes(b"half")
    full_disk()


def fail_at(name: str) -> Callable[[Path, str], None]:
    def write(path: Path, text: str) -> None:
        if path.name == name:
            full_disk()
        path.write_text(text)

    return write


@pytest.mark.parametrize(
    ("place", "failure"),
    [
        ("dcp.save", fail_in_the_middle),
        ("write_text", fail_at("run.json")),
        ("write_text", fail_at("last")),
    ],
)
def test_a_full_disk_leaves_the_earlier_checkpoint_usable(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    failure: Callable[..., None],
) -> None:
    earlier, directory = make_state(seed=0, steps=3), tmp_path / "checkpoints"
    path = store(tmp_path, keep=1).save(3, *earlier)
    before = contents(earlier)
    target, _, name = place.rpartition(".")
    with monkeypatch.context() as patch:
        patch.setattr(getattr(module, target) if target else module, name, failure)
        with pytest.raises(CheckpointError) as error:
            store(tmp_path, keep=1).save(5, *make_state(seed=0, steps=5))
    for words in ("step 5", "MB free", str(path), "Make room", "resume=auto"):
        assert words in str(error.value)
    assert last(tmp_path) == "step_3"
    assert find_checkpoint(directory, "auto") == path
    restored = make_state(seed=1, steps=0)
    assert store(tmp_path).restore(path, *restored) == 3
    assert contents(restored) == before
    store(tmp_path, keep=1).save(5, *restored)  # there is room again
    assert last(tmp_path) == "step_5"


def test_a_disk_that_is_not_full_is_told_from_one_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(module.dcp, "save", refuse)
    with pytest.raises(CheckpointError, match="Read-only file system"):
        store(tmp_path).save(5, *make_state(seed=0, steps=5))


def test_a_first_checkpoint_that_cannot_be_written_says_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.dcp, "save", fail_in_the_middle)
    with pytest.raises(CheckpointError, match="there is none yet"):
        store(tmp_path).save(5, *make_state(seed=0, steps=5))
    assert find_checkpoint(tmp_path / "checkpoints", "auto") is None


def in_background(directory: Path, keep: int = 2) -> Checkpoints:
    return Checkpoints(
        directory / "checkpoints", IDENTITY, keep, GLOBAL_BATCH, ALONE, INFO, background=True
    )


def test_in_the_background_what_is_saved_is_the_state_of_that_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, checkpoints, may_write = make_state(seed=0, steps=3), in_background(tmp_path), Event()
    first = checkpoints.save(3, *state)
    checkpoints.finish()
    write = dcp.save

    def held_up(*args: Any, **settings: Any) -> None:
        assert may_write.wait(60)
        write(*args, **settings)

    monkeypatch.setattr(module.dcp, "save", held_up)
    advance(state)
    saved = contents(state)
    second = checkpoints.save(4, *state)
    advance(state)  # training goes on
    assert contents(state) != saved
    assert last(tmp_path) == "step_3"
    assert find_checkpoint(tmp_path / "checkpoints", "auto") == first
    assert not checkpoints.failed
    may_write.set()
    checkpoints.finish()
    assert last(tmp_path) == "step_4"
    restored = make_state(seed=1, steps=0)
    assert store(tmp_path).restore(second, *restored) == 4
    assert contents(restored) == saved


def test_in_the_background_a_full_disk_is_told_at_the_next_occasion(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, checkpoints = make_state(seed=0, steps=3), in_background(tmp_path)
    path = checkpoints.save(3, *state)
    checkpoints.finish()
    with monkeypatch.context() as patch:
        patch.setattr(module.dcp, "save", fail_in_the_middle)
        checkpoints.save(5, *state)
        end = time.monotonic() + 60
        while not checkpoints.failed and time.monotonic() < end:
            time.sleep(0.01)
        assert checkpoints.failed
        with pytest.raises(CheckpointError, match=rf"step 5 .*No space left.*{path}"):
            checkpoints.save(6, *state)
    assert not checkpoints.failed
    assert last(tmp_path) == "step_3"
    checkpoints.save(7, *state)  # there is room again
    checkpoints.finish()
    assert last(tmp_path) == "step_7"


def test_files_that_are_too_short_make_no_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a file system may leave them that promised to write."""
    write = dcp.save

    def lose_the_end(state: Any, *, checkpoint_id: Path, **settings: Any) -> None:
        write(state, checkpoint_id=checkpoint_id, **settings)
        data = checkpoint_id / "__0_0.distcp"
        data.write_bytes(data.read_bytes()[:-1])

    monkeypatch.setattr(module.dcp, "save", lose_the_end)
    with pytest.raises(CheckpointError, match=r"__0_0\.distcp has \d+ of \d+ bytes"):
        store(tmp_path).save(1, *make_state(seed=0, steps=1))
    assert find_checkpoint(tmp_path / "checkpoints", "auto") is None


def test_an_old_one_that_cannot_be_deleted_does_not_cost_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = make_state(seed=0, steps=1)
    store(tmp_path, keep=1).save(1, *state)
    delete = shutil.rmtree

    def refuse(path: Path, ignore_errors: bool = False) -> None:
        if path.name == "step_1" and not ignore_errors:
            raise OSError(errno.EBUSY, "Device or resource busy")
        delete(path, ignore_errors=ignore_errors)

    monkeypatch.setattr(module.shutil, "rmtree", refuse)
    with suppress(CheckpointError):  # to say so is fine
        store(tmp_path, keep=1).save(2, *state)
    newest = tmp_path / "checkpoints" / last(tmp_path)
    assert find_checkpoint(tmp_path / "checkpoints", "auto") == newest
    assert newest.name == "step_2"


def test_another_runs_checkpoint_is_refused_with_what_differs(tmp_path: Path) -> None:
    path = store(tmp_path).save(2, *make_state(seed=0, steps=2))
    other = {"model.dim": 64, "optim.betas": [0.9, 0.95], "mask.ratio": 0.9}
    fresh = make_state(seed=1, steps=1)
    before = contents(fresh)
    with pytest.raises(CheckpointError) as error:
        store(tmp_path, identity=other).restore(path, *fresh)
    rows = [line.strip() for line in str(error.value).splitlines() if line.startswith("  ")]
    assert rows == [
        "mask.ratio: None there, 0.9 here",
        "model.dim: 32 there, 64 here",
        "seed: 0 there, None here",
    ]
    assert str(path) in str(error.value)
    assert contents(fresh) == before


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / ".metadata").unlink(),
        lambda path: (path / "__0_0.distcp").unlink(),
        lambda path: (path / "__0_0.distcp").write_bytes(b""),
        lambda path: (path / ".metadata").write_bytes((path / ".metadata").read_bytes()[:100]),
        lambda path: (path / "run.json").write_text('{"step": 2, '),
        lambda path: (path / "run.json").write_text(""),
        lambda path: (path / "run.json").write_text("{}"),
        lambda path: (path / "run.json").write_text("[]"),
    ],
    ids=[
        "metadata missing",
        "tensors missing",
        "tensors cut off",
        "metadata cut off",
        "run.json cut off",
        "run.json empty",
        "run.json says nothing",
        "run.json is a list",
    ],
)
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    path = store(tmp_path).save(2, *make_state(seed=0, steps=2))
    damage(path)
    with pytest.raises(CheckpointError, match=str(path)):
        store(tmp_path).restore(path, *make_state(seed=1, steps=0))


FREE_DATA = {
    "prepared",
    "split",
    "train_list",
    "val_list",
    "videos",
    "scan",
    "test_list",
    "tombstones",
    "root",
    "cache_dir",
    "cache_gb",
    "num_train",
    "class_names",
    "decoder",
    "timeout_s",
    "max_clip_bytes",
    "max_bad_fraction",
    "segments",
    "crops",
}
ANOTHER = {
    list: lambda value: [*value[:-1], value[-1] * 0.99],
    bool: lambda value: not value,
    int: lambda value: 2 * value + 2,
    float: lambda value: value / 2 if value else 0.5,
    str: lambda value: value + "x",
    dict: lambda value: value | {"more": SourceConfig(train_list="list.txt")},
    type(None): lambda _: 7,
}


def leaves(config: Any, path: str = "") -> list[str]:
    """The dotted names of every setting."""
    names = []
    for field in fields(config):
        value = getattr(config, field.name)
        name = f"{path}{field.name}"
        names += leaves(value, name + ".") if is_dataclass(value) else [name]
    return names


def changed(config: Any, name: str) -> Any:
    """The config with another value of one setting, unchecked."""
    first, _, rest = name.partition(".")
    value = getattr(config, first)
    if rest:
        new = changed(value, rest)
    elif isinstance(value, Enum):
        new = next(other for other in type(value) if other is not value)
    else:
        new = ANOTHER[type(value)](value)
    assert new != value
    other = object.__new__(type(config))  # some combinations make no sense; they need not
    other.__dict__.update(config.__dict__ | {first: new})
    return other


LIST_SETTINGS = {"list_format", "frame_template", "first_frame", "stride"}
HASHES = {"data.train_list": "ab12", "weights": "cd34"}


@pytest.mark.parametrize("command", ["pretrain", "finetune"])
def test_a_run_is_its_model_data_masks_optimiser_and_seed_and_nothing_else(command: str) -> None:
    config = composed(command, *TINY)
    before = run_identity(config, HASHES)
    assert json.loads(json.dumps(before)) == before
    assert run_identity(config, HASHES | {"weights": "other"})["sha256(weights)"] == "other"
    matters, free = set(), set()
    for name in leaves(config):
        after = run_identity(changed(config, name), HASHES)
        differing = {key for key in before.keys() | after if before.get(key) != after.get(key)}
        assert {key for key in differing if key != name} <= {
            f"data.sources.more.{setting}" for setting in LIST_SETTINGS if name == "data.sources"
        }
        (matters if differing else free).add(name)
    top = {"name", "output_dir", "max_steps", "resume", "overwrite", "weights"}
    run = {f"run.{field.name}" for field in fields(config.run)}
    if command == "finetune":
        # What head_map made of the weights is in the checkpoint; evaluations change nothing.
        top |= {"head_map", "eval_every", "test_weights"}
    else:
        top |= {name for name in leaves(config) if name.startswith("probe.")}
    assert free == top | run | {f"data.{name}" for name in FREE_DATA}
    assert {"seed", "model.depth", "data.clip.stride", "optim.global_batch"} <= matters


def test_a_run_of_before_a_setting_goes_on_where_it_is_at_its_default(tmp_path: Path) -> None:
    config = composed("finetune", *TINY)
    new = {known.key for known in all_settings(FinetuneConfig) if known.rules.new}
    assert {"augment.transform", "optim.objective", "data.target"} <= new
    identity = run_identity(config, HASHES)
    assert not new & identity.keys()
    path = store(tmp_path, identity=identity).save(1, *make_state(seed=0, steps=1))
    other = run_identity(changed(config, "augment.transform"), HASHES)
    with pytest.raises(CheckpointError, match=r"augment\.transform: None there, 7 here"):
        store(tmp_path, identity=other).restore(path, *make_state(seed=1, steps=0))


def test_free_settings_may_change(tmp_path: Path) -> None:
    config = composed("pretrain", *TINY, "mask=random_cell")
    saved = make_state(seed=0, steps=1)
    path = store(tmp_path, identity=run_identity(config, HASHES)).save(1, *saved)
    free = replace(
        config,
        run=replace(config.run, workers=3, device_batch=7, log_every=5),
        data=replace(config.data, root="/elsewhere", decoder="other"),
        output_dir=str(tmp_path / "other"),
        max_steps=3,
    )
    restored = make_state(seed=1, steps=0)
    assert store(tmp_path, identity=run_identity(free, HASHES)).restore(path, *restored) == 1
    assert contents(restored) == contents(saved)
    matters = replace(config, optim=replace(config.optim, global_batch=3))
    with pytest.raises(CheckpointError, match=r"optim\.global_batch: 1024 there, 3 here"):
        store(tmp_path, identity=run_identity(matters, HASHES)).restore(path, *restored)
