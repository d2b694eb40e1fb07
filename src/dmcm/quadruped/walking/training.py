"""Teach robots to walk, on ground that gets harder as they get better."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dmcm.checkpoints import load_checkpoint, save_checkpoint
from dmcm.errors import ConfigError
from dmcm.quadruped.body.properties import draw_robots
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.walking.environment import WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.observations import OBSERVATION, PRIVILEGED, REALISTIC_NOISE
from dmcm.quadruped.walking.policy import Policy, load_policy, save_policy
from dmcm.quadruped.walking.ppo import Ends, PpoConfig, Trainee, collect, improve
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.quadruped.world.terrain import Terrain
from dmcm.run_config import claim_run
from dmcm.runs import RunFolder

LADDERS: tuple[tuple[Terrain, ...], ...] = (
    (Terrain("flat"), Terrain("flat", friction=0.5)),
    tuple(Terrain("rough", size, 0.2) for size in (0.02, 0.04, 0.06, 0.08)),
    tuple(Terrain("slope_up", grade) for grade in (0.06, 0.12, 0.18, 0.24, 0.28)),
    tuple(Terrain("slope_down", grade) for grade in (0.06, 0.12, 0.18, 0.24, 0.28)),
    tuple(Terrain("stairs_up", rise) for rise in (0.02, 0.04, 0.06, 0.08, 0.09)),
    tuple(Terrain("stairs_up", rise, friction=0.9) for rise in (0.03, 0.05, 0.07, 0.08, 0.09)),
    tuple(Terrain("stairs_down", rise) for rise in (0.02, 0.04, 0.06, 0.08, 0.09)),
    tuple(Terrain("waves", height, 1.0) for height in (0.03, 0.06, 0.09, 0.12, 0.14)),
)
"""Grounds of the curriculum, each kind from easy to hard, and the hardest kind twice. None is as hard as, or
of the kind of, those kept out."""

_ENOUGH, _TOO_LITTLE = 0.6, 0.3
"""Shares of the commanded way from which a robot climbs its ladder, and below which it steps down."""


@dataclasses.dataclass(frozen=True)
class WalkTraining:
    """How a policy is trained."""

    robot: str = "go1"
    """Name of a robot, or path of a table of one."""
    rough_ground: bool = False
    """Climb the ladders of harder ground; else flat ground alone."""
    iterations: int = 150
    """Updates of the policy."""
    robots: int = 256
    """Robots that walk at once."""
    phase: int = 25
    """Updates after which all robots get other bodies, episodes begin anew and a checkpoint is written."""
    seed: int = 0
    """Of weights, bodies and chance."""
    start: Path | None = None
    """Policy to go on from, a `policy.safetensors`; a new one by default."""
    ppo: PpoConfig = dataclasses.field(default_factory=PpoConfig)
    """How the policy is improved."""
    threads: int = 0
    """Of the physics; 0 means one per core."""

    def check(self) -> WalkTraining:
        """Return self, or raise `ConfigError` for settings out of range."""
        if min(self.iterations, self.robots, self.phase) < 1:
            raise ConfigError("iterations, robots and phase must be at least 1.")
        self.ppo.check(self.robots)
        return self


def training_walk() -> WalkConfig:
    """Walking as trained: noisy sensors and pushes."""
    return WalkConfig(noise=REALISTIC_NOISE, push_m_s=0.4)


class Curriculum:
    """Which ground each robot is on: up a ladder after a good walk, down after a fall or little way.

    Attributes:
        ladder: of each robot, shape (n,).
        rung: how far up, shape (n,).
    """

    def __init__(self, ladders: tuple[tuple[Terrain, ...], ...], robots: int):
        """Spread robots over the ladders, all on the lowest rung."""
        self.arena = Arena([terrain for ladder in ladders for terrain in ladder])
        self._lengths = np.array([len(ladder) for ladder in ladders])
        self._first = np.cumsum([0, *self._lengths[:-1]])
        self.ladder = np.arange(robots) % len(ladders)
        self.rung = np.zeros(robots, int)

    @property
    def tiles(self) -> np.ndarray:
        """Numbers of the robots' grounds, shape (n,)."""
        return self._first[self.ladder] + self.rung

    def ended(self, ends: Ends, rng: np.random.Generator) -> np.ndarray:
        """Move robots whose episode ended.

        Args:
            ends: which fell and which walked to the end of their time, and how far.
            rng: source of chance.

        Returns:
            Robots whose ground changed.
        """
        before = self.rung.copy()
        walked = ends.cut & ~ends.fell
        self.rung += walked & (ends.progress > _ENOUGH)
        self.rung -= ends.fell | (walked & (ends.progress < _TOO_LITTLE))
        # Who has reached the top is sent anywhere on the ladder, so that nothing is forgotten.
        top = self.rung >= self._lengths[self.ladder]
        self.rung[top] = rng.integers(0, self._lengths[self.ladder[top]])
        self.rung = np.maximum(self.rung, 0)
        return np.flatnonzero(self.rung != before)


def train_walking(config: WalkTraining, out: Path, *, resume: bool = False, progress: bool = True) -> Policy:
    """Train a policy; `out` becomes a run folder with metrics, checkpoints and `policy.safetensors`.

    A run that was stopped, however it was, goes on with `resume` and ends in the same bits.

    Raises:
        ConfigError: settings out of range.
        CheckpointError: `out` holds another run, or one to be resumed.
        StorageError: something cannot be read or written.
        DivergenceError: training left the finite numbers.
    """
    config = config.check()
    table = load_robot(config.robot)
    folder = RunFolder(out)
    about = {"kind": "quadruped walking", **dataclasses.asdict(config)}
    del about["threads"]  # it changes nothing but the time
    claim_run(folder, {**about, "start": str(config.start or "")}, resume=resume)
    curriculum = Curriculum(LADDERS if config.rough_ground else (LADDERS[0][:1],), config.robots)
    key = jax.random.key(config.seed)
    policy = _first_policy(config, key)
    trainee = Trainee(policy, config.ppo)
    done = 0
    if (found := load_checkpoint(folder.checkpoints, {"trainee": trainee})) is not None:
        state, beside, _ = found
        trainee, done = state["trainee"], beside["step"]
        curriculum.rung[:] = beside["rung"]
    folder.rewind(done)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[state]}"),
    )
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("walking", total=config.iterations, completed=done, state="")
        while done < config.iterations:
            rng = np.random.default_rng([config.seed, done])
            environment = WalkEnvironment(
                table,
                curriculum.arena,
                draw_robots(rng, config.robots),
                curriculum.tiles,
                training_walk(),
                threads=config.threads,
            )
            observation, _ = environment.reset(seed=int(rng.integers(2**31)))
            # Episodes that start together end together: stagger them.
            environment.step_count[:] = rng.integers(0, environment.step_limit, config.robots)
            for _ in range(min(config.phase, config.iterations - done)):
                acting, learning = jax.random.split(jax.random.fold_in(key, done + 1))
                rollout, observation, last, ends = collect(
                    trainee.policy, environment, observation, config.ppo, acting
                )
                trainee, measures = improve(trainee, rollout, last, config.ppo, learning)
                if len(moved := curriculum.ended(ends, rng)):
                    environment.move_to(moved, curriculum.tiles[moved])
                    observation[moved] = environment.observe(moved)
                done += 1
                measures |= {
                    "reward_per_s": float(np.mean(rollout.reward)) / CONTROL_PERIOD_S,
                    "falls": float(ends.fell.mean()),
                    "rung": float(curriculum.rung.mean()),
                    "divergences": float(environment.simulation.divergences),
                }
                folder.log(done, measures)
                bar.update(
                    task,
                    completed=done,
                    state=f"reward {measures['reward_per_s']:.2f}/s falls {ends.fell.mean():.0%}",
                )
            save_checkpoint(
                folder.checkpoints, done, {"trainee": trainee}, {"rung": curriculum.rung.tolist()}
            )
    folder.close()
    save_policy(folder.path / "policy.safetensors", trainee.policy, {"training": _plain(about)})
    return trainee.policy


def _first_policy(config: WalkTraining, key: Any) -> Policy:
    if config.start is None:
        return Policy(sum(OBSERVATION.values()), sum(PRIVILEGED.values()), 12, key=key)
    return load_policy(config.start)[0]


def _plain(about: dict[str, Any]) -> dict[str, Any]:
    return {name: str(value) if isinstance(value, Path) else value for name, value in about.items()}
