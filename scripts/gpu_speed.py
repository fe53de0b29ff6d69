"""Measurements of gpu_check.py: the device's time of attention, of matrix products and of steps."""

import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from measuring import PLAIN, Setup, Stepper, Table, Variant, clean, hardware, median
from torch.profiler import ProfilerActivity

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
from videomae.model.attention import AttentionKernel, attend, candidate_kernels, measure
from videomae.model.timing import device_seconds
from videomae.train.tuning import ALIGNED, measure_padding

FASTEST = AttentionBackend.auto
REFERENCE = "as VideoMAE V2"
KERNELS = (AttentionBackend.flash, AttentionBackend.cudnn, AttentionBackend.efficient)
TOY = ModelConfig(
    *("toy", 32, 2, 2, 64),
    patch=8,
    decoder_dim=24,
    decoder_heads=2,
    decoder_mlp_dim=53,
    decoder_depth=1,
)


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
    fastest: dict[tuple[str, int], dict[str, AttentionKernel]] = field(default_factory=dict)
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

    def kernels(self, setup: Setup) -> dict[str, AttentionKernel]:
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


def started(check: Check, setup: Setup, variant: Variant, *, genuine: bool = False) -> Stepper:
    """A model that has taken no step. Toys are compiled without code being generated, which would
    take most of a self-test, unless it is to be genuine."""
    quick = partial(torch.compile, backend="eager")
    compiler = quick if check.toy and not genuine else torch.compile
    with mock.patch.object(torch, "compile", compiler):
        return Stepper(setup, variant, check.kernels(setup))


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
            times = measure(
                candidate_kernels(FASTEST, dim // heads), size, check.device, setup.dtype
            )
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


def host_ms(size: tuple[int, int, int, int], way: AttentionKernel, setup: Setup) -> float:
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


def step(check: Check) -> None:
    """All changes together at all numbers of views, the reference at one of them, then each change
    by itself at the least."""
    table, variants = check.table("step"), step_variants() | {REFERENCE: PLAIN}
    together = ("eager", "all", "all, selective")
    rows = [(views, name) for views in check.views for name in together]
    rows.append((check.views[len(check.views) // 2], REFERENCE))
    rows += [(check.views[0], name) for name in variants if name not in (*together, REFERENCE)]
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


KINDS = {
    "matrix products": r"gemm|nvjet|cutlass|addmm|::mm$|bmm|linear",
    "attention": r"flash|cudnn|sdpa|fmha|attention|softmax",
    "optimiser and norms": r"adam|foreach|multi_tensor|lpnorm|vector_norm",
    "layer norms": r"layer_norm|native_layer",
    "copies": r"memcpy|memset|copy|clone|contiguous|cat",
}
"""What a kernel does, by its name; what fits none, compiled code among it, is "other"."""


def profile(check: Check) -> None:
    """What the device does in a step, all changes together, at the most views."""
    table = check.table("profile")
    setup = check.setup("vit_giant", "pretrain", check.views[-1])
    stepper = started(check, setup, step_variants()["all"])
    try:
        for _ in range(3):
            stepper.step()
        kinds = [ProfilerActivity.CUDA if setup.cuda else ProfilerActivity.CPU]
        with torch.profiler.profile(activities=kinds, acc_events=True) as watched:
            took = [stepper.step() for _ in range(3)]
    finally:
        stepper.close()
    spent: dict[str, float] = dict.fromkeys([*KINDS, "other"], 0.0)
    for event in watched.key_averages():
        micro = event.self_device_time_total if setup.cuda else event.self_cpu_time_total
        kind = (kind for kind, names in KINDS.items() if re.search(names, event.key.lower()))
        spent[next(kind, "other")] += micro / 1e3 / len(took)
    spent["idle"] = max(0.0, 1e3 * median(took).seconds - sum(spent.values()))
    total = sum(spent.values())
    for kind, ms in (spent | {"all": total}).items():
        table.row(kind=kind, views=setup.views, ms=ms, share=f"{ms / total:.1%}")


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
