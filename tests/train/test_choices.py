"""What was found fastest is taken again, without measuring."""

import json
from pathlib import Path

import pytest
import torch

from tests.train import pretraining, train
from videomae.config import RunConfig
from videomae.model.attention import AttentionKernel
from videomae.model.layers import Attention, Mlp
from videomae.run.parallel import Processes
from videomae.train import tuning
from videomae.train.choices import Choices

ALONE = Processes(0, 1, 1, torch.device("cpu"))


def test_the_fastest_is_taken_and_remembered(tmp_path: Path) -> None:
    choices, asked = Choices(), []

    def measure() -> dict[str, float]:
        asked.append(1)
        return {"b": 0.001, "a": 0.002}

    chosen, said = choices.choose("which", {"a": 1, "b": 2}, measure, ALONE)
    assert (chosen, said) == (2, "which: b (b 1 ms; a 2 ms)")
    chosen, said = choices.choose("which", {"a": 1, "b": 2}, measure, ALONE)
    assert (chosen, said) == (2, "which: b, as before")
    assert len(asked) == 1
    choices.write(tmp_path / "x.json")
    again = Choices(json.loads((tmp_path / "x.json").read_text()))
    assert again == choices
    assert list(again.made) == [f"which, cpu, torch {torch.__version__}"]


def test_of_two_that_are_as_fast_the_plainer_is_taken() -> None:
    def measure() -> dict[str, float]:
        return {"b": 0.001, "a": 0.00101, "c": 0.002}

    assert Choices().choose("which", {"c": 3, "a": 1, "b": 2}, measure, ALONE)[0] == 1


def test_what_is_gone_or_another_question_is_measured() -> None:
    choices = Choices({f"which, cpu, torch {torch.__version__}": "gone"})
    assert choices.choose("which", {"a": 1}, lambda: {"a": 0.1}, ALONE)[0] == 1
    assert choices.choose("what", {"a": 1}, dict, ALONE)[0] is None


def test_a_run_that_goes_on_takes_what_it_took(
    videos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = "run.attention=math"
    output = train(pretraining(videos, tmp_path / "run", more, max_steps=1))
    kept = (output / "choices.json").read_text()
    assert len(json.loads(kept)) == 2
    assert "ms" in capsys.readouterr().err

    def forbidden(*_: object) -> dict[AttentionKernel, float]:
        raise AssertionError("measured again")

    monkeypatch.setattr(tuning, "measure", forbidden)
    train(pretraining(videos, output, more, max_steps=2, resume="auto"))
    assert "attention of the encoder by math" in (said := capsys.readouterr().err)
    assert "as before" in said.replace("\n", " ")
    assert (output / "choices.json").read_text() == kept


def test_a_damaged_file_of_choices_stops_nothing(videos: Path, tmp_path: Path) -> None:
    output = train(pretraining(videos, tmp_path / "run", max_steps=1))
    (output / "choices.json").write_text('{"a": 1}')
    train(pretraining(videos, output, max_steps=2, resume="auto"))
    assert (output / "choices.json.damaged").exists()


def test_mlps_of_odd_widths_are_measured_and_padded_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    times = tuning.measure_padding(16, 21, 10, pretraining_run(), torch.device("cpu"))
    assert times.keys() == {"as they are", "padded to 24"}
    assert list(times.values()) == sorted(times.values())
    gpu = Processes(0, 1, 1, torch.device("cuda"))
    monkeypatch.setattr("videomae.train.choices.hardware", lambda _: "a GPU")
    blocks = torch.nn.ModuleList([Mlp(16, 21), Attention(16, 2)])
    for fastest, padding in (("padded to 24", 3), ("as they are", 0)):
        monkeypatch.setattr(tuning, "measure_padding", lambda *_, name=fastest: {name: 0.1})
        part = tuning.ModelPart(blocks, 5)
        said = list(tuning.choose_padding("x", part, 2, pretraining_run(), gpu, Choices()))
        assert said == [f"MLPs of the x, 5 tokens x 2 views, 16 x 21: {fastest} ({fastest} 100 ms)"]
        assert blocks[0].padding == padding
    cpu = list(tuning.choose_padding("x", part, 2, pretraining_run(), ALONE, Choices()))
    assert cpu == []


def pretraining_run() -> RunConfig:
    return RunConfig()
