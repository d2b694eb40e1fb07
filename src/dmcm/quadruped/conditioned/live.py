"""Vectors that are filtered while robots walk."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dmcm.errors import DataError
from dmcm.quadruped.data.recording import COLUMNS, after_step, before_step, delayed, without_truth
from dmcm.quadruped.data.windows import STEP_OUTPUTS, WindowConfig, Windows, cut
from dmcm.quadruped.dynamics.base import base_errors
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN
from dmcm.quadruped.dynamics.evaluation import adapt_cells
from dmcm.quadruped.dynamics.log_fit import BELIEVED, DELAYS, torque_error
from dmcm.quadruped.dynamics.model import DynamicsModel
from dmcm.quadruped.dynamics.sampler import SHOTS
from dmcm.quadruped.walking.environment import WalkEnvironment
from dmcm.quadruped.walking.guides import Vectors
from dmcm.streaming import ContextFilter

_RECENT = 0.1
"""Weight of the newest sample in the running error that decides whether a vector is trusted."""
_STEP_COLUMNS = slice(0, sum(STEP_OUTPUTS.values()))


def step_noise(model: DynamicsModel, windows: Windows) -> np.ndarray:
    """How far next steps are from good predictions: the noise of a filter.

    Args:
        model: predicts.
        windows: logs of simulated training robots, with every output measured.

    Returns:
        Root mean squared error of each output after adaptation, shape (outputs,); infinite for outcomes of
        the coming second, which a filter does not have in time.

    Raises:
        DataError: an output was not measured.
    """
    rows = np.flatnonzero(windows.count[:, 0])
    wrong = base_errors(windows, model.base)
    if np.isnan(wrong[rows, 0]).any():
        raise DataError(
            "these logs lack outputs, as those of real robots do. Use simulated logs of training robots: "
            "`conditioned.logs.log_samples` makes them."
        )
    contexts = adapt_cells(model.learner, windows, wrong, rows)
    left = []
    for i, row in enumerate(rows):
        x, y = windows.half(row, 0)[0], wrong[row, 0, : windows.count[row, 0]]
        left.append(y - np.asarray(model.learner.predict(contexts.at(i), x)))
    noise = np.full(wrong.shape[-1], np.inf)
    noise[_STEP_COLUMNS] = np.sqrt(np.mean(np.concatenate(left)[:, _STEP_COLUMNS] ** 2, axis=0))
    return noise


class LiveVectors:
    """Robot vectors that follow what each robot just did; ground vectors are held.

    `guide` gives them to a policy; `watch` is called after each control step of simulated robots, and
    `deployment.live` does the same for a real one. Every `WindowConfig.stride` control steps, the sensed
    short past and next step make a sample; no sample spans a fall. There is one filter for each of `DELAYS`,
    and the vectors given are those of the filter that explains recent torques best.

    Attributes:
        robot: the robot's vector in each episode, changed in place, shape (n, size).
        guide: gives it to a policy, with the ground's if that is asked for.
    """

    def __init__(
        self,
        model: DynamicsModel,
        terrain: np.ndarray,
        noise: np.ndarray,
        *,
        forgetting: float = 0.99,
        tell_ground: bool = False,
    ):
        """Start with unknown robots.

        Args:
            model: with a vector for the robot and one for the ground.
            terrain: vectors of the grounds, one row per episode, shape (n, size).
            noise: from `step_noise`, shape (outputs,).
            forgetting: share of the information that is kept from one sample to the next.
            tell_ground: whether the policy reads the ground's vector after the robot's.
        """
        self._model, self._windows = model, WindowConfig()
        places, self._place = np.unique(terrain, axis=0, return_inverse=True)
        self._filters = [
            ContextFilter(
                model.learner, noise=noise, samples=SHOTS, forgetting=forgetting, given={TERRAIN: place}
            )
            for place in places
        ]
        prior = np.asarray(model.learner.prior_contexts()[ROBOT])
        unknown = np.tile(prior, (len(terrain), 1))
        self.guide = Vectors(np.concatenate([unknown, terrain], axis=1) if tell_ground else unknown)
        self.robot = self.guide.values[:, : prior.size]
        # Rows of a sample's past, of the state that it predicts, and of the longest delay.
        self._length = self._windows.history + 1
        seen = self._length + max(DELAYS)
        self._rows = np.zeros((len(terrain), seen, sum(COLUMNS.values())), np.float32)
        self._steps, self._prior = 0, prior
        # Compiled now, with samples of zeros: a walking robot must not wait for it. The first and the later
        # states of a filter are compiled apart.
        self._start()
        for _ in range(2):
            self._filter(0, self._rows[:, -self._length :])
        self._start()

    def _start(self) -> None:
        """Know nothing of any robot."""
        n = len(self._place)
        self._states = [[self._filters[place].start() for place in self._place] for _ in DELAYS]
        self._error = np.full((len(DELAYS), n), np.inf)
        self._vectors = np.tile(self._prior, (len(DELAYS), n, 1))

    def watch(self, environment: WalkEnvironment, info: Mapping[str, Any], fell: np.ndarray) -> None:
        """Process the last control step; see `evaluation.Watch`."""
        after_step(self.last, info, fell)
        self.advance(before_step(environment, environment.step_count == 0))

    @property
    def last(self) -> np.ndarray:
        """The current control step, to be filled in before `advance`: one row per robot, (n, columns)."""
        return self._rows[:, -1]

    def advance(self, now: np.ndarray) -> None:
        """Complete the current control step and begin the next.

        Args:
            now: what is known at the start of the next step, in the columns of `recording.COLUMNS`, shape (n,
                columns).
        """
        self._rows = np.concatenate([self._rows[:, 1:], now[:, None]], axis=1)
        self._steps += 1
        if self._steps % self._windows.stride == 0:
            for which, late in enumerate(DELAYS):
                # The first row was not seen before its step.
                if self._steps >= self._length + late:
                    self._filter(which, delayed(self._rows, late)[:, -self._length :])
            self._tell()

    def _filter(self, which: int, rows: np.ndarray) -> None:
        """Add a sample of each robot that has one, for one delay."""
        windows = cut(without_truth(rows), self._windows, parts=1, outcomes=False)
        wrong = base_errors(windows, self._model.base)
        states, errors = self._states[which], self._error[which]
        for row in np.flatnonzero(windows.count[:, 0]):
            own = self._filters[self._place[row]]
            states[row] = own.update(states[row], windows.x[row, 0, 0], wrong[row, 0, 0])
            contexts = own.contexts(states[row])
            error = torque_error(self._model, contexts, windows.x[row, 0, :1], wrong[row, 0, :1])
            before = error**2 if np.isinf(errors[row]) else errors[row]
            errors[row] = before + _RECENT * (error**2 - before)
            self._vectors[which, row] = contexts[ROBOT]

    def _tell(self) -> None:
        """Give the guide the vectors at the best delays, or the prior's mean."""
        best, rows = self._error.argmin(axis=0), np.arange(self._error.shape[1])
        believed = self._error[best, rows, None] <= BELIEVED**2
        self.robot[:] = np.where(believed, self._vectors[best, rows], self._prior)
