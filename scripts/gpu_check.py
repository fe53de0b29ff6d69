#!/usr/bin/env python
"""The first meeting with a GPU: what runs, what is fast, and whether the numbers stay.

Needs torch (2.9 or newer), einops, NumPy and this package's folder: nothing that reads videos.

    python scripts/gpu_check.py                          # all parts, in the order of their worth
    python scripts/gpu_check.py --part crashes attention --out gpu_check
    python scripts/gpu_check.py --self-test              # every part at toy size; a CPU will do

Each part takes 8 minutes at most (--minutes), and writes PART.json and PART.md to --out as it goes:

    crashes     what CUDA's kernels refuse, and steps and pictures in bf16 in every way
    attention   the device's time of every implementation, beside what the host's clock says
    gemm        the matrix products of the model, with the decoder's MLP as it is and padded
    step        the product's own training step, and one as VideoMAE V2's; one change at a time
    profile     what a step spends its time on
    compare     each faster way beside the plain one: losses of some steps, bytes that arrive
    vitb        ViT-B's step
    finetune    ViT-g's step in fine-tuning

A change is worth keeping where it gains more than the spread of the two runs of "eager", and its
losses agree with eager's to 1e-3. "of the peak": of matrix products in a burst; "held": of the
same without a pause.
"""

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from gpu_speed import (
    FASTEST,
    KERNELS,
    REFERENCE,
    Check,
    attention,
    finetune,
    first_line,
    gemm,
    profile,
    started,
    step,
    step_variants,
    vitb,
)
from measuring import CLASSES, PLAIN, Setup, Stepper, Took, Variant, clean, sustained_peak
from torch import Tensor

from videomae.config import Precision
from videomae.model.attention import AttentionKernel, attend
from videomae.model.flops import matmul_peak
from videomae.model.mae import MaskIndices
from videomae.model.timing import can_record
from videomae.run.arithmetic import autocast
from videomae.train.delivery import Delivery, delivery_to, trial

SAME_LOSS = 1e-3
"""Relative difference of losses that rounding explains."""


def crashes(check: Check) -> None:
    """Everything that might end a run, each by itself."""
    table = check.table("crashes")
    for name, attempt in attempts(check):
        if check.late:
            table.row(what=name, result="not run: no time left")
            continue
        try:
            result = attempt() or "works"
        except Exception as error:
            result = first_line(error)
        table.row(what=name, result=str(result))
        clean(check.device)


def attempts(check: Check) -> Iterator[tuple[str, Callable[[], object]]]:
    """Names, and what returns None or a word, or raises."""
    half = partial(torch.ones, device=check.device, dtype=torch.bfloat16)
    single = partial(torch.ones, device=check.device)
    yield (
        "layer_norm of float32, weights bf16",
        lambda: shape(F.layer_norm(single(2, 8, 64), (64,), half(64), half(64))),
    )
    yield "linear of float32, weight bf16", lambda: shape(F.linear(single(8, 64), half(64, 64)))
    for kernel in KERNELS:
        for kind, ones in (("float32", single), ("bf16", half)):
            qkv = [ones(1, 2, 64, 64) for _ in range(3)]
            yield (
                f"{kernel.name} in {kind}",
                lambda q=qkv, k=kernel: shape(attend(*q, AttentionKernel(k))),
            )
    yield "recording a graph", lambda: can_record(check.device)
    yield "copies aside, from registered memory", lambda: delivery_to(check.device)[1]
    setup = check.setup("vit_giant", "pretrain", 8)
    tuned = check.setup("vit_giant", "finetune", 2)
    for name, variant in step_variants().items():
        genuine = name == "all"  # once, whatever it takes
        yield f"steps: {name}", partial(some_steps, check, setup, variant, genuine=genuine)
    yield "a picture in bf16", partial(picture, check, setup)
    yield "fine-tuning, mixed", partial(some_steps, check, tuned, Variant(attention=FASTEST))
    yield "fine-tuning, compiled", partial(some_steps, check, tuned, Variant(compiled=True))
    yield "an evaluation in fp16", partial(evaluation, tuned)


def shape(tensor: Tensor) -> str:
    """That it was computed, and in which type."""
    return (
        f"works, gives {str(tensor.dtype).removeprefix('torch.')}: {bool(tensor.isfinite().all())}"
    )


def some_steps(check: Check, setup: Setup, variant: Variant, *, genuine: bool = False) -> str:
    """Three, whose numbers must be finite."""
    took = steps(check, setup, variant, 3, genuine=genuine)
    losses = ", ".join(f"{each.loss:.5g}" for each in took)
    finite = all(abs(each.loss) < 1e9 and abs(each.grad_norm) < 1e9 for each in took)
    return f"{'works' if finite else 'NOT FINITE'}: losses {losses}"


def picture(check: Check, setup: Setup) -> None:
    """What a reconstruction computes, in the arithmetic of the run."""
    stepper = Stepper(setup, Variant(attention=FASTEST), check.kernels(setup))
    model, (visible, decoded, scored) = stepper.objective.model.eval(), stepper.inputs.tensors
    clip = torch.randn(2, 3, setup.clip.frames, *setup.clip.frame, device=setup.device)
    masks = MaskIndices(*(x[:2].to(setup.device) for x in (visible, decoded, scored)))
    with torch.no_grad(), autocast(setup.device, setup.precision):
        prediction, _ = model.rebuild(clip, masks)
    assert prediction.isfinite().all()


def evaluation(setup: Setup) -> None:
    """Logits in fp16."""
    model = Stepper(setup, Variant(), {}).objective.model.eval()
    clip = torch.randn(2, 3, setup.clip.frames, *setup.clip.frame, device=setup.device)
    with torch.no_grad(), autocast(setup.device, Precision.fp16):
        logits = model(clip)
    assert logits.shape == (2, CLASSES)
    assert logits.isfinite().all()


def steps(
    check: Check, setup: Setup, variant: Variant, number: int, *, genuine: bool = False
) -> list[Took]:
    """So many, of a model that has taken none."""
    stepper = started(check, setup, variant, genuine=genuine)
    try:
        return [stepper.step() for _ in range(number)]
    finally:
        stepper.close()


def compare(check: Check) -> None:
    """Whether each faster way computes what the plain one does."""
    table = check.table("compare")
    setup = check.setup("vit_giant", "pretrain", 8)
    plain = losses(check, setup, Variant())
    others = {name: each for name, each in step_variants().items() if name != "eager"}
    for kernel in KERNELS:
        others[kernel.name] = Variant(attention=kernel)
    others[REFERENCE] = PLAIN
    for name, variant in others.items():
        if check.late:
            table.row(way=name, result="not run: no time left")
            continue
        try:
            ours = losses(check, setup, variant)
        except Exception as error:
            table.row(way=name, result=first_line(error))
            continue
        farthest = max(abs(a / b - 1) for a, b in zip(ours, plain, strict=True))
        verdict = "same" if farthest <= SAME_LOSS else "DIFFERENT"
        table.row(way=name, result=verdict, farthest=farthest, last_loss=ours[-1])
    for aside in (False, True):
        with suppress(RuntimeError, AttributeError):  # crashes says why
            found = trial(Delivery(check.device, aside=aside and setup.cuda)) or "same bytes"
            table.row(way="copied aside" if aside else "copied plainly", result=found)


def losses(check: Check, setup: Setup, variant: Variant) -> list[float]:
    """Of five steps."""
    clean(check.device)
    return [each.loss for each in steps(check, setup, variant, 5)]


PARTS = {
    each.__name__: each
    for each in (crashes, attention, gemm, step, profile, compare, vitb, finetune)
}


def arguments(given: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--out", type=Path, default=Path("gpu_check"), help="folder (gpu_check)")
    parser.add_argument("--minutes", type=float, default=8, help="of each part (8)")
    parser.add_argument("--views", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--steps", type=int, default=8, help="timed steps of a variant (8)")
    parser.add_argument("--self-test", action="store_true", help="toy sizes, on whatever there is")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> int:
    args = arguments(given)
    cuda = torch.cuda.is_available()
    if not cuda and not args.self_test:
        print(
            "gpu_check needs a GPU, and torch finds none; --self-test runs without", file=sys.stderr
        )
        return 1
    device = torch.device("cuda", 0) if cuda else torch.device("cpu")
    toy = args.self_test
    if not cuda:
        torch.set_num_threads(1)  # toys are not worth more
    views = [2] if toy else args.views
    check = Check(device, toy, args.out, args.minutes, views, 1 if toy else args.steps)
    size = 256 if toy else 8192
    check.peak = matmul_peak(device, torch.bfloat16, size)
    check.held = sustained_peak(device, torch.bfloat16, size, 0.1 if toy else 15)
    failed = []
    for name in args.part:
        check.begun = time.monotonic()
        try:
            PARTS[name](check)
        except Exception as error:  # the other parts are worth having
            failed.append(f"{name}: {first_line(error)}")
        clean(device)
    for line in failed:
        print(f"this part ended early: {line}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
