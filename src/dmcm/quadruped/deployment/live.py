"""A robot's vector that is filtered while the robot walks, and given to its controller."""

from __future__ import annotations

from collections.abc import Mapping

from dmcm.quadruped.conditioned.live import LiveVectors
from dmcm.quadruped.data.recording import column
from dmcm.quadruped.deployment.controller import Controller, Numbers
from dmcm.quadruped.deployment.outcome import StepRecord, follows
from dmcm.quadruped.dynamics.cells import ROBOT


class LiveTelling:
    """`on_step` of `loop.run`: after each control step the controller gets the filter's vector."""

    def __init__(
        self, controller: Controller, live: LiveVectors, others: Mapping[str, Numbers] | None = None
    ):
        """Give the controller the prior's mean before the first step.

        Args:
            controller: of a policy that reads the robot's vector.
            live: filters it, for this one robot.
            others: vectors that stay the same, such as the ground's.

        Raises:
            FactorError, ShapeError: as `Controller.tell`.
        """
        self._controller, self._live, self._others = controller, live, dict(others or {})
        self._before: StepRecord | None = None
        self._tell()

    def __call__(self, record: StepRecord) -> None:
        """Process one more control step."""
        row, before = record.row(), self._before
        if before is None:
            self._live.last[0] = row
        else:
            if follows(before.reading, record.reading, self._controller.contract.control_period_s):
                row[column("begins")] = 0
                self._live.last[0, column("torques_nm")] = record.reading.torques_nm
            self._live.advance(row[None])
        self._before = record
        self._tell()

    def _tell(self) -> None:
        self._controller.tell({ROBOT: self._live.robot[0], **self._others})
