"""Settings of the optimiser AdamW, its learning rate schedule and the regularisation."""

from dataclasses import dataclass

from videomae.config.settings import check, check_bounds, setting


@dataclass(frozen=True)
class OptimConfig:
    """Settings of AdamW, its learning rate schedule and the regularisation."""

    global_batch: int = setting(at_least=1, on_page=True, often=True)
    """Number of videos per optimiser step, over all processes and micro-batches; repeats are not
    counted."""
    base_lr: float = setting(at_least=0, on_page=True, often=True)
    """Peak learning rate per 256 videos; the rate used is base_lr * global_batch / 256, unless lr
    is given."""
    min_lr: float = setting(at_least=0)
    """Learning rate at the end of the cosine schedule, per 256 videos; with lr, too, min_lr *
    global_batch / 256 is used."""
    betas: list[float] = setting()
    """The two betas of AdamW."""
    epochs: int = setting(at_least=1, at_most=1_000_000, on_page=True, often=True)
    """Number of epochs (passes over the training list); the schedule spans all of them."""
    warmup_epochs: float = setting(at_least=0, on_page=True)
    """Number of epochs during which the learning rate rises linearly from 0."""
    lr: float | None = setting(
        None, above=0, null="base_lr * global_batch / 256", new=True, on_page=True, often=True
    )
    """Peak learning rate itself, whatever the batch, in place of base_lr; null: base_lr decides."""
    weight_decay: float = setting(0.05, at_least=0)
    """Weight decay of AdamW, on matrices only: not on biases, norms and the mask token."""
    eps: float = setting(1e-8, at_least=0)
    """Epsilon of AdamW."""
    clip_grad: float | None = setting(None, above=0, null="no clipping")
    """Largest norm of the gradient, to which it is clipped; null: no clipping."""
    layer_decay: float = setting(1.0, above=0, at_most=1, on_page=True)
    """Layer-wise learning rate decay: the rate of each block as a share of the next block's."""
    drop_path: float = setting(0.0, at_least=0, at_most=1, finetuning_only=True, on_page=True)
    """Drop path rate: the probability with which a branch of the last block is skipped for a view;
    it rises linearly from 0 with depth."""
    head_drop: float = setting(0.0, at_least=0, at_most=1, finetuning_only=True)
    """Dropout probability before the classifier's head."""
    label_smoothing: float = setting(0.0, at_least=0, at_most=1, finetuning_only=True)
    """Label smoothing: the share of the label's probability that is spread over all classes."""
    ema_decay: float | None = setting(
        None, above=0, below=1, null="none", finetuning_only=True, on_page=True
    )
    """Decay per step of an exponential moving average (EMA) of the weights, which is then evaluated
    and written; null: no EMA."""
    objective: str | None = setting(None, new=True, on_page=True)
    """Your own objective, as package.module:Name, in place of the stage's; see docs/extending.md.
    """

    def __post_init__(self) -> None:
        check_bounds(self, "optim")
        check(
            len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas),
            f"optim.betas must be two numbers in [0, 1), got {self.betas}",
        )

    def check_warmup(self) -> None:
        """Check that the warm-up is no longer than the run.

        Raises:
            ConfigError: it is.
        """
        check(
            self.warmup_epochs <= self.epochs,
            f"optim.warmup_epochs={self.warmup_epochs:g} is more than optim.epochs={self.epochs}: "
            f"give optim.warmup_epochs={self.epochs / 10:g}, or another number below it",
        )
