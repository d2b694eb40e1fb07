"""Train a policy that is given vectors, on the robots and grounds of a collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.bank import ContextBank
from dmcm.errors import ConfigError, unknown_name
from dmcm.quadruped.conditioned.methods import METHODS
from dmcm.quadruped.conditioned.vectors import fill_bank, read_bank
from dmcm.quadruped.conditioned.widening import read_gains, widen
from dmcm.quadruped.data.collection import Collection, read_collection
from dmcm.quadruped.data.windows import WindowConfig, cut
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, Cells, describe_cells
from dmcm.quadruped.dynamics.model import DynamicsModel, trained_model
from dmcm.quadruped.walking.environment import WalkEnvironment
from dmcm.quadruped.walking.guides import Guide, History, Vectors
from dmcm.quadruped.walking.loop import Schedule, train_in_phases, training_walk
from dmcm.quadruped.walking.policy import POLICY, POLICY_FILE, Policy, load_policy, save_policy
from dmcm.quadruped.walking.ppo import Ends, PpoConfig
from dmcm.quadruped.world.arena import Arena
from dmcm.storage import digest, tree_arrays


@dataclasses.dataclass(frozen=True)
class PolicyTraining(Schedule):
    """How a policy that is given vectors is trained."""

    method: str = "vanilla"
    """What it is given: vanilla, single, dmcm, history, oracle, dmcm_ground, single_told, ground_told,
    dmcm_told or oracle_told."""
    data: Path = Path("runs/quadruped-data")
    """Output folder of `dmcm quadruped collect`: its seen pairs are the robots and grounds of training."""
    dynamics: Path = Path("runs/quadruped-dynamics")
    """Output folder of `dmcm quadruped dynamics`: its models of the same seed make the vectors."""
    banks: Path = Path("runs/quadruped-banks")
    """Folder of context banks, one per model; missing vectors are added."""
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

    A robot's vector comes from any of its cells and a ground's from any cell on it, so that policies learn to
    walk by mixed vectors; a single vector for both can only be the cell's own.
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
        rows = rng.integers(0, len(self._robot), self._schedule.robots)
        # Drawn for every method, so that all meet the same robots and grounds.
        donors = {
            ROBOT: np.array([rng.choice(np.flatnonzero(self._robot == self._robot[row])) for row in rows]),
            TERRAIN: np.array(
                [rng.choice(np.flatnonzero(self._terrain == self._terrain[row])) for row in rows]
            ),
        }
        return WalkEnvironment(
            self._table,
            self._arena,
            [self._bodies[robot] for robot in self._robot[rows]],
            self._terrain[rows],
            training_walk(),
            guide=self._guide(rows, donors, np.random.default_rng(rng.integers(2**31))),
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

    def _guide(
        self, rows: np.ndarray, donors: Mapping[str, np.ndarray], rng: np.random.Generator
    ) -> Guide | None:
        if self._told.history:
            return History(len(rows))
        if not self._told.vectors:
            return None
        parts = []
        for kind in self._told.vectors:
            values = self._vectors[kind]
            found = values[donors.get(kind, rows)]
            parts.append(found + self._noise * values.std(axis=0) * rng.normal(size=found.shape))
        return Vectors(np.concatenate(parts, axis=1))


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
    first = widen(start, config.method, vectors, gains)
    about = {"kind": "quadruped policy training", **dataclasses.asdict(config), "told": told}
    for name in ("threads", "dynamics", "banks"):
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
