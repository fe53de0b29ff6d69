"""CUDA's rules of arithmetic on a CPU, so that what would end a run on a GPU ends it here.

    with cuda_rules():
        pretrain(config)

Autocast on CUDA takes layer_norm, softmax, sums and more to float32, where autocast on CPUs leaves
them in bf16; and CUDA's flash and cuDNN attention take floats of 16 bits only, where the CPU's
takes any. Here the CPU does as CUDA does. cuDNN's attention, which it lacks, is computed plainly.
And as on a GPU, blocks in parts are gathered in bf16, and whether a step fits into the memory is
tried before a run begins.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_map

from videomae.train import sharding, trial

CPU, AUTOCAST = "cpu", "AutocastCPU"
IN_FLOAT32 = (
    *("layer_norm", "group_norm", "softmax.int", "log_softmax.int"),
    *("sum", "sum.dim_IntList", "prod", "prod.dim_int", "cumsum", "norm.ScalarOpt_dim"),
    *("pow.Tensor_Scalar", "pow.Tensor_Tensor", "pow.Scalar", "exp", "log", "rsqrt", "reciprocal"),
    *("mse_loss", "l1_loss", "nll_loss", "cosine_similarity", "cdist", "softplus"),
)
"""Operations that autocast takes to float32 on CUDA (torch's table, "CUDA Ops that can autocast to
float32"), as far as models are made of them."""
SIXTEEN_BITS = (torch.float16, torch.bfloat16)
NO_KERNEL = "No available kernel. Aborting execution."
"""What torch says on CUDA."""


@contextmanager
def cuda_rules() -> Iterator[None]:
    """Let autocast and attention on the CPU do what they do on CUDA."""
    library = torch.library.Library("aten", "IMPL")  # gone with the block
    for name in IN_FLOAT32:
        operator, _, overload = name.partition(".")
        packet = getattr(torch.ops.aten, operator)
        library.impl(name, in_float32(getattr(packet, overload or "default")), AUTOCAST)
    plain = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = attention_of_cuda(plain)
    trial.LIMITED = sharding.BF16_LAYER_NORM = (CPU,)
    try:
        yield
    finally:
        trial.LIMITED = sharding.BF16_LAYER_NORM = ("cuda",)
        F.scaled_dot_product_attention = plain
        library._destroy()


def in_float32(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The operation under autocast: its floats of 16 bits become those of 32 first."""

    def run(*arguments: Any, **named: Any) -> Any:
        keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
        with torch._C._ExcludeDispatchKeyGuard(keys):
            wide = tree_map(_widened, (arguments, named))
            return operator(*wide[0], **wide[1])

    return run


def _widened(value: Any) -> Any:
    narrow = isinstance(value, Tensor) and value.dtype in SIXTEEN_BITS
    return value.float() if narrow else value


def attention_of_cuda(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Attention that flash and cuDNN refuse to compute in anything but 16 bits.

    Raises:
        RuntimeError: as torch does on CUDA, where only these two may be taken.
    """

    def attend(q: Tensor, k: Tensor, v: Tensor, **settings: Any) -> Tensor:
        if torch._C._get_math_sdp_enabled():
            return plain(q, k, v, **settings)
        types = {_type_under_autocast(each) for each in (q, k, v)}
        if len(types) > 1:
            raise RuntimeError(f"Expected query, key, and value to have the same dtype: {types}")
        efficient = torch._C._get_mem_efficient_sdp_enabled()
        if not efficient and not types <= set(SIXTEEN_BITS):
            raise RuntimeError(NO_KERNEL)
        if torch._C._get_flash_sdp_enabled():
            return plain(q, k, v, **settings)
        with sdpa_kernel(SDPBackend.MATH):
            return plain(q, k, v, **settings)

    return attend


def _type_under_autocast(value: Tensor) -> torch.dtype:
    return torch.get_autocast_dtype(CPU) if torch.is_autocast_enabled(CPU) else value.dtype
