"""The demonstration: an unseen robot, recorded on flat ground, predicted on a slope it never walked."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from dmcm.contexts import Contexts, share
from dmcm.errors import DataError
from dmcm.quadruped.body.properties import RobotProperties, nominal
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.data.collection import Collection
from dmcm.quadruped.data.grid import Cell, Grid
from dmcm.quadruped.data.shards import CollectConfig, record_cells
from dmcm.quadruped.data.windows import cut, output
from dmcm.quadruped.dynamics.evaluation import adapt_milliseconds
from dmcm.quadruped.dynamics.model import DynamicsModel
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.world.terrain import Terrain

ROBOT_NAME = "go1"
UNSEEN = RobotProperties(
    p_gain_nm_per_rad=27.0,
    d_gain_nms_per_rad=0.6,
    payload_kg=2.6,
    payload_x_m=-0.08,
    payload_y_m=0.03,
    motor_strength=0.85,
    joint_friction_nm=0.3,
    leg_mass_scale=1.05,
    action_delay_s=0.012,
)
"""A robot within the training ranges but not in training: soft, slow to react, loaded at the rear."""
SLOPE = Terrain("slope_up", 0.24)
"""A ground of training."""
SECONDS = 40.0
"""Length of each recording: the first half to adapt to, the second to predict."""
_FLAT, _KNOWN, _TARGET = range(3)
"""Cells: the unseen robot on flat ground, the published one on the slope, the unseen one on the slope."""

WAYS: Mapping[str, str] = {
    "none": "no vectors",
    "robot": "robot vector alone",
    "terrain": "terrain vector alone",
    "mixed": "both, mixed",
    "in_place": "both, from the pair itself",
}
"""Where the vectors of a prediction come from. `in_place` uses data of the pair itself."""


@dataclasses.dataclass(frozen=True)
class Quantity:
    """An output in readable units.

    Attributes:
        title: what it is, in two or three words.
        unit: of the result of `convert`.
        convert: from the model's units, any shape.
    """

    title: str
    unit: str
    convert: Callable[[np.ndarray], np.ndarray]


QUANTITIES: Mapping[str, Quantity] = {
    "torque_nm": Quantity("torque", "N m", lambda values: values),
    "mean_torque_1s": Quantity("mean torque", "N m", lambda values: values),
    "tracking_error_1s": Quantity("tracking error", "°", np.degrees),
    "height_change_1s": Quantity("climb", "cm", lambda values: 100 * values),
    "pitch_1s": Quantity("pitch", "°", lambda values: -np.degrees(np.arcsin(np.clip(values, -1, 1)))),
}
"""Outputs that are shown: the first three distinguish robots, the last two grounds."""


@dataclasses.dataclass(frozen=True, eq=False)
class Demo:
    """The unseen robot on the slope, in the second half of its recording: measured and predicted.

    Attributes:
        seconds: length of the data that each vector is made from.
        step: control step of each sample, shape (n,).
        stride: control steps from one sample to the next.
        truth: measured outputs, shape (n, outputs), the model's units.
        predicted: per way of `WAYS`, outputs, shape (n, outputs).
        adapt_ms: milliseconds from the data of one recording to both its vectors, once compiled.
    """

    seconds: float
    step: np.ndarray
    stride: int
    truth: np.ndarray
    predicted: Mapping[str, np.ndarray]
    adapt_ms: float

    def values(self, way: str, name: str) -> np.ndarray:
        """An output of `QUANTITIES` in its unit, shape (n, size); way `truth` is what was measured."""
        values = self.truth if way == "truth" else self.predicted[way]
        return QUANTITIES[name].convert(values[:, output(name)])

    def error(self, way: str, name: str) -> float:
        """Root mean squared error of an output, in its unit, over samples and joints."""
        return float(np.sqrt(np.mean(self._squares(way, name))))

    def relative_error(self, way: str, name: str) -> float:
        """As `error`, each joint in units of the standard deviation of its truth."""
        spread = self.values("truth", name).var(axis=0)
        return float(np.sqrt(np.mean(self._squares(way, name).mean(axis=0) / spread)))

    def _squares(self, way: str, name: str) -> np.ndarray:
        return np.square(self.values(way, name).astype(np.float64) - self.values("truth", name))


def run_demo(model: DynamicsModel, policy: Policy, *, seed: int = 0, seconds: float = SECONDS) -> Demo:
    """Simulate, adapt, mix, predict.

    Args:
        model: trained.
        policy: walks all robots.
        seed: for commands, starts and exploration.
        seconds: length of each recording.

    Raises:
        ConfigError: seconds out of range.
        DataError: a robot kept falling.
    """
    return mix_and_predict(model, simulate(policy, seed=seed, seconds=seconds))


def simulate(policy: Policy, *, seed: int, seconds: float) -> Collection:
    """Record the three cells, all in one batch, as training data are; arguments as `run_demo`."""
    config = CollectConfig(ROBOT_NAME, seconds=seconds, seed=seed).check()
    cells = (Cell(0, 0, "seen_pair"), Cell(1, 1, "seen_pair"), Cell(0, 1, "unseen_pair"))
    grid = Grid((UNSEEN, nominal(load_robot(config.robot))), (Terrain(), SLOPE), cells)
    data = record_cells(config, policy, grid, cells)
    return Collection({"robot": config.robot, "seconds": config.seconds, "seed": config.seed}, grid, data)


def mix_and_predict(model: DynamicsModel, collection: Collection) -> Demo:
    """Vectors from the first halves, predictions of the last cell's second half.

    Args:
        model: trained.
        collection: as `simulate` makes it.

    Raises:
        DataError: a half has no samples because a robot kept falling.
    """
    windows = cut(collection.data, model.windows)
    if not windows.count.all():
        raise DataError(
            "a robot fell too often to cut samples from its recording; use another seed or policy, or a "
            "longer recording."
        )
    x, truth = windows.half(_TARGET, 1)
    unknown = model.learner.prior_contexts()
    robot = model.adapt(*windows.half(_FLAT, 0))
    terrain = model.adapt(*windows.half(_KNOWN, 0))
    contexts: dict[str, Contexts | None] = {
        "none": None,
        "robot": share(robot=robot, terrain=unknown),
        "terrain": share(robot=unknown, terrain=terrain),
        "mixed": share(robot=robot, terrain=terrain),
        "in_place": model.adapt(*windows.half(_TARGET, 0)),
    }
    return Demo(
        collection.config["seconds"] / 2,
        windows.step[_TARGET, 1, : len(x)],
        model.windows.stride,
        truth,
        {way: np.asarray(model.predict(contexts[way], x)) for way in WAYS},
        adapt_milliseconds(model.adapt, *windows.half(_FLAT, 0)),
    )
