"""One sinusoid run: a method trained with one seed, measured and reported in a run folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dmcm.errors import ConfigError
from dmcm.learner import Learner
from dmcm.models import load_learner
from dmcm.run_config import claim_run
from dmcm.runs import RunFolder
from dmcm.sinusoid import protocol
from dmcm.sinusoid.comparison import inner_step_curve
from dmcm.sinusoid.family import SinusoidSampler
from dmcm.sinusoid.measures import all_measures
from dmcm.sinusoid.methods import build_method, method_named
from dmcm.storage import sole_writer
from dmcm.studies import fit_config
from dmcm.training import fit

KIND = "sinusoid"
"""Value of "kind" in the `config.json` of these runs."""


@dataclasses.dataclass(frozen=True)
class SingleConfig:
    """Train one method with one seed."""

    method: str = "dmcm"
    """Name of the method; an unknown name lists all."""
    seed: int = 0
    """Seed of initial weights and training batches."""
    steps: int = 30_000
    """Outer steps."""
    out: Path = Path("runs/sinusoid")
    """Run folder."""
    resume: bool = False
    """Continue from the newest checkpoint in the run folder."""

    def about(self) -> dict[str, Any]:
        """The content of `config.json`.

        Raises:
            ConfigError: an unknown method.
        """
        settings = dataclasses.asdict(method_named(self.method))
        about = {"kind": KIND, "method": self.method, "seed": self.seed, "steps": self.steps}
        return json.loads(json.dumps({**about, "settings": settings}))


def check_about(about: Mapping[str, Any]) -> None:
    """Raise `ConfigError` unless a run's configuration says which method it is, its steps and its seed."""
    method_named(str(about.get("method")))
    for name in ("steps", "seed"):
        if not isinstance(about.get(name), int):
            raise ConfigError(f"the run's config.json has no whole number of {name}: {about.get(name)!r}.")


def train(config: SingleConfig, *, progress: bool = True) -> Learner:
    """Train in the run folder.

    Raises:
        ConfigError: an unknown method or settings out of range.
        CheckpointError: the folder holds a run, and `resume` is off or it is a different one.
        DmcmError: as for `fit`.
    """
    settings = fit_config(method_named(config.method), config.seed, config.steps)
    settings.check()
    folder = RunFolder(config.out)
    with sole_writer(folder.path):
        claim_run(folder, config.about(), resume=config.resume)
    result = fit(
        build_method(config.method, config.seed),
        SinusoidSampler(),
        settings,
        run_dir=config.out,
        resume=config.resume,
        progress=progress,
    )
    return result.learner


def measure(folder: RunFolder, *, contexts: bool = True, inner_steps: bool = True) -> dict[str, Any]:
    """Measure the run's model by the protocol and write `metrics.json`.

    Args:
        folder: a run with a trained model.
        contexts: also examine its contexts: probes, swap and clamp test, error by number of points.
        inner_steps: also measure with other numbers of inner steps.

    Raises:
        StorageError: the run has no model, or it cannot be read.
    """
    learner = load_learner(folder.model)
    metrics: dict[str, Any] = {"protocol": protocol.evaluate(learner)}
    if contexts:
        metrics |= all_measures(learner)
    if inner_steps:
        metrics["inner_steps"] = inner_step_curve(learner, protocol.TEST_SEED)
    folder.write_metrics(metrics)
    return folder.read_metrics()
