"""Vectors for the suite: from the robots' flat logs, a nominal robot's logs, or logs of the pair itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from dmcm.errors import StorageError
from dmcm.quadruped.body.properties import nominal
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.conditioned.evaluation import SuiteConfig, bodies, grounds
from dmcm.quadruped.conditioned.logs import log_recording, log_samples
from dmcm.quadruped.conditioned.suite import CONDITIONS
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, robot_truth, terrain_truth
from dmcm.quadruped.dynamics.log_fit import cell_vectors, log_vectors, near_vectors
from dmcm.quadruped.dynamics.model import DynamicsModel, trained_model
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.world.terrain import Terrain
from dmcm.storage import digest, load_arrays, save_arrays, tree_arrays

KIND = "quadruped suite vectors"
PARTS: Mapping[str, tuple[str, ...]] = {
    "flat": (ROBOT, "cell"),
    "ground": (TERRAIN,),
    "here": (f"{ROBOT}_here", f"{TERRAIN}_here", "cell_here"),
    "prior": (f"no_{ROBOT}", f"no_{TERRAIN}"),
    "truth": (f"true_{ROBOT}", f"true_{TERRAIN}"),
    "near": (f"{ROBOT}_near", "cell_near"),
    "near_here": ("cell_near_here",),
}
"""Vectors by origin: each robot's log on flat ground; a nominal robot's log on each ground; each robot's log
on each ground; what stands for "unknown"; what the oracle is given; the next steps of each robot's log on
flat ground, and on each ground."""

SuiteVectors = dict[str, dict[str, np.ndarray]]
"""Vectors per condition and name, shape (episodes, size): ground by ground with all robots on each."""


@dataclasses.dataclass(frozen=True)
class VectorMaker:
    """How the vectors of a suite are made, and where they are kept.

    Attributes:
        table: the robot's facts.
        walker: the policy that collected the training data.
        suite: its size.
        dynamics: folder of the dynamics models.
        seeds: number of seeds (0, 1, …) of those models.
        folder: where the vectors are kept.
    """

    table: RobotTable
    walker: Policy
    suite: SuiteConfig
    dynamics: Path
    seeds: int
    folder: Path

    def make(self, parts: set[str], advance: Callable[[], None] = lambda: None) -> list[SuiteVectors]:
        """Vectors of each seed; those made from logs are stored in files and reused.

        Args:
            parts: names of the vectors that are needed, see `PARTS`.
            advance: called after each condition.

        Raises:
            StorageError: a missing model, or stored vectors of another suite, walker or models.
        """
        found: list[SuiteVectors] = [
            {condition: _truth(condition, self.suite) for condition in CONDITIONS} for _ in range(self.seeds)
        ]
        origins = [origin for origin, names in PARTS.items() if parts & {*names} and origin != "truth"]
        models = self._models() if origins else []
        for origin in origins:
            for vectors, more in zip(found, self._of(origin, models, advance), strict=True):
                for condition in CONDITIONS:
                    vectors[condition] |= more[condition]
        return found

    def _models(self) -> list[list[DynamicsModel]]:
        """For each seed, the model with two vectors and the model with one."""
        return [
            [trained_model(self.dynamics, method, seed) for method in ("dmcm", "single")]
            for seed in range(self.seeds)
        ]

    def _of(
        self, origin: str, models: Sequence[Sequence[DynamicsModel]], advance: Callable[[], None]
    ) -> list[SuiteVectors]:
        """Vectors of one origin, from files or newly made; all seeds use the same logs."""
        logs = {
            "episodes": self.suite.episodes,
            "seed": self.suite.seed,
            "origin": origin,
            "robot": self.table.digest,
            "walker": digest(tree_arrays(self.walker)),
        }
        about = [{**logs, "models": [model.learner.fingerprint() for model in seed]} for seed in models]
        files = [self.folder / f"{origin}-seed-{seed}.safetensors" for seed in range(self.seeds)]
        found = [_kept(file, told) or {} for file, told in zip(files, about, strict=True)]
        lacking = [seed for seed, vectors in enumerate(found) if not vectors]
        for condition in CONDITIONS:
            if lacking:
                some = [models[seed] for seed in lacking]
                made = _made(self.walker, self.table, some, condition, origin, self.suite)
                for seed, vectors in zip(lacking, made, strict=True):
                    found[seed][condition] = vectors
            advance()
        for seed in lacking:
            _keep(files[seed], found[seed], about[seed])
        return found


def _made(
    walker: Policy,
    table: RobotTable,
    models: Sequence[Sequence[DynamicsModel]],
    condition: str,
    origin: str,
    config: SuiteConfig,
) -> list[dict[str, np.ndarray]]:
    """Vectors of one condition and origin for the models of each seed."""
    robots, places = bodies(config, condition), grounds(condition)
    n, count = len(robots), len(places)
    if origin == "prior":
        priors = [both.learner.prior_contexts().values for both, *_ in models]
        return [{f"no_{k}": np.tile(np.asarray(v), (n * count, 1)) for k, v in p.items()} for p in priors]
    seed = (config.seed, list(CONDITIONS).index(condition), list(PARTS).index(origin))
    if origin == "near":
        data = log_recording(
            walker, table, [*robots, nominal(table)], [Terrain()] * (n + 1), seed=seed, threads=config.threads
        )
        return [
            {f"{name}_near": np.tile(value, (count, 1)) for name, value in _near(several, data).items()}
            for several in models
        ]
    here = (robots * count, [place for place in places for _ in range(n)])
    if origin == "near_here":
        data = log_recording(walker, table, *here, seed=seed, threads=config.threads)
        return [{"cell_near_here": near_vectors(single, data)["cell"]} for _, single in models]
    who, where = {
        "flat": (robots, [Terrain()] * n),
        "ground": ([nominal(table)] * count, places),
        "here": here,
    }[origin]
    samples = log_samples(walker, table, who, where, seed=seed, threads=config.threads)
    found = [
        {name: value for model in several for name, value in cell_vectors(model, samples).items()}
        for several in models
    ]
    if origin == "flat":
        return [{name: np.tile(own[name], (count, 1)) for name in PARTS[origin]} for own in found]
    if origin == "ground":
        return [{TERRAIN: np.repeat(own[TERRAIN], n, axis=0)} for own in found]
    return [{f"{name}_here": value for name, value in own.items()} for own in found]


def _near(models: Sequence[DynamicsModel], data: np.ndarray) -> dict[str, np.ndarray]:
    """Vectors of the robot, and of both, from next steps on flat ground; the last log is nominal."""
    both, single = models
    flat = log_vectors(both, data[-1:])[TERRAIN][0]
    found = near_vectors(both, data[:-1], given={TERRAIN: flat})
    return {ROBOT: found[ROBOT], **near_vectors(single, data[:-1])}


def _truth(condition: str, config: SuiteConfig) -> dict[str, np.ndarray]:
    robots, places = bodies(config, condition), grounds(condition)
    return {
        f"true_{ROBOT}": np.tile(robot_truth(robots), (len(places), 1)),
        f"true_{TERRAIN}": np.repeat(terrain_truth(places), len(robots), axis=0),
    }


def _kept(path: Path, about: Mapping[str, object]) -> dict[str, dict[str, np.ndarray]] | None:
    """Vectors of all conditions from a file; None if there is no file."""
    if not path.exists():
        return None
    arrays, found = load_arrays(path)
    if found != {"kind": KIND, **about}:
        raise StorageError(
            f"{path} holds vectors of another suite, walker or models; delete it to make new ones."
        )
    split: dict[str, dict[str, np.ndarray]] = {}
    for name, values in arrays.items():
        condition, part = name.split("/")
        split.setdefault(condition, {})[part] = values
    return split


def _keep(path: Path, vectors: Mapping[str, Mapping[str, np.ndarray]], about: Mapping[str, object]) -> None:
    """Write vectors of all conditions."""
    arrays = {f"{c}/{name}": values for c, parts in vectors.items() for name, values in parts.items()}
    save_arrays(path, arrays, {"kind": KIND, **about})
