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
    step        the product's own training step at three sizes, then one change at a time
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
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
import torch.nn.functional as F
from measuring import (
    CLASSES,
    PLAIN,
    Setup,
    Stepper,
    Table,
    Took,
    Variant,
    clean,
    hardware,
    median,
    sustained_peak,
)
from torch import Tensor

from videomae.arithmetic import autocast
from videomae.config import (
    AttentionBackend,
    ClipConfig,
    MaskConfig,
    MaskKind,
    ModelConfig,
    Precision,
    Recompute,
    RunConfig,
)
from videomae.model import preset
from videomae.model.attention import Way, attend, measure, ways
from videomae.model.flops import matmul_peak
from videomae.model.mae import MaskIndices
from videomae.model.timing import can_record, device_seconds
from videomae.train.delivery import Delivery, delivery_to, trial
from videomae.train.tuning import ALIGNED, measure_padding

FASTEST = AttentionBackend.auto
KERNELS = (AttentionBackend.flash, AttentionBackend.cudnn, AttentionBackend.efficient)
TOY = ModelConfig(
    *("toy", 32, 2, 2, 64),
    patch=8,
    decoder_dim=24,
    decoder_heads=2,
    decoder_mlp_dim=53,
    decoder_depth=1,
)
SAME_LOSS = 1e-3
"""Relative difference of losses that rounding explains."""


@dataclass
class Check:
    """What all parts are given."""

    device: torch.device
    toy: bool
    out: Path | None
    minutes: float
    views: Sequence[int]
    steps: int
    peak: float = 1.0
    held: float = 1.0
    fastest: dict[tuple[str, int], dict[str, Way]] = field(default_factory=dict)
    """By model and views."""
    begun: float = 0.0

    def setup(self, name: str, stage: str, views: int) -> Setup:
        """Of a model by name; of the toy in its place."""
        if self.toy:
            clip, mask = ClipConfig(4, 1, 32), MaskConfig(MaskKind.tube, 0.75, 0.5)
            return Setup(TOY, clip, stage, 2, Precision.bf16, self.device, mask)
        return Setup(
            preset(name), ClipConfig(16, 4, 224), stage, views, Precision.bf16, self.device
        )

    def ways(self, setup: Setup) -> dict[str, Way]:
        """The fastest attention of each part of a model."""
        key = f"{setup.config.name} {setup.stage}", setup.views
        if key not in self.fastest:
            self.fastest[key] = {part: next(iter(t)) for part, _, t in setup.attention()}
        return self.fastest[key]

    @property
    def late(self) -> bool:
        """Whether the part has taken its time."""
        return time.monotonic() - self.begun > 60 * self.minutes

    def table(self, name: str) -> Table:
        """Of a part."""
        about = hardware(self.device) | {
            "peak_tflops": round(self.peak / 1e12, 3),
            "held_tflops": round(self.held / 1e12, 3),
        }
        return Table(self.out, name, about)


def first_line(error: Exception) -> str:
    """What went wrong, in short."""
    lines = str(error).splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:100]}"


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
            yield f"{kernel.name} in {kind}", lambda q=qkv, k=kernel: shape(attend(*q, Way(k)))
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
    stepper = Stepper(setup, Variant(attention=FASTEST), check.ways(setup))
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


def started(check: Check, setup: Setup, variant: Variant, *, genuine: bool = False) -> Stepper:
    """A model that has taken no step. Toys are compiled without code being generated, which would
    take most of a self-test, unless it is to be genuine."""
    quick = partial(torch.compile, backend="aot_eager")
    compiler = quick if check.toy and not genuine else torch.compile
    with mock.patch.object(torch, "compile", compiler):
        return Stepper(setup, variant, check.ways(setup))


def steps(
    check: Check, setup: Setup, variant: Variant, number: int, *, genuine: bool = False
) -> list[Took]:
    """So many, of a model that has taken none."""
    stepper = started(check, setup, variant, genuine=genuine)
    try:
        return [stepper.step() for _ in range(number)]
    finally:
        stepper.close()


def attention(check: Check) -> None:
    """Forward and backward, as in a block."""
    table = check.table("attention")
    for views in dict.fromkeys((check.views[0], check.views[-1])):
        setup = check.setup("vit_giant", "pretrain", views)
        for part, (tokens, heads, dim) in setup.parts().items():
            if check.late:
                table.row(part=part, views=views, way="not run: no time left")
                continue
            size = setup.views, heads, tokens, dim // heads
            times = measure(ways(FASTEST, dim // heads), size, check.device, setup.dtype)
            flops = 3.5 * 4 * setup.views * tokens**2 * dim
            for way, seconds in times.items():
                host = host_ms(size, way, setup)
                table.row(
                    part=part,
                    views=setup.views,
                    tokens=tokens,
                    head=dim // heads,
                    way=str(way),
                    ms=1e3 * seconds,
                    host_clock_ms=host,
                    tflops=flops / seconds / 1e12,
                )


def host_ms(size: tuple[int, int, int, int], way: Way, setup: Setup) -> float:
    """One pass by the host's clock, as a run without graphs would see it."""
    batch, heads, tokens, dim = size
    qkv = torch.randn(batch, tokens, 3, heads, dim, device=setup.device, dtype=setup.dtype)
    qkv.requires_grad_()
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        q, k, v = (part.transpose(1, 2) for part in qkv.unbind(2))
        mixed = attend(q, k, v, way)
        torch.autograd.grad(mixed, qkv, torch.ones_like(mixed))
        if setup.cuda:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


def gemm(check: Check) -> None:
    """Forward, gradient of the input, gradient of the weight."""
    table = check.table("gemm")
    for views in dict.fromkeys((check.views[0], check.views[-1])):
        setup = check.setup("vit_giant", "pretrain", views)
        for name, rows, wide, narrow in products(setup):
            if check.late:
                table.row(product=name, views=views, result="not run: no time left")
                continue
            x, w, g = (
                torch.randn(*size, device=check.device).to(setup.dtype)
                for size in ((rows, narrow), (wide, narrow), (rows, wide))
            )
            timed = {
                "forward": lambda x=x, w=w: x @ w.t(),
                "input": lambda g=g, w=w: g @ w,
                "weight": lambda g=g, x=x: g.t() @ x,
            }
            flops = 2 * rows * wide * narrow / 1e12
            tflops = {key: flops / device_seconds(f, check.device) for key, f in timed.items()}
            table.row(product=name, views=setup.views, size=f"{rows} x {wide} x {narrow}", **tflops)
        config, (_, tokens) = setup.config, (0, setup.parts()["decoder"][0])
        width, rows = config.decoder_mlp_dim, setup.views * tokens
        run = RunConfig(precision=Precision.bf16)
        for name, seconds in measure_padding(
            config.decoder_dim, width, rows, run, check.device
        ).items():
            table.row(decoder_mlp=f"{width}, {name}", views=setup.views, ms=1e3 * seconds)


def products(setup: Setup) -> Iterator[tuple[str, int, int, int]]:
    """The blocks' matrix products: name, rows, outputs, inputs."""
    config, parts = setup.config, setup.parts()
    rows, dim = setup.views * parts["encoder"][0], config.dim
    yield from (("qkv", rows, 3 * dim, dim), ("proj", rows, dim, dim))
    yield from (("fc1", rows, config.mlp_dim, dim), ("fc2", rows, dim, config.mlp_dim))
    rows, dim, width = setup.views * parts["decoder"][0], config.decoder_dim, config.decoder_mlp_dim
    for hidden in sorted({width, width + -width % ALIGNED}):
        yield f"decoder fc1 {hidden}", rows, hidden, dim
        yield f"decoder fc2 {hidden}", rows, dim, hidden


def step_variants() -> dict[str, Variant]:
    """One change at a time."""
    best = Variant(padded=True, attention=FASTEST, aside=True)
    return {
        "eager": Variant(),
        "eager again": Variant(),
        "padded": Variant(padded=True),
        "fastest attention": Variant(attention=FASTEST),
        "copied aside": Variant(aside=True),
        "all but compiled": best,
        "compiled": Variant(compiled=True),
        "all": replace(best, compiled=True),
        "all, selective": replace(best, compiled=True, recompute=Recompute.selective),
    }


def step(check: Check) -> None:
    """All changes together at all numbers of views, then each by itself at the least."""
    table, variants = check.table("step"), step_variants()
    together = ("eager", "all", "all, selective")
    rows = [(views, name) for views in check.views for name in together]
    rows += [(check.views[0], name) for name in variants if name not in together]
    for views, name in rows:
        step_row(check, table, check.setup("vit_giant", "pretrain", views), name, variants[name])


def step_row(check: Check, table: Table, setup: Setup, name: str, variant: Variant) -> None:
    """One variant, timed."""
    what = {"variant": name, "views": setup.views}
    if check.late:
        table.row(**what, result="not run: no time left")
        return
    clean(check.device)
    stepper = None
    try:
        began = time.perf_counter()
        stepper = started(check, setup, variant)
        for _ in range(3):
            stepper.step()
        ready = time.perf_counter() - began
        took = median([stepper.step() for _ in range(check.steps)])
    except Exception as error:
        table.row(**what, result=first_line(error))
        return
    finally:
        if stepper is not None:
            stepper.close()
    done = setup.flops() / took.seconds
    memory = torch.cuda.max_memory_allocated() / 1e9 if setup.cuda else 0.0
    table.row(
        **what,
        ms=1e3 * took.seconds,
        host_ms=1e3 * took.host,
        views_per_s=setup.views / took.seconds,
        tflops=done / 1e12,
        of_the_peak=f"{done / check.peak:.1%}",
        of_the_held=f"{done / check.held:.1%}",
        gb=memory,
        loss=took.loss,
        warm_up_s=ready,
    )


def compare(check: Check) -> None:
    """Whether each faster way computes what the plain one does, and how much faster all are."""
    table = check.table("compare")
    setup = check.setup("vit_giant", "pretrain", 8)
    plain = losses(check, setup, Variant())
    others = {name: each for name, each in step_variants().items() if name != "eager"}
    for kernel in KERNELS:
        others[kernel.name] = Variant(attention=kernel)
    others["as VideoMAE V2"] = PLAIN
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
    speed = check.setup("vit_giant", "pretrain", check.views[min(1, len(check.views) - 1)])
    for name, variant in (("as VideoMAE V2", PLAIN), ("all", step_variants()["all"])):
        step_row(check, table, speed, name, variant)


def losses(check: Check, setup: Setup, variant: Variant) -> list[float]:
    """Of five steps."""
    clean(check.device)
    return [each.loss for each in steps(check, setup, variant, 5)]


def vitb(check: Check) -> None:
    """Small products and many launches."""
    table = check.table("vitb")
    for views in (2,) if check.toy else (32, 256):
        setup = check.setup("vit_base", "pretrain", views)
        for name in ("eager", "compiled", "all"):
            step_row(check, table, setup, name, step_variants()[name])


def finetune(check: Check) -> None:
    """All tokens, mixup and drop path."""
    table = check.table("finetune")
    setup = check.setup("vit_giant", "finetune", 8)
    for name in ("eager", "fastest attention", "compiled", "all", "all, selective"):
        step_row(check, table, setup, name, step_variants()[name])


PARTS = {each.__name__: each for each in (crashes, attention, gemm, step, compare, vitb, finetune)}


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
