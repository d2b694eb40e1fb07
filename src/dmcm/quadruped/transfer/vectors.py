"""Logs of stand-in robots, and the vectors made from their measurements."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np

from dmcm.errors import DataError
from dmcm.quadruped.body.properties import draw_robots, nominal
from dmcm.quadruped.body.robot_table import RobotTable
from dmcm.quadruped.conditioned.live import LiveVectors, step_noise
from dmcm.quadruped.conditioned.logs import log_recording
from dmcm.quadruped.conditioned.robot_fit import REFERENCE_ROBOTS
from dmcm.quadruped.data.recording import COLUMNS, TRUTH, without_truth
from dmcm.quadruped.data.windows import WindowConfig, cut
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN, robot_truth, terrain_truth
from dmcm.quadruped.dynamics.log_fit import log_vectors, near_vectors
from dmcm.quadruped.dynamics.measured import measured_outputs
from dmcm.quadruped.dynamics.model import DynamicsModel, trained_model
from dmcm.quadruped.identification.evolution import identify
from dmcm.quadruped.standin.gap import RealityGap
from dmcm.quadruped.standin.simulation import stand_in
from dmcm.quadruped.transfer.scenario import GROUNDS, TransferConfig, stand_ins
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.quadruped.world.terrain import Terrain
from dmcm.storage import digest, load_arrays, save_arrays, tree_arrays

MEASURED = measured_outputs(set(COLUMNS) - set(TRUTH))
"""Outputs that a real robot can be adapted to."""


class VectorSource:
    """Makes what policies are given; logs are stored in files, and nothing is made twice."""

    def __init__(self, config: TransferConfig, table: RobotTable, walker: Policy):
        """Prepare, without making anything yet.

        Args:
            config: the study's.
            table: the robot's facts.
            walker: the policy that collected the training data.
        """
        self._config, self._table, self._walker = config, table, walker
        self._robots = stand_ins(config)
        self._makers: Mapping[str, Callable[[int, float, float], np.ndarray]] = {
            "terrain": lambda seed, gap, data_s: self._on_each_ground(self._simulated(seed)[TERRAIN][1:]),
            "robot_nominal": lambda seed, gap, data_s: self._everywhere(
                self._on_each_ground(self._simulated(seed)[ROBOT][:1])
            ),
            "robot_flat": lambda *case: self._everywhere(self._flat("dmcm", *case)[ROBOT]),
            "cell_flat": lambda *case: self._everywhere(self._flat("single", *case)["cell"]),
            "robot_near": lambda *case: self._everywhere(self._flat("dmcm", *case, near=True)[ROBOT]),
            "cell_near": lambda *case: self._everywhere(self._flat("single", *case, near=True)["cell"]),
            "robot_near_here": lambda *case: self._here("dmcm", *case)[ROBOT],
            "cell_near_here": lambda *case: self._here("single", *case)["cell"],
            "terrain_here": lambda *case: self._here("dmcm", *case, near=False)[TERRAIN],
            "identified_robot": lambda seed, gap, data_s: self._everywhere(self._identified(gap, data_s)),
            "true_robot": lambda *case: self._everywhere(robot_truth(self._robots)),
            "true_terrain": lambda *case: self._on_each_ground(terrain_truth(list(GROUNDS.values()))),
        }
        # Caching these methods on the class would keep every source alive.
        self._log, self._simulated = cache(self._log), cache(self._simulated)
        self._reference = cache(self._reference)
        self._flat, self._here = cache(self._flat), cache(self._here)

    def told(self, parts: Sequence[str], *, seed: int, gap: float, data_s: float) -> np.ndarray | None:
        """What a policy is given in each episode: ground by ground with all robots on each.

        Args:
            parts: names of vectors, see `WAYS`.
            seed: for the dynamics models.
            gap: size of the reality gap.
            data_s: seconds of the logs that are used.

        Returns:
            Shape (grounds · robots, size); None for nothing.

        Raises:
            StorageError: a missing model, or a damaged stored log.
        """
        if not parts:
            return None
        return np.concatenate([self._makers[part](seed, gap, data_s) for part in parts], axis=1)

    def flat_logs(self, gap: float) -> np.ndarray:
        """Twenty seconds of each robot on flat ground, as it measured them, shape (robots, steps, columns).

        Args:
            gap: size of the reality gap.
        """
        return without_truth(self._log("flat", gap))

    def model(self, seed: int, method: str = "dmcm") -> DynamicsModel:
        """The dynamics model that makes vectors.

        Args:
            seed: for the model.
            method: name of its learner.
        """
        return trained_model(self._config.dynamics, method, seed)

    def live(self, *, seed: int, tell_ground: bool) -> LiveVectors:
        """Vectors of initially unknown robots, filtered as they walk with the ground's vector held.

        Args:
            seed: for the dynamics models.
            tell_ground: whether the policy reads the ground's vector too.
        """
        model = self.model(seed)
        logs = cut(self._reference(), WindowConfig(), parts=1)
        terrain = self._on_each_ground(self._simulated(seed)[TERRAIN][1:])
        return LiveVectors(model, terrain, step_noise(model, logs), tell_ground=tell_ground)

    def _everywhere(self, vectors: np.ndarray) -> np.ndarray:
        """Repeat rows of robots on each ground."""
        return np.tile(vectors, (len(GROUNDS), 1))

    def _on_each_ground(self, vectors: np.ndarray) -> np.ndarray:
        """Repeat each ground's row for all robots."""
        return np.repeat(vectors, len(self._robots), axis=0)

    def _simulated(self, seed: int) -> dict[str, np.ndarray]:
        """Vectors of the nominal robot in simulation, on flat ground and then on each of `GROUNDS`."""
        places = [Terrain(), *GROUNDS.values()]
        data = log_recording(
            self._walker,
            self._table,
            [nominal(self._table)] * len(places),
            places,
            seed=(self._config.seed, 6),
        )
        return log_vectors(self.model(seed), data)

    def _reference(self) -> np.ndarray:
        """Logs of simulated training robots on flat ground, shape (robots, steps, columns)."""
        robots = draw_robots(np.random.default_rng([self._config.seed, 9]), REFERENCE_ROBOTS)
        grounds, logged = [Terrain()] * len(robots), (self._config.seed, 10)
        return log_recording(self._walker, self._table, robots, grounds, seed=logged)

    def _flat(
        self, method: str, seed: int, gap: float, data_s: float, *, near: bool = False
    ) -> dict[str, np.ndarray]:
        """Vectors of the flat logs, or of their next steps; flat ground's vector is held if there is one."""
        given = {TERRAIN: self._simulated(seed)[TERRAIN][0]} if method == "dmcm" else None
        model = self.model(seed, method)
        used = _beginning(self._log("flat", gap), data_s)
        if near:
            return near_vectors(model, used, given=given)
        return log_vectors(model, used, outputs=MEASURED, given=given)

    def _here(
        self, method: str, seed: int, gap: float, data_s: float, *, near: bool = True
    ) -> dict[str, np.ndarray]:
        """Vectors of logs on the ground itself, or of their next steps."""
        model, used = self.model(seed, method), _beginning(self._log("here", gap), data_s)
        return near_vectors(model, used) if near else log_vectors(model, used, outputs=MEASURED)

    def _identified(self, gap: float, data_s: float) -> np.ndarray:
        """What the oracle is given, by properties found in flat logs; as published if one is too short."""

        def found() -> np.ndarray:
            robots = []
            for log in _beginning(self._log("flat", gap), data_s):
                try:
                    robots.append(identify(log, self._table, seed=self._config.seed).properties)
                except DataError:
                    robots.append(nominal(self._table))
            return robot_truth(robots)

        about = {"kind": "identified robots", "gap": gap, "data_s": data_s}
        return self._kept(f"identified-gap-{gap:g}-data-{data_s:g}", "told", about, found)

    def _log(self, name: str, gap: float) -> np.ndarray:
        """Twenty seconds of each robot on flat ground, or "here", on each ground: (logs, steps, columns)."""
        robots, flat = self._robots, name == "flat"
        places = [Terrain()] * len(robots) if flat else [place for place in GROUNDS.values() for _ in robots]
        who = robots if flat else robots * len(GROUNDS)

        def walked() -> np.ndarray:
            seed = self._config.seed
            physics, seeds = stand_in(RealityGap().scaled(gap), seed), (seed, 8, len(who))
            return log_recording(self._walker, self._table, who, places, seed=seeds, physics=physics)

        return self._kept(f"logs-{name}-gap-{gap:g}", "data", {"kind": "stand-in logs", "gap": gap}, walked)

    def _kept(
        self, name: str, array: str, about: Mapping[str, object], make: Callable[[], np.ndarray]
    ) -> np.ndarray:
        """An array of these robots from its file, or newly made and stored there."""
        about = {
            **about,
            "robots": self._config.robots,
            "seed": self._config.seed,
            "robot": self._table.digest,
            "walker": digest(tree_arrays(self._walker)),
        }
        path = self._config.out / f"{name}.safetensors"
        if path.exists():
            arrays, found = load_arrays(path)
            if found == about:
                return arrays[array]
        made = make()
        save_arrays(path, {array: made}, dict(about))
        return made


def _beginning(data: np.ndarray, data_s: float) -> np.ndarray:
    """The first seconds of logs, as real robots would have them."""
    return without_truth(data[:, : round(data_s / CONTROL_PERIOD_S)])
