"""Stage embed: features are those of transformers' own VideoMAE, and clusters balance lists."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.conftest import composed
from tests.curate.footage import panned, render
from videomae.curate.clip_frames import read_frames
from videomae.curate.stages import run_stages
from videomae.model.pixels import MEAN, STD
from videomae.weights.tensors import WeightsError

SIZE, FRAMES, STRIDE = 32, 4, 2


def weights(folder: Path) -> Path:
    """Write a tiny VideoMAE of transformers with random weights."""
    from transformers import VideoMAEConfig, VideoMAEForPreTraining

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=SIZE,
        num_frames=FRAMES,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        decoder_hidden_size=32,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=64,
        use_mean_pooling=False,
        frame_sampling_rate=STRIDE,
    )
    VideoMAEForPreTraining(config).save_pretrained(folder)
    return folder


def run(out: Path, *overrides: str) -> None:
    run_stages(composed("curate", f"out={out}", "engine.workers=1", *overrides), out)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Six measured clips, of pictures as large as the model's."""
    for number in range(6):
        frames = panned(number % 3, 30 + number, 0.5, SIZE, SIZE)
        render(tmp_path / f"raw/{number}.mp4", frames)
    out = tmp_path / "out"
    out.mkdir()
    run(out, f"source={tmp_path / 'raw'}", "stage=sources")
    run(out, "stage=measure")
    return out


def features_by_transformers(folder: Path, video: Path, length: int) -> Any:
    """The mean of the tokens of a clip's middle, by transformers' own model."""
    from transformers import VideoMAEModel

    model = VideoMAEModel.from_pretrained(folder).eval()
    first = (length - FRAMES * STRIDE) // 2
    numbers = [first + STRIDE * i for i in range(FRAMES)]
    frames = torch.from_numpy(read_frames(video, (0, length), numbers, 2**31)).float() / 255
    pixels = (frames - torch.tensor(MEAN)) / torch.tensor(STD)
    with torch.inference_mode():
        return model(pixels.permute(0, 3, 1, 2)[None]).last_hidden_state.mean(1)[0].numpy()


@pytest.mark.long
def test_features_clusters_lists_and_forgetting(corpus: Path, tmp_path: Path) -> None:
    folder = weights(tmp_path / "mae")
    settings = [f"embed.weights={folder}", "embed.dtype=float32", "embed.clusters=3"]
    run(corpus, "stage=embed", *settings)
    side = pq.read_table(corpus / "embeddings.parquet")
    found = dict(zip(side["clip_id"].to_pylist(), side["embedding"].to_pylist(), strict=True))
    rows = pq.read_table(corpus / "clips.parquet").to_pylist()
    assert side["clip_id"].to_pylist() == [row["clip_id"] for row in rows]
    for row in rows:
        video = tmp_path / "raw" / row["source_path"]
        theirs = features_by_transformers(folder, video, row["end_frame"])
        np.testing.assert_allclose(found[row["clip_id"]], theirs, atol=2e-5)
    groups: dict[int, set[int]] = {}
    for row in rows:
        groups.setdefault(row["cluster"], set()).add(int(row["source_path"][0]) % 3)
    assert sorted(map(len, groups.values())) == [1, 1, 1]  # a scene is a cluster
    record = json.loads((corpus / "stages/embed.json").read_text())
    assert (record["clusters"], record["dtype"], len(record["weights"])) == (3, "float32", 1)

    before = {
        name: (corpus / name).read_bytes() for name in ("clips.parquet", "embeddings.parquet")
    }
    run(corpus, "stage=embed", *settings, "engine.workers=2")
    assert before == {name: (corpus / name).read_bytes() for name in before}

    run(corpus, "stage=select")
    run(corpus, "stage=subset", "sizes=[3]", "by=balanced", "balance=cluster")
    paths = pq.read_table(corpus / "lists/balanced-3-seed0.parquet")["path"].to_pylist()
    assert {int(path[0]) % 3 for path in paths} == {0, 1, 2}

    run(corpus, "stage=embed", f"embed.weights={folder}")  # float16, no clusters, nothing computed
    halves = pq.read_table(corpus / "embeddings.parquet")["embedding"].to_pylist()
    np.testing.assert_array_equal(
        np.array(halves, np.float16), np.array(list(found.values()), np.float32).astype(np.float16)
    )
    assert pq.read_table(corpus / "clips.parquet")["cluster"].null_count == 6

    (tmp_path / "gone.txt").write_text("0.mp4\n")
    clip = next(row["clip_id"] for row in rows if row["source_path"] == "0.mp4")
    run(corpus, f"forget={tmp_path / 'gone.txt'}")
    for file in corpus.rglob("*.parquet"):
        assert clip not in str(pq.read_table(file).to_pylist()), file
    assert pq.read_metadata(corpus / "embeddings.parquet").num_rows == 5


def test_weights_of_something_else_are_refused(corpus: Path, tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(WeightsError):
        run(corpus, "stage=embed", f"embed.weights={tmp_path / 'other.pth'}")
