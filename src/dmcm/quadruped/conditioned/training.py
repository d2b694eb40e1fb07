"""Train a policy that is given vectors, on the robots and grounds of a collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.bank import ContextBank
from dmcm.errors import ConfigError, unknown_name
from dmcm.quadruped.conditioned.draws import Draw, draw_cells, given_in
from dmcm.quadruped.conditioned.gait_fit import fit_gait
from dmcm.quadruped.conditioned.gait_trials import GaitTrials, gait_trials
from dmcm.quadruped.conditioned.methods import METHODS
from dmcm.quadruped.conditioned.vectors import fill_bank, read_bank
from dmcm.quadruped.conditioned.widening import read_gains, widen
from dmcm.quadruped.data.collection import Collection, read_collection
from dmcm.quadruped.data.windows import WindowConfig, cut
from dmcm.quadruped.dynamics.cells import Cells, describe_cells
from dmcm.quadruped.dynamics.model import DynamicsModel, trained_model
from dmcm.quadruped.walking.environment import WalkEnvironment
from dmcm.quadruped.walking.guides import Guide, History, Vectors
from dmcm.quadruped.walking.loop import Schedule, train_in_phases, training_walk
from dmcm.quadruped.walking.policy import POLICY, POLICY_FILE, Policy, load_policy, save_policy
from dmcm.quadruped.walking.ppo import Ends, PpoConfig
from dmcm.quadruped.walking.told_gait import GaitReader
from dmcm.quadruped.world.arena import Arena
from dmcm.storage import digest, tree_arrays


@dataclasses.dataclass(frozen=True)
class PolicyTraining(Schedule):
    """How a policy that is given vectors is trained."""

    method: str = "vanilla"
    """What it is given: vanilla, single, dmcm, history, oracle, dmcm_ground, vanilla_gait, single_gait,
    single_fixed, dmcm_gait, oracle_gait, single_told, ground_told, dmcm_told or oracle_told."""
    data: Path = Path("runs/quadruped-data")
    """Output folder of `dmcm quadruped collect`: its seen pairs are the robots and grounds of training."""
    dynamics: Path = Path("runs/quadruped-dynamics")
    """Output folder of `dmcm quadruped dynamics`: its models of the same seed make the vectors."""
    banks: Path = Path("runs/quadruped-banks")
    """Folder of context banks, one per model; missing vectors are added."""
    trials: Path = Path("runs/quadruped-trials")
    """Folder of walks with random gaits, a folder per seed, from which methods learn a gait; missing ones are
    walked."""
    start: Path = POLICY
    """Walking policy that all methods start from. Methods that use the actor of another take it unchanged, so
    for them it is the trained policy of the other."""
    noise: float = 0.1
    """Standard deviation of the noise added to vectors in each phase, as a share of their spread."""
    iterations: int = 400
    """Updates of the policy."""
    robots: int = 320
    """Robots that walk in parallel."""
    ppo: PpoConfig = dataclasses.field(default_factory=lambda: PpoConfig(learning_rate=1e-4))
    """Settings of PPO; the policy walks already, so the first steps are small."""

    def check(self) -> PolicyTraining:
        """Return self, or raise `ConfigError` for settings out of range."""
        self.check_schedule()
        if self.method not in METHODS:
            raise ConfigError(unknown_name("method", self.method, METHODS))
        if not 0 <= self.noise < np.inf:
            raise ConfigError(f"noise={self.noise} must be a finite number, not negative.")
        return self


class CellScene:
    """Robots on grounds of the seen pairs, redrawn in each phase, with vectors from other cells.

    Vectors come from donors as in `draws.given_in`.
    """

    def __init__(
        self,
        collection: Collection,
        cells: np.ndarray,
        method: str,
        vectors: Mapping[str, np.ndarray],
        schedule: Schedule,
        noise: float,
    ):
        """Prepare the phases.

        Args:
            collection: source of robots and grounds.
            cells: numbers of the training cells, shape (n,).
            method: name in `METHODS`.
            vectors: per kind in the method's `vectors` one row per cell, shape (n, size).
            schedule: how many robots walk.
            noise: standard deviation added to vectors, as a share of their spread.
        """
        grid = collection.grid
        self._table = collection.table()
        self._arena, self._bodies = Arena(grid.terrains), grid.robots
        self._robot = np.array([grid.cells[cell].robot for cell in cells])
        self._terrain = np.array([grid.cells[cell].terrain for cell in cells])
        self._told, self._vectors = METHODS[method], vectors
        self._schedule, self._noise = schedule, noise

    def environment(self, rng: np.random.Generator) -> WalkEnvironment:
        """Draw cells and the donors of their vectors."""
        # Drawn for every method, so that all meet the same robots and grounds.
        draw = draw_cells(self._robot, self._terrain, self._schedule.robots, rng)
        return WalkEnvironment(
            self._table,
            self._arena,
            [self._bodies[robot] for robot in self._robot[draw.rows]],
            self._terrain[draw.rows],
            training_walk(),
            guide=self._guide(draw, np.random.default_rng(rng.integers(2**31))),
            threads=self._schedule.threads,
        )

    def ended(self, ends: Ends, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """No robot is moved."""
        return np.zeros(0, int), np.zeros(0, int)

    def state(self) -> dict[str, Any]:
        """Nothing is carried from phase to phase."""
        return {}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Nothing needs to be restored."""

    def measures(self) -> dict[str, float]:
        """None of its own."""
        return {}

    def _guide(self, draw: Draw, rng: np.random.Generator) -> Guide | None:
        if self._told.history:
            return History(len(draw.rows))
        if not self._told.vectors:
            return None
        return Vectors(given_in(draw, self._told.vectors, self._vectors, self._noise, rng))


def train_policy(config: PolicyTraining, out: Path, *, resume: bool = False, progress: bool = True) -> Policy:
    """Train a policy; `out` becomes a run folder as in `loop.train_in_phases`.

    Raises:
        ConfigError: settings out of range, or `start` is not of the method whose actor this one uses.
        DmcmError: data, models, a bank or a policy that cannot be used; as `train_in_phases`.
    """
    config = config.check()
    start, first_about = load_policy(config.start)
    actor, trained = METHODS[config.method].actor, first_about.get("training", {})
    if actor is not None and trained.get("method") != actor:
        raise ConfigError(
            f"method {config.method} uses the trained actor of {actor}, but {config.start} is "
            f"{trained.get('method') or 'the walking policy'}. Start from a policy of {actor}; `dmcm "
            f"quadruped train-policy --methods {config.method}` trains one first."
        )
    collection = read_collection(config.data)
    cells = describe_cells(collection, cut(collection.data, WindowConfig()))
    which = cells.of("seen_pair")
    vectors, told = told_vectors(config, collection, cells, which)
    table = collection.table()
    robots = [collection.grid.robots[cells.robot[cell]] for cell in which]
    gains = read_gains(config.method, vectors, robots, table)
    gait = None
    if METHODS[config.method].gait is not None:
        trials = gait_trials(
            config.trials / f"seed-{config.seed}",
            start,
            collection,
            which,
            robots=config.robots,
            seed=config.seed,
            threads=config.threads,
            progress=progress,
        )
        gait = learned_gait(config, trials, vectors)
    first = widen(start, config.method, vectors, gains, gait)
    about = {"kind": "quadruped policy training", **dataclasses.asdict(config), "told": told}
    for name in ("threads", "dynamics", "banks", "trials"):
        del about[name]
    about |= {"start": config.start.name, "data": collection.config}
    about["digests"] = {"data": collection.digest, "robot": table.digest, "start": digest(tree_arrays(start))}
    if actor is not None:
        # Nothing is left to learn: the actor is trained, and the reader was fitted.
        about["actor"] = trained
        save_policy(out / POLICY_FILE, first, {"training": about})
        return first
    scene = CellScene(collection, which, config.method, vectors, config, config.noise)
    return train_in_phases(first, scene, config, out, about, resume=resume, progress=progress)


def told_vectors(
    config: PolicyTraining, collection: Collection, cells: Cells, which: np.ndarray
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """What a method is given for cells, and which model it comes from.

    Returns:
        One row per cell for each kind of vector, shape (n, size); and for the policy's file the kinds, their
        sizes, and the fingerprint of the model that made them.
    """
    kinds = METHODS[config.method].vectors
    truth = {"true_" + name: values[which] for name, values in cells.truth.items()}
    found, model = {kind: truth[kind] for kind in kinds if kind in truth}, None
    if (maker := _maker(config)) is not None:
        name = METHODS[config.method].model
        bank = ContextBank(config.banks / f"{name}-seed-{config.seed}")
        fill_bank(bank, maker, collection, cells, which)
        found, model = read_bank(bank, maker.learner, collection.grid, which), maker.learner.fingerprint()
    return found, {"vectors": {kind: found[kind].shape[1] for kind in kinds}, "model": model}


def learned_gait(config: PolicyTraining, trials: GaitTrials, vectors: Mapping[str, np.ndarray]) -> GaitReader:
    """The gait of a method, chosen by those of its vectors that `Told.gait` names.

    Args:
        config: with noise as in training.
        trials: walks with random gaits.
        vectors: per kind in the method's `vectors` one row per training cell, shape (cells, size).
    """
    told = METHODS[config.method]
    given = given_in(trials.draw, told.vectors, vectors, config.noise, np.random.default_rng(config.seed))
    read = [np.full(vectors[kind].shape[1], kind in (told.gait or ())) for kind in told.vectors]
    return fit_gait(trials, given, np.concatenate([np.zeros(0, bool), *read]), seed=config.seed)


def vectors_model(config: PolicyTraining) -> str | None:
    """Fingerprint of the model that makes a method's vectors; None if it needs none.

    Raises:
        StorageError: the model is missing or damaged.
    """
    maker = _maker(config)
    return None if maker is None else maker.learner.fingerprint()


def _maker(config: PolicyTraining) -> DynamicsModel | None:
    """The model that makes a method's vectors."""
    told = METHODS[config.method]
    return None if told.model is None else trained_model(config.dynamics, told.model, config.seed)
