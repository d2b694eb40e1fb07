"""The training loop of a policy: phases with new bodies, updates, checkpoints, metrics."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dmcm.checkpoints import load_checkpoint, save_checkpoint
from dmcm.errors import ConfigError
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.observations import REALISTIC_NOISE
from dmcm.quadruped.walking.policy import POLICY_FILE, Policy, save_policy
from dmcm.quadruped.walking.ppo import Ends, PpoConfig, Trainee, collect, improve
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.run_config import claim_run
from dmcm.runs import RunFolder
from dmcm.storage import sole_writer


@dataclasses.dataclass(frozen=True)
class Schedule:
    """How long and with how many robots a policy is trained."""

    iterations: int = 150
    """Updates of the policy."""
    robots: int = 256
    """Robots that walk in parallel."""
    phase: int = 25
    """Updates after which all robots get new bodies, episodes restart and a checkpoint is written."""
    seed: int = 0
    """Seed for weights, bodies and all other random draws."""
    ppo: PpoConfig = dataclasses.field(default_factory=PpoConfig)
    """Settings of PPO."""
    threads: int = 0
    """Physics threads; 0 means one per core. They affect only the speed."""

    def check_schedule(self) -> None:
        """Raise `ConfigError` for settings out of range."""
        if min(self.iterations, self.robots, self.phase) < 1:
            raise ConfigError("iterations, robots and phase must be at least 1.")
        if self.seed < 0:
            raise ConfigError(f"seed={self.seed} must not be negative.")
        self.ppo.check(self.robots)


@runtime_checkable
class Scene(Protocol):
    """Which robots walk where."""

    def environment(self, rng: np.random.Generator) -> WalkEnvironment:
        """The robots of a new phase, drawn with `rng`."""
        ...

    def ended(self, ends: Ends, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Robots to move after their episode ended, shape (k,), and numbers of their new grounds, (k,)."""
        ...

    def state(self) -> dict[str, Any]:
        """State for a checkpoint, as JSON values."""
        ...

    def restore(self, state: Mapping[str, Any]) -> None:
        """Restore the state from a checkpoint."""
        ...

    def measures(self) -> dict[str, float]:
        """Measures of progress, for the metrics."""
        ...


def training_walk() -> WalkConfig:
    """Settings of walking in training: noisy sensors and pushes."""
    return WalkConfig(noise=REALISTIC_NOISE, push_m_s=0.4)


def train_in_phases(
    first: Policy,
    scene: Scene,
    schedule: Schedule,
    out: Path,
    about: Mapping[str, Any],
    *,
    resume: bool = False,
    progress: bool = True,
) -> Policy:
    """Train a policy; `out` becomes a run folder with metrics, checkpoints and `policy.safetensors`.

    With `resume`, an interrupted run continues and ends in the same bits.

    Args:
        first: the policy to begin with.
        scene: which robots walk where.
        schedule: how long.
        out: the run folder.
        about: settings of the run as JSON values, which a resumed run must share and the policy's file
            records.
        resume: continue an interrupted run.
        progress: show a progress bar.

    Raises:
        CheckpointError: `out` holds another run, or one that must be resumed.
        StorageError: something cannot be read or written, or another process is training in `out`.
        DivergenceError: training produced non-finite numbers.
    """
    folder = RunFolder(out)
    with sole_writer(folder.path):
        return _train(first, scene, schedule, folder, about, resume=resume, progress=progress)


def _train(
    first: Policy,
    scene: Scene,
    schedule: Schedule,
    folder: RunFolder,
    about: Mapping[str, Any],
    *,
    resume: bool,
    progress: bool,
) -> Policy:
    """As `train_in_phases`, in a folder that no other process writes to."""
    claim_run(folder, about, resume=resume)
    key = jax.random.key(schedule.seed)
    trainee = Trainee(first, schedule.ppo)
    done = 0
    if (found := load_checkpoint(folder.checkpoints, {"trainee": trainee})) is not None:
        state, beside = found
        trainee, done = state["trainee"], beside["step"]
        scene.restore(beside)
    folder.rewind(done)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("walking", total=schedule.iterations, completed=done, state="")
        while done < schedule.iterations:
            rng = np.random.default_rng([schedule.seed, done])
            environment = scene.environment(rng)
            observation, _ = environment.reset(seed=int(rng.integers(2**31)))
            # Episodes that start together end together: stagger them.
            environment.step_count[:] = rng.integers(0, environment.step_limit, schedule.robots)
            for _ in range(min(schedule.phase, schedule.iterations - done)):
                acting, learning = jax.random.split(jax.random.fold_in(key, done + 1))
                rollout, observation, last, ends = collect(
                    trainee.policy, environment, observation, schedule.ppo, acting
                )
                trainee, measures = improve(trainee, rollout, last, schedule.ppo, learning)
                moved, tiles = scene.ended(ends, rng)
                if len(moved):
                    environment.move_to(moved, tiles)
                    observation[moved] = environment.observe(moved)
                done += 1
                measures |= {
                    "reward_per_s": float(np.mean(rollout.reward)) / CONTROL_PERIOD_S,
                    "falls": float(ends.fell.mean()),
                    "divergences": float(environment.simulation.divergences),
                    **scene.measures(),
                }
                folder.log(done, measures)
                bar.update(
                    task,
                    completed=done,
                    state=f"reward {measures['reward_per_s']:.2f}/s falls {ends.fell.mean():.0%}",
                )
            save_checkpoint(folder.checkpoints, done, {"trainee": trainee}, scene.state())
    folder.close()
    save_policy(folder.path / POLICY_FILE, trainee.policy, {"training": dict(about)})
    return trainee.policy
