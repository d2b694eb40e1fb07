"""A stand-in robot as the deployment loop sees one."""

from __future__ import annotations

import numpy as np

from dmcm.errors import ConfigError
from dmcm.quadruped.deployment.robot import Reading
from dmcm.quadruped.standin.simulation import StandIn
from dmcm.quadruped.world.physics import SENSED
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

_CLOCK_S = 1e-6  # rounding of clocks


class StandInRobot:
    """A `Robot` whose clock is the simulation's: waiting takes no time but advances the simulation.

    Gains that are sent act in proportion: a robot whose P gain is half of the published one applies half of
    what was sent.
    """

    def __init__(self, simulation: StandIn):
        """Stand in the home pose, as the simulation placed it.

        Args:
            simulation: of one robot.

        Raises:
            ConfigError: the simulation has several robots.
        """
        if simulation.count != 1:
            raise ConfigError(
                f"the deployment loop walks one robot, but the simulation has {simulation.count}."
            )
        self._simulation, self._steps = simulation, 0
        self._targets = simulation.table.home_pose_rad[None]
        table, own = simulation.table, simulation.properties
        self._p_share = own["p_gain_nm_per_rad"][0] / table.p_gain_nm_per_rad
        self._d_share = own["d_gain_nms_per_rad"][0] / table.d_gain_nms_per_rad

    def now_s(self) -> float:
        """Simulated time."""
        return self._steps * CONTROL_PERIOD_S

    def read(self) -> Reading:
        """What its sensors say at the end of the last control step."""
        return Reading(time_s=self.now_s(), **{name: getattr(self._simulation, name)[0] for name in SENSED})

    def send(
        self, joint_targets_rad: np.ndarray, p_gain_nm_per_rad: float, d_gain_nms_per_rad: float
    ) -> None:
        """See `Robot.send`."""
        self._targets = np.asarray(joint_targets_rad, float)[None]
        self._simulation.properties["p_gain_nm_per_rad"][:] = self._p_share * p_gain_nm_per_rad
        self._simulation.properties["d_gain_nms_per_rad"][:] = self._d_share * d_gain_nms_per_rad

    def damp(self) -> None:
        """No position gain; the usual damping."""
        self.send(self._targets[0], 0.0, self._simulation.table.d_gain_nms_per_rad)

    def wait_until(self, time_s: float) -> None:
        """Simulate until then."""
        while self.now_s() < time_s - _CLOCK_S:
            self._simulation.step(self._targets)
            self._steps += 1
