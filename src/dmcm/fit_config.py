"""Settings of the outer loop."""

from __future__ import annotations

import dataclasses

import numpy as np

from dmcm.errors import ConfigError, unknown_name

OPTIMISERS = ("adam", "muon")
"""Names of the outer loop's optimisers."""


@dataclasses.dataclass(frozen=True)
class FitConfig:
    """Settings of the outer loop."""

    steps: int = 20_000
    """Outer steps in all."""
    optimiser: str = "adam"
    """"adam", or "muon": weight matrices by Muon, the rest by Adam. On noise-free data, Muon leaves a
    fraction of Adam's error after the same number of steps."""
    learning_rate: float = 3e-3
    """Peak of the learning rate; it warms up, then falls to a thousandth along a cosine."""
    prior_rate: float = 1.0
    """Learning rate of the contexts' prior as a multiple of `learning_rate`. Precisions are learned on a
    logarithmic scale and may have to move by orders of magnitude: 10 helps with long training and plenty of
    data, but lets small tables overfit."""
    warmup: int = 500
    """Steps until the peak, at most a tenth of all steps."""
    clip: float = 1.0
    """Largest norm of the outer gradient. If a few tasks have gradients far above the rest, as in recombined
    losses on noise-free data, a value below the usual norm (0.01) keeps them from dominating."""
    recombination: float = 4.0
    """Weight of the recombined-context query loss; 0 trains on own contexts alone."""
    dependence: float = 0.0
    """Weight of the penalty on statistical dependence between the factors' contexts."""
    omission: float = 0.0
    """Weight of the query loss with one factor's context left at the prior mean. With it, the prior mean
    stands for "unknown" and is safe to use for a factor without data."""
    outlier_scale: float | None = None
    """Errors of single tasks beyond this (mean square, standardised units) count by their root; None counts
    all in full. Helps on noise-free data where a few ill-determined tasks would dominate the gradient."""
    chunk: int = 500
    """Steps compiled into one scan; metrics are logged and checkpoints written between chunks."""
    checkpoint_seconds: float = 20.0
    """Shortest time between two checkpoints; one is always written at the end."""
    patience: int = 0
    """Stop after this many validations (one a chunk) without a new best; 0 never stops early."""
    seed: int = 0
    """Seed of batches and donors."""

    def __post_init__(self):
        """Convert NumPy numbers to Python's, which JSON can hold."""
        for name, value in vars(self).items():
            if isinstance(value, np.generic):
                object.__setattr__(self, name, value.item())

    def check(self) -> None:
        """Raise `ConfigError` for a setting outside its range."""
        if self.optimiser not in OPTIMISERS:
            raise ConfigError(unknown_name("optimiser", self.optimiser, OPTIMISERS))
        values = {
            name: value
            for name, value in vars(self).items()
            if name != "optimiser" and (name != "outlier_scale" or value is not None)
        }
        is_number = lambda value: isinstance(value, (int, float)) and not isinstance(value, bool)  # noqa: E731
        if odd := [f"{name}={value!r}" for name, value in values.items() if not is_number(value)]:
            raise ConfigError(f"training settings must be numbers, not {', '.join(odd)}.")
        positive, not_negative = "a finite number above 0", "a finite number of at least 0"
        at_least_one, at_least_zero = "a whole number of at least 1", "a whole number of at least 0"
        limits = {
            "steps": (self.steps >= 1, at_least_one),
            "learning_rate": (0 < self.learning_rate < float("inf"), positive),
            "prior_rate": (0 < self.prior_rate < float("inf"), positive),
            "warmup": (self.warmup >= 0, at_least_zero),
            "clip": (self.clip > 0, "a number above 0"),
            "recombination": (0 <= self.recombination < float("inf"), not_negative),
            "dependence": (0 <= self.dependence < float("inf"), not_negative),
            "omission": (0 <= self.omission < float("inf"), not_negative),
            "outlier_scale": (
                self.outlier_scale is None or 0 < self.outlier_scale < float("inf"),
                f"None or {positive}",
            ),
            "chunk": (self.chunk >= 1, at_least_one),
            "checkpoint_seconds": (self.checkpoint_seconds >= 0, "a number of at least 0"),
            "patience": (self.patience >= 0, at_least_zero),
            "seed": (0 <= self.seed < 2**32, "a whole number from 0 to 4294967295"),
        }
        for name in ("steps", "warmup", "chunk", "patience", "seed"):
            fine, limit = limits[name]
            limits[name] = (fine and type(getattr(self, name)) is int, limit)
        bad = [
            f"{name}={getattr(self, name)!r} (valid: {limit})"
            for name, (fine, limit) in limits.items()
            if not fine
        ]
        if bad:
            raise ConfigError(f"training settings out of range: {', '.join(bad)}.")
