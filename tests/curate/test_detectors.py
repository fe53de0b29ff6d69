"""Detectors: the boxes are those of torchvision and transformers, and bad files are refused."""

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torchvision.models import get_model
from torchvision.models.detection import SSDLite320_MobileNet_V3_Large_Weights

from tests.conftest import composed
from tests.curate.detectors import (
    ARCHITECTURE,
    CLASSES,
    SCORE,
    torchvision_detector,
    torchvision_weights,
    transformers_directory,
)
from tests.curate.footage import panned
from videomae.config import ConfigError, PersonsConfig
from videomae.curate.detections import FrameDetections, blurred_thumbnail, scores_of
from videomae.curate.persons import finds_faces
from videomae.curate.torchvision_detectors import TorchvisionDetector, freeze_norms
from videomae.curate.transformers_detectors import TransformersDetector
from videomae.weights.tensors import WeightsError

CPU = torch.device("cpu")


def frames(count: int = 2) -> Any:
    """Frames of a pan."""
    return np.stack(list(panned(1, count, 8)))


def torchvision_config(folder: Path, *more: str) -> PersonsConfig:
    return composed("curate", *torchvision_weights(folder), *more).persons


def test_boxes_are_those_of_torchvision(tmp_path: Path) -> None:
    """Read by torchvision's own loading, transforms and model."""
    found = TorchvisionDetector(torchvision_config(tmp_path), CPU).detect(frames())
    own, prepare = (
        torchvision_detector(),
        SSDLite320_MobileNet_V3_Large_Weights.COCO_V1.transforms(),
    )
    for frame, detected in zip(frames(), found, strict=True):
        with torch.inference_mode():
            (answer,) = own([prepare(Image.fromarray(frame))])
        counts = answer["scores"] >= SCORE
        assert counts.any()
        shares = answer["boxes"][counts].double().numpy() / np.tile(frame.shape[1::-1], 2)
        np.testing.assert_array_equal(detected.boxes, shares)
        assert detected.labels == [CLASSES[i] for i in answer["labels"][counts].tolist()]


def test_boxes_are_those_of_the_pipeline_of_transformers(tmp_path: Path) -> None:
    from transformers import pipeline

    folder = transformers_directory(tmp_path / "yolos")
    config = composed("curate", f"persons.detector={folder}", "persons.score=0.1").persons
    detector = TransformersDetector(config, CPU)
    assert detector.labels == list(CLASSES[1:])
    pipe = pipeline("object-detection", model=str(folder), device="cpu")
    for frame, detected in zip(frames(), detector.detect(frames()), strict=True):
        told = pipe(Image.fromarray(frame), threshold=0.1)
        assert told
        pixels = (detected.boxes * np.tile(frame.shape[1::-1], 2)).tolist()
        rows = sorted((name, *box) for name, box in zip(detected.labels, pixels, strict=True))
        theirs = sorted(
            (each["label"], *(each["box"][side] for side in ("xmin", "ymin", "xmax", "ymax")))
            for each in told
        )
        assert [row[0] for row in rows] == [row[0] for row in theirs]
        ours = np.trunc(np.array([row[1:] for row in rows]) + 1e-4)  # theirs are whole pixels
        np.testing.assert_allclose(ours, np.array([row[1:] for row in theirs]), atol=1)


def test_a_frozen_norm_gives_what_torchvisions_own_gives() -> None:
    """Released weights hold no counters of norms: torchvision reads them into frozen norms."""
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).eval()
    with torch.no_grad():
        model[1].running_var.fill_(2.0)
    pixels = torch.rand(1, 3, 8, 8)
    before = model(pixels)
    freeze_norms(model, model[1].eps)
    torch.testing.assert_close(model(pixels), before)
    freeze_norms(model, 0.0)
    assert "num_batches_tracked" not in "".join(model.state_dict())


def test_released_weights_without_counters_are_read(tmp_path: Path) -> None:
    torchvision_weights(tmp_path)
    tensors = load_file(tmp_path / "detector.safetensors")
    kept = {name: each for name, each in tensors.items() if "num_batches_tracked" not in name}
    save_file(kept, tmp_path / "detector.safetensors")
    config = composed(
        "curate",
        f"persons.weights={tmp_path}/detector.safetensors",
        f"persons.class_names={tmp_path}/classes.txt",
    ).persons
    assert TorchvisionDetector(config, CPU).architecture == ARCHITECTURE


def test_classes_of_coco_need_no_names(tmp_path: Path) -> None:
    torch.save({"model": torchvision_detector(91).state_dict()}, tmp_path / "coco.pth")
    config = composed("curate", f"persons.weights={tmp_path}/coco.pth").persons
    assert "person" in TorchvisionDetector(config, CPU).labels


@pytest.mark.long
def test_classes_that_are_not_those_of_coco_need_names(tmp_path: Path) -> None:
    config = replace(torchvision_config(tmp_path), class_names=None)
    with pytest.raises(ConfigError, match=r"4 classes.*persons.class_names=FILE"):
        TorchvisionDetector(config, CPU)
    (tmp_path / "classes.txt").write_text("one\ntwo\n")
    with pytest.raises(ConfigError, match="has 2 lines"):
        TorchvisionDetector(replace(config, class_names=str(tmp_path / "classes.txt")), CPU)


def test_weights_of_another_model_are_named_with_what_does_not_fit(tmp_path: Path) -> None:
    other = get_model("resnet18", weights=None)
    torch.save(other.state_dict(), tmp_path / "resnet.pth")
    config = PersonsConfig(weights=str(tmp_path / "resnet.pth"))
    with pytest.raises(WeightsError, match=r"of no detector of torchvision.*missing: \S+"):
        TorchvisionDetector(config, CPU)


def test_weights_of_another_architecture_are_named(tmp_path: Path) -> None:
    config = torchvision_config(tmp_path, "persons.architecture=ssd300_vgg16")
    with pytest.raises(WeightsError, match=r"persons.architecture is ssd300_vgg16: missing: \S+"):
        TorchvisionDetector(config, CPU)


@pytest.mark.long
def test_a_tensor_of_another_shape_is_named(tmp_path: Path) -> None:
    config = torchvision_config(tmp_path)
    tensors = load_file(str(config.weights))
    name = next(name for name in tensors if name.endswith("0.0.0.weight"))
    tensors[name] = tensors[name][:1].clone()
    save_file(tensors, str(config.weights))
    with pytest.raises(WeightsError, match=rf"of another shape: {name} is \(1, "):
        TorchvisionDetector(config, CPU)


@pytest.mark.long
def test_a_file_that_claims_endless_classes_takes_no_memory(tmp_path: Path) -> None:
    config = torchvision_config(tmp_path)
    tensors = load_file(str(config.weights))
    for name in [name for name in tensors if "classification_head" in name and ".1.weight" in name]:
        tensors[name] = torch.zeros(6 * 10**12, 0)
    save_file(tensors, str(config.weights))
    with pytest.raises(WeightsError, match="of no detector"):
        TorchvisionDetector(config, CPU)


class Evil:
    """An object whose unpickling would make a file."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/never-made-by-curate"),)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    file = tmp_path / "evil.pth"
    torch.save({"model": Evil()}, file)
    with pytest.raises(WeightsError):
        TorchvisionDetector(PersonsConfig(weights=str(file)), CPU)
    file.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError):
        TorchvisionDetector(PersonsConfig(weights=str(file)), CPU)
    assert not Path("/tmp/never-made-by-curate").exists()


def test_a_directory_with_a_pickle_alone_is_refused(tmp_path: Path) -> None:
    folder = transformers_directory(tmp_path / "yolos")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    config = PersonsConfig(detector=str(folder))
    with pytest.raises(WeightsError, match=r"pytorch_model\.bin is a pickle, which is not read"):
        TransformersDetector(config, CPU)


def test_a_directory_without_some_weights_is_refused(tmp_path: Path) -> None:
    """transformers itself makes up what is missing, at random."""
    folder = transformers_directory(tmp_path / "yolos")
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if name.startswith("class_labels_classifier"))
    del tensors[gone]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(WeightsError, match=f"no weights for {gone}"):
        TransformersDetector(PersonsConfig(detector=str(folder)), CPU)


@pytest.mark.soak
def test_a_directory_of_another_kind_or_size_is_refused(tmp_path: Path) -> None:
    folder = transformers_directory(tmp_path / "yolos")
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 2000}))
    with pytest.raises(WeightsError, match=r"is of a model of [\d,]+ weights, its files hold"):
        TransformersDetector(PersonsConfig(detector=str(folder)), CPU)
    (folder / "config.json").write_text(json.dumps(settings | {"architectures": ["BertModel"]}))
    with pytest.raises(WeightsError, match="holds BertModel, which is no ObjectDetection"):
        TransformersDetector(PersonsConfig(detector=str(folder)), CPU)
    with pytest.raises(WeightsError, match=r"config.json cannot be read"):
        TransformersDetector(PersonsConfig(detector=str(tmp_path)), CPU)


def test_a_label_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigError, match=r"persons.label=human is none of .* person, face"):
        finds_faces(PersonsConfig(label="human"), ["person", "face"])
    with pytest.raises(ConfigError, match="it cannot find faces"):
        finds_faces(PersonsConfig(blur_faces=True), ["person"])
    assert finds_faces(PersonsConfig(), ["person", "face"])
    assert not finds_faces(PersonsConfig(), ["person"])


def test_two_detectors_are_refused() -> None:
    with pytest.raises(ConfigError, match="give one of them"):
        PersonsConfig(weights="a", detections="b")


def test_scores_follow_from_boxes_by_hand() -> None:
    one = FrameDetections(np.array([[0.1, 0.2, 0.3, 0.7], [0, 0, 0.1, 0.1]]), ["person", "face"])
    two = FrameDetections(np.array([[0.1, -0.5, 0.3, 0.4]]), ["person"])
    none = FrameDetections(np.empty((0, 4)), [])
    assert scores_of([one, two, none, none], PersonsConfig(), faces=True) == {
        "person_frames_fraction": 0.5,
        "person_max_height": 0.5,
        "faces_max": 1,
    }
    assert scores_of([none], PersonsConfig(), faces=False) == {
        "person_frames_fraction": 0.0,
        "person_max_height": 0.0,
        "faces_max": None,
    }


def test_a_blurred_face_is_gone_and_the_rest_stays() -> None:
    import cv2

    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (90, 160, 3), dtype=np.uint8)
    frame = cv2.resize(frame[::6, ::6], (160, 90), interpolation=cv2.INTER_NEAREST)
    box = np.array([[0.25, 0.25, 0.5, 0.75]])
    small = cv2.imdecode(np.frombuffer(blurred_thumbnail(frame, box), np.uint8), cv2.IMREAD_COLOR)
    sharp = cv2.imdecode(
        np.frombuffer(blurred_thumbnail(frame, np.empty((0, 4))), np.uint8), cv2.IMREAD_COLOR
    )
    assert small.shape == sharp.shape == (90, 160, 3)
    inside, outside = (slice(23, 67), slice(40, 80)), (slice(0, 90), slice(100, 160))
    assert small[inside].std() < 0.6 * sharp[inside].std()
    np.testing.assert_allclose(small[outside].astype(int), sharp[outside], atol=40)
    edges = [cv2.Laplacian(each[inside], cv2.CV_64F).std() for each in (small, sharp)]
    assert edges[0] < 0.1 * edges[1]
