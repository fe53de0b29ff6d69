"""What a GPU would be asked to do, traced on tensors without values."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from tests.fake_cuda import CUDA, Watch, fake_cuda, gradients_appear, on_cuda
from tests.train.test_step import CLASSES, CLIP, MODEL, make_batch
from videomae.config import AugmentConfig, CropKind, Precision
from videomae.data.mix import Mixing
from videomae.evaluation.features import FeatureExtractor
from videomae.evaluation.heads import ClassHead
from videomae.evaluation.probes import AttentiveProbe, LinearProbe, knn_probs
from videomae.evaluation.scoring import predictions_of
from videomae.model import VideoClassifier, VideoMAE
from videomae.model.pixels import normalise
from videomae.pictures.figures import reconstruction_rows
from videomae.run.parallel import Processes
from videomae.train.average import RunningMean
from videomae.train.objective import Classify, Reconstruct
from videomae.train.optimizer import parameter_groups
from videomae.train.step import StepSettings, train_step

ALONE = Processes(rank=0, world=1, local_world=1, device=CUDA)
MICRO_BATCHES, VIEWS = 2, 4


@pytest.fixture
def watch() -> Iterator[Watch]:
    with fake_cuda() as watch:
        yield watch


def adamw(model: torch.nn.Module) -> torch.optim.AdamW:
    groups = parameter_groups(
        model.named_parameters(), MODEL.depth, weight_decay=0.05, layer_decay=0.75
    )
    return torch.optim.AdamW(groups, lr=0.0, fused=True)


def two_steps(objective: Reconstruct | Classify) -> None:
    """With accumulation and clipping; moments appear in the first and are used in the second."""
    batch = make_batch(VIEWS)
    if isinstance(objective, Classify):
        box = torch.tensor([[1, 2, 8, 9]] * VIEWS)
        batch = batch._replace(erase=box, mask=None, decoder_mask=None)
    optimizer = adamw(objective.model)
    for number in (1, 2):
        inputs = [objective.inputs(batch, number, n * VIEWS) for n in range(MICRO_BATCHES)]
        with gradients_appear(objective.model):
            train_step(
                objective,
                optimizer,
                inputs,
                ALONE,
                StepSettings(number, 0, 1e-3, MICRO_BATCHES, 1.0, Precision.bf16),
            )


def test_a_step_of_pretraining_stays_on_the_gpu_and_waits_for_nothing(watch: Watch) -> None:
    two_steps(Reconstruct(on_cuda(VideoMAE(MODEL, CLIP)).train()))
    assert watch.num_seen > 100
    assert watch.waits == []


def test_a_step_of_finetuning_likewise(watch: Watch) -> None:
    """With mixup, CutMix, erasing, drop path, dropout and a running mean of the weights."""
    model = VideoClassifier(MODEL, CLIP, CLASSES, drop_path=0.3, head_drop=0.3)
    average = RunningMean(model, decay=0.9)
    on_cuda(average.module)
    on_cuda(model).train()
    augment = AugmentConfig(CropKind.random_resized, antialias=False, mixup=0.8, cutmix=1.0)
    mixing = Mixing(augment, 2, CLIP.frame, 1, seed=0)
    two_steps(Classify(model, label_smoothing=0.1, mixing=mixing))
    average.update(model)
    assert watch.num_seen > 100
    assert watch.waits == []


def frames() -> torch.Tensor:
    return torch.zeros(VIEWS, CLIP.frames, CLIP.size, CLIP.size, 3, dtype=torch.uint8)


def test_pictures_wait_for_copies_alone(watch: Watch) -> None:
    model = on_cuda(VideoMAE(MODEL, CLIP))
    clip, mask = normalise(torch.zeros_like(frames(), device=CUDA)), make_batch(VIEWS).mask
    assert mask is not None
    watch.waits.clear()
    rows = reconstruction_rows(model, clip, mask, Precision.bf16)
    assert {row.device.type for row in rows} == {"cpu"}
    fetched = [each for each in watch.waits if "_to_copy" in each]
    assert len(fetched) == len(watch.waits)


def test_predictions_and_features_stay_on_the_gpu(watch: Watch) -> None:
    classifier = on_cuda(VideoClassifier(MODEL, CLIP, CLASSES)).eval()
    for precision in (Precision.bf16, Precision.fp16, Precision.float32):
        head = ClassHead(["a", "b", "c"], None, {})
        assert predictions_of(classifier, head, CUDA, precision, frames()).device == CUDA
    for model in (classifier, on_cuda(VideoMAE(MODEL, CLIP))):
        tokens = FeatureExtractor(model, CUDA, Precision.bf16).tokens(frames())
        assert (tokens.device, tokens.dtype) == (CUDA, torch.float32)
    assert watch.waits == []


def test_probes_stay_on_the_gpu(watch: Watch) -> None:
    mean, tokens = torch.empty(8, MODEL.dim, device=CUDA), torch.empty(8, 3, MODEL.dim, device=CUDA)
    labels = torch.zeros(8, dtype=torch.int64, device=CUDA)
    assert knn_probs(mean, mean, labels, classes=CLASSES, k=3).device == CUDA
    for head, features in (
        (LinearProbe(mean, CLASSES), mean),
        (AttentiveProbe(MODEL.dim, 2, CLASSES), tokens),
    ):
        assert on_cuda(head)(features).device == CUDA
    assert watch.waits == []


def test_what_mixes_devices_or_waits_is_seen(watch: Watch) -> None:
    there, here = torch.empty(3, device=CUDA), torch.from_numpy(np.zeros(3, np.float32))
    with pytest.raises(RuntimeError, match="at least two devices"):
        there + here
    there.cpu()
    here.to(CUDA)
    there.to("cpu", non_blocking=True)
    here.to(CUDA, non_blocking=True)
    assert [each.partition(" ")[0] for each in watch.waits] == ["aten._to_copy.default"] * 2
    with pytest.raises(Exception, match="_local_scalar_dense"):
        there.sum().item()
    assert "_local_scalar_dense" in watch.waits[-1]
