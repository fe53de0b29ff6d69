"""One optimiser step: what the gradient is the gradient of, and when nothing may move."""

import math
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from videomae.config import ClipConfig, MaskConfig, MaskKind, ModelConfig, Precision, token_grid
from videomae.data.loader import Batch
from videomae.data.mask import Masking
from videomae.model import VideoClassifier, VideoMAE
from videomae.model.pixels import normalise
from videomae.run.parallel import Processes
from videomae.train.objective import Classify, Inputs, Reconstruct
from videomae.train.optimizer import parameter_groups
from videomae.train.step import Notices, StepReport, StepSettings, train_step

MODEL = ModelConfig(
    name="tiny",
    dim=16,
    depth=2,
    heads=2,
    mlp_dim=32,
    patch=8,
    decoder_dim=8,
    decoder_heads=2,
    decoder_mlp_dim=16,
    decoder_depth=1,
)
CLIP = ClipConfig(frames=4, stride=1, size=32)
MASKING = Masking(
    MaskConfig(kind=MaskKind.random, ratio=0.75, decoder_ratio=0.5), token_grid(MODEL, CLIP)
)
CLASSES = 5
VIEWS = 6
ALONE = Processes(rank=0, world=1, local_world=1, device=torch.device("cpu"))
Objective = Reconstruct | Classify


def make_batch(views: int = VIEWS, seed: int = 0) -> Batch:
    """Random pixels, labels and masks."""
    rng = np.random.default_rng(seed)
    shape = (views, CLIP.frames, CLIP.size, CLIP.size, 3)
    masks, decoder_masks = zip(*(MASKING.draw(rng) for _ in range(views)), strict=True)
    return Batch(
        clip=torch.from_numpy(rng.integers(0, 256, shape, dtype=np.uint8)),
        video=torch.arange(views),
        label=torch.from_numpy(rng.integers(0, CLASSES, views)),
        valid=torch.ones(views, dtype=torch.bool),
        mask=torch.stack(masks),
        decoder_mask=torch.stack(decoder_masks),
        num_short=0,
        bad=[],
    )


def take(batch: Batch, rows: Sequence[int]) -> Batch:
    """Some views of a batch."""
    index = torch.tensor(rows)
    return Batch(*(x[index] if isinstance(x, Tensor) else x for x in batch))


def pretraining() -> Reconstruct:
    torch.manual_seed(0)
    return Reconstruct(VideoMAE(MODEL, CLIP))


def finetuning(drop_path: float = 0.0) -> Classify:
    torch.manual_seed(0)
    model = VideoClassifier(MODEL, CLIP, CLASSES, drop_path=drop_path)
    with torch.no_grad():
        model.head.weight.mul_(1000)  # a new head is all but silent
    return Classify(model.train(), label_smoothing=0.1)


def make_optimizer(
    objective: Objective, *, layer_decay: float = 1.0, eps: float = 1.0, weight_decay: float = 0.0
) -> torch.optim.AdamW:
    """With an eps of 1 an update is nearly proportional to the gradient, however small that is."""
    groups = parameter_groups(
        objective.model.named_parameters(),
        MODEL.depth,
        weight_decay=weight_decay,
        layer_decay=layer_decay,
    )
    return torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=eps, fused=True)


NOTHING = Notices()


def step(
    objective: Objective,
    optimizer: torch.optim.AdamW,
    inputs: Sequence[Inputs],
    *,
    lr: float = 0.1,
    clip_grad: float | None = None,
    precision: Precision = Precision.float32,
    noise_seed: tuple[int, int] = (0, 1),
    notices: Notices = NOTHING,
    processes: Processes = ALONE,
) -> StepReport:
    return train_step(
        objective,
        optimizer,
        inputs,
        processes,
        StepSettings(noise_seed[1], noise_seed[0], lr, len(inputs), clip_grad, precision),
        lambda: notices,
    ).wait()


def gradients(objective: Objective, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """Those of the first step, which its first moments are a tenth of."""
    named = objective.model.named_parameters()
    return {name: 10 * optimizer.state[parameter]["exp_avg"] for name, parameter in named}


def everything(objective: Objective, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """A copy of weights, moments and step counters."""
    found = {}
    for name, parameter in objective.model.named_parameters():
        found[name] = parameter.detach().clone()
        for key, value in optimizer.state[parameter].items():
            found[f"{name} {key}"] = value.clone()
    return found


def close(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-4, atol=1e-7, msg=name)


both = pytest.mark.parametrize("make", [pretraining, finetuning])


@both
@pytest.mark.parametrize("parts", [[[0, 1], [2, 3], [4, 5]], [[0], [1, 2, 3, 4], [5]]])
def test_micro_batches_add_up_to_the_batch(
    make: Callable[[], Objective], parts: list[list[int]]
) -> None:
    batch = make_batch()
    whole, split = make(), make()
    optimizers = [make_optimizer(whole), make_optimizer(split)]
    inputs = [split.inputs(take(batch, rows), 1, 0) for rows in parts]
    if make is pretraining:  # else a mean of means would do
        per_view = [x.num_errors / len(rows) for x, rows in zip(inputs, parts, strict=True)]
        assert len(set(per_view)) > 1
    one = step(whole, optimizers[0], [whole.inputs(batch, 1, 0)])
    many = step(split, optimizers[1], inputs)
    assert many.loss == pytest.approx(one.loss)
    assert many.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
    close(gradients(split, optimizers[1]), gradients(whole, optimizers[0]))
    close(dict(split.model.named_parameters()), dict(whole.model.named_parameters()))


def test_the_loss_is_the_models_own_mean_over_the_scored_tokens() -> None:
    objective, batch = pretraining(), make_batch()
    assert batch.mask is not None
    assert len({int(row.sum()) for row in batch.mask & ~batch.decoder_mask}) > 1
    expected = objective.model(normalise(batch.clip), batch.mask, batch.decoder_mask).loss
    found = step(objective, make_optimizer(objective), [objective.inputs(batch, 1, 0)]).loss
    assert found == pytest.approx(expected.item())


@both
@pytest.mark.parametrize("blank", [[2], [0, 5]])
def test_an_unreadable_slot_takes_no_part(make: Callable[[], Objective], blank: list[int]) -> None:
    batch = make_batch()
    batch.valid[blank] = False
    batch.clip[blank] = 0
    rest = [row for row in range(VIEWS) if row not in blank]
    with_slot, without = make(), make()
    optimizers = [make_optimizer(with_slot), make_optimizer(without)]
    halves = [take(batch, range(3)), take(batch, range(3, 6))]  # unequally many valid ones
    one = step(with_slot, optimizers[0], [with_slot.inputs(half, 1, 0) for half in halves])
    other = step(without, optimizers[1], [without.inputs(take(batch, rest), 1, 0)])
    assert one.loss == pytest.approx(other.loss)
    close(gradients(with_slot, optimizers[0]), gradients(without, optimizers[1]))
    whole = make()
    batch.valid[blank] = True
    full = step(whole, make_optimizer(whole), [whole.inputs(batch, 1, 0)])
    assert full.loss != pytest.approx(one.loss, rel=1e-4)


@both
def test_pixels_of_an_unreadable_slot_do_not_matter(make: Callable[[], Objective]) -> None:
    found = []
    for pixel in (0, 255):
        batch = make_batch()
        batch.valid[3] = False
        batch.clip[3] = pixel
        objective = make()
        optimizer = make_optimizer(objective)
        step(objective, optimizer, [objective.inputs(batch, 1, 0)])
        found.append(gradients(objective, optimizer))
    close(*found)


def spoiled(inputs: Inputs, value: float) -> Inputs:
    """With the weight of one error replaced."""
    tensors = [tensor.clone() for tensor in inputs.tensors]
    weight = next(tensor for tensor in reversed(tensors) if tensor.is_floating_point()).view(-1)
    weight[weight.nonzero()[0]] = value
    return Inputs(tuple(tensors), inputs.num_errors)


@both
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("clip_grad", [None, 1.0])
def test_a_step_that_is_not_finite_leaves_everything_as_it_was(
    make: Callable[[], Objective], value: float, clip_grad: float | None
) -> None:
    objective = make()
    optimizer = make_optimizer(objective, eps=1e-8, weight_decay=0.05)
    inputs = [objective.inputs(make_batch(seed=seed), 1, 0) for seed in range(3)]
    for good in inputs[:2]:
        step(objective, optimizer, [good], clip_grad=clip_grad)
    before = everything(objective, optimizer)
    assert before["mask_token step" if make is pretraining else "head.bias step"] == 2

    stats = step(objective, optimizer, [inputs[0], spoiled(inputs[1], value)], clip_grad=clip_grad)
    after = everything(objective, optimizer)
    assert not math.isfinite(stats.grad_norm)
    assert stats.skipped
    assert [name for name in before if not before[name].equal(after[name])] == []

    step(objective, optimizer, [inputs[2]], clip_grad=clip_grad)
    undisturbed = make()
    optimizer_2 = make_optimizer(undisturbed, eps=1e-8, weight_decay=0.05)
    for good in inputs:
        step(undisturbed, optimizer_2, [good], clip_grad=clip_grad)
    one, other = everything(objective, optimizer), everything(undisturbed, optimizer_2)
    assert [name for name in one if not one[name].equal(other[name])] == []
    assert [name for name in one if one[name].equal(before[name])] == []


@both
def test_a_first_step_that_is_not_finite_moves_nothing(make: Callable[[], Objective]) -> None:
    objective, fresh = make(), make()
    optimizer = make_optimizer(objective, weight_decay=0.05)
    step(objective, optimizer, [spoiled(objective.inputs(make_batch(), 1, 0), float("nan"))])
    for name, parameter in fresh.model.named_parameters():
        assert parameter.equal(objective.model.get_parameter(name)), name
    assert all(not state["exp_avg"].any() for state in optimizer.state.values())
    assert all(state["step"] == 0 for state in optimizer.state.values())


@both
def test_a_batch_without_a_readable_video_leaves_everything_as_it_was(
    make: Callable[[], Objective],
) -> None:
    objective = make()
    optimizer = make_optimizer(objective, eps=1e-8, weight_decay=0.05)
    step(objective, optimizer, [objective.inputs(make_batch(), 1, 0)])
    before = everything(objective, optimizer)
    bad = make_batch(seed=1)
    bad.valid[:] = False
    bad.clip[:] = 0
    stats = step(objective, optimizer, [objective.inputs(bad, 1, 0)] * 2)
    after = everything(objective, optimizer)
    assert [name for name in before if not before[name].equal(after[name])] == []
    assert stats.loss is None
    assert stats.skipped
    assert math.isfinite(stats.grad_norm)  # no reason to stop the run


@both
def test_a_long_gradient_is_shortened_and_a_short_one_left(make: Callable[[], Objective]) -> None:
    def run(clip_grad: float | None) -> tuple[StepReport, dict[str, Tensor]]:
        objective = make()
        optimizer = make_optimizer(objective)
        stats = step(
            objective, optimizer, [objective.inputs(make_batch(), 1, 0)], clip_grad=clip_grad
        )
        return stats, gradients(objective, optimizer)

    stats, free = run(None)
    norm = torch.cat([gradient.flatten() for gradient in free.values()]).norm()
    assert stats.grad_norm == pytest.approx(norm.item())
    assert not stats.skipped
    limit = norm.item() / 4
    stats, clipped = run(limit)
    assert stats.grad_norm == pytest.approx(norm.item())  # as it was before
    close(clipped, {name: gradient / 4 for name, gradient in free.items()})
    _, loose = run(norm.item() * 4)
    close(loose, free)


@both
def test_each_parameter_moves_by_its_share_of_the_rate(make: Callable[[], Objective]) -> None:
    def moves(layer_decay: float, lr: float) -> tuple[dict[str, Tensor], dict[str, float]]:
        objective, fresh = make(), make()
        optimizer = make_optimizer(objective, layer_decay=layer_decay)
        step(objective, optimizer, [objective.inputs(make_batch(), 1, 0)], lr=lr)
        scales = {p: group["lr_scale"] for group in optimizer.param_groups for p in group["params"]}
        named = dict(objective.model.named_parameters())
        return (
            {name: (p - fresh.model.get_parameter(name)).detach() for name, p in named.items()},
            {name: scales[p] for name, p in named.items()},
        )

    plain, _ = moves(1.0, lr=1.0)
    scaled, scales = moves(0.25, lr=1.0)
    assert {0.25, 1.0} < set(scales.values())
    for name, scale in scales.items():
        torch.testing.assert_close(scaled[name], scale * plain[name], rtol=1e-2, atol=1e-6)
    still, _ = moves(0.25, lr=0.0)
    assert not any(move.any() for move in still.values())


def noisy_loss(
    noise_seed: tuple[int, int] = (7, 3), rank: int = 0, before: int = 0
) -> tuple[float, list[float]]:
    """Loss of a step with drop path, and the error of each of its two equal micro-batches."""
    objective = finetuning(drop_path=0.5)
    optimizer = make_optimizer(objective)
    errors: list[float] = []

    def note(_: nn.Module, __: Any, error: Tensor) -> None:
        errors.append(error.item())

    objective.register_forward_hook(note)
    torch.manual_seed(before)  # of no consequence
    inputs = [objective.inputs(make_batch(), 1, 0)] * 2
    processes = Processes(rank=rank, world=1, local_world=1, device=torch.device("cpu"))
    stats = step(objective, optimizer, inputs, noise_seed=noise_seed, processes=processes)
    return stats.loss, errors


def test_drop_path_follows_from_seed_step_micro_batch_and_rank() -> None:
    loss, errors = noisy_loss()
    assert noisy_loss(before=1) == (loss, errors)
    assert errors[0] != errors[1]  # the micro-batch
    others = [noisy_loss((8, 3)), noisy_loss((7, 4)), noisy_loss(rank=1)]
    assert len({loss, *(other for other, _ in others)}) == 4


class Waits(TorchDispatchMode):
    """Counts operations whose result the host must have before it can go on."""

    kinds = ("_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.kinds:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("make", [pretraining, lambda: finetuning(drop_path=0.5)])
def test_nothing_in_a_step_waits_for_the_device(make: Callable[[], Objective]) -> None:
    objective = make()
    optimizer = make_optimizer(objective)
    inputs = [objective.inputs(take(make_batch(), rows), 1, 0) for rows in ([0, 1, 2], [3, 4, 5])]
    settings = StepSettings(1, 0, 0.1, 2, 1.0, Precision.bf16)
    with Waits() as waits:
        pending = train_step(objective, optimizer, inputs, ALONE, settings, lambda: Notices(1, 2))
    assert not waits.found
    with waits:  # so that the count could be another
        assert pending.wait().loss > 0
        (inputs[0].tensors[0].float().mean() > 0).item()
    assert waits.found


def test_numbers_put_in_come_out() -> None:
    objective = pretraining()
    inputs = [objective.inputs(make_batch(), 1, 0)]
    stats = step(
        objective, make_optimizer(objective), inputs, notices=Notices(3, 0, 1, 0, 0, (0.5, 2.5))
    )
    assert stats.notices == Notices(3, 0, 1, 0, 0, (0.5, 2.5))


@both
def test_bf16_is_for_the_products_only(make: Callable[[], Objective]) -> None:
    losses = {}
    for precision in (Precision.float32, Precision.auto, Precision.bf16):
        objective = make()
        optimizer = make_optimizer(objective)
        inputs = [objective.inputs(make_batch(), 1, 0)]
        losses[precision] = step(objective, optimizer, inputs, precision=precision).loss
        found = everything(objective, optimizer)
        assert {tensor.dtype for tensor in found.values()} == {torch.float32}
    assert losses[Precision.auto] == losses[Precision.float32]  # on a CPU
    assert losses[Precision.bf16] != losses[Precision.float32]
    assert losses[Precision.bf16] == pytest.approx(losses[Precision.float32], rel=0.02)
