"""An exported policy as a step function: a reading and a command in, joint targets out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.errors import ConfigError, DataError, ShapeError, StorageError
from dmcm.quadruped.body.robot_table import LEGS, RobotTable, load_robot
from dmcm.quadruped.conditioned.contract import EXPORT_AGAIN, Contract
from dmcm.quadruped.conditioned.export import read_contract
from dmcm.quadruped.deployment.robot import Numbers, Reading
from dmcm.quadruped.deployment.vectors import vector_row
from dmcm.quadruped.walking.gait import LEG_OFFSET, Gait
from dmcm.quadruped.walking.guides import FRAMES, STRIDE, History
from dmcm.quadruped.walking.known_gains import LEAD_S, matched_targets


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """The output of a policy in one control step."""

    command: np.ndarray
    """The command it was given, shape (3,)."""
    joint_targets_rad: np.ndarray
    """Gait and correction within the joints' limits, matched to the robot's gains if these are estimated,
    shape (12,)."""
    action: np.ndarray
    """The policy's correction, clipped, shape (12,)."""
    phase: float
    """Phase of the gait that the targets are for."""


class Controller:
    """Walks as `WalkEnvironment` does with the same policy, but from a file and without a simulation.

    It keeps the gait's phase, its last action and, for policies that read it, the past.

    Attributes:
        contract: what the file says about itself.
        table: facts of the robot.
    """

    def __init__(
        self, path: Path, vectors: Mapping[str, Numbers] | None = None, *, robot: str | Path | None = None
    ):
        """Load a policy and give it its vectors.

        Args:
            path: file of `dmcm quadruped export-policy`.
            vectors: one vector per kind, for example from `bank_vectors`; none for a policy without vectors.
            robot: name or table of the robot that the file was exported for; by default the contract's name.

        Raises:
            ConfigError: onnxruntime is missing.
            DataError: no such robot.
            FactorError: too many or too few vectors.
            ShapeError: a vector of another size, or a file whose sizes are not its contract's.
            StorageError: no such file, not a policy, or a policy of another version or for another robot.
        """
        self.contract = read_contract(path)
        self.table = load_robot(self.contract.robot if robot is None else robot)
        if differing := _differing(self.contract, self.table):
            raise StorageError(
                f"{path} was exported with another {', '.join(differing)} than the robot {self.table.name} "
                f"has in this version. Name the robot's table, or export again: {EXPORT_AGAIN}"
            )
        contract = self.contract
        self._gait = Gait(
            contract.gait_frequency_hz,
            contract.gait_swing_height_m,
            contract.gait_stance_height_m,
            contract.gait_shift_m,
            contract.gait_forward_share,
        )
        self._session = _session(path)
        self.tell(vectors or {})
        self.reset()

    def tell(self, vectors: Mapping[str, Numbers]) -> None:
        """Give the policy other vectors from the next step on, for example from a filter.

        Raises:
            FactorError: a kind is unknown or missing.
            ShapeError: a vector of another size, or not finite.
        """
        self._vectors = vector_row(self.contract, vectors)

    def reset(self) -> None:
        """Begin a walk: the gait at its start, no last action, no past. Vectors stay."""
        self._phase, self._action = 0.0, np.zeros(len(self.contract.joints))
        self._history = History(1) if self.contract.past_frames else None

    def step(self, reading: Reading, command: Numbers) -> Step:
        """One control step.

        Args:
            reading: the current one.
            command: forward and left speed (m/s) and yaw rate (rad/s), shape (3,).

        Raises:
            DataError: the reading or the policy's output is not finite.
            ShapeError: a command that is not three finite numbers.
        """
        contract, command = self.contract, _checked(command)
        seen = self._observe(reading, command)
        inputs = {"observation": seen}
        if contract.vectors:
            inputs["vectors"] = self._vectors
        if self._history is not None:
            inputs["past"] = self._history.read(seen)
        found = zip(contract.outputs, self._session.run(list(contract.outputs), inputs), strict=True)
        outputs = {name: np.asarray(values, float) for name, values in found}
        given = outputs["action"][0]
        if not all(np.all(np.isfinite(values)) for values in outputs.values()):
            raise DataError(f"the policy's output is not finite: {given.tolist()}. {EXPORT_AGAIN}")
        action = np.clip(given, -contract.action_limit, contract.action_limit)
        phase, settings = np.array([self._phase]), outputs.get("gait_settings")
        gait = self._gait.joint_targets(command[None], phase, self.table, settings)[0]
        low, high = self.table.joint_limits_rad.T
        targets = np.clip(gait + contract.action_scale_rad * action, low, high)
        if "gain_shares" in outputs:
            angles, speeds = reading.joint_angles_rad[None], reading.joint_speeds_rad_s[None]
            shares = outputs["gain_shares"]
            targets = matched_targets(targets[None], angles, speeds, shares, self.table)[0]
        step = Step(command, targets, action, self._phase)
        self._action = action
        self._phase = (self._phase + contract.gait_frequency_hz * contract.control_period_s) % 1.0
        return step

    def _observe(self, reading: Reading, command: np.ndarray) -> np.ndarray:
        """An observation, shape (1, size), single precision."""
        turn = 2 * np.pi * self._phase
        numbers = {
            "gyro_rad_s": reading.gyro_rad_s,
            "gravity_direction": reading.gravity_direction,
            "command": command,
            "joint_offsets_rad": reading.joint_angles_rad - self.table.home_pose_rad,
            "joint_speeds_rad_s": reading.joint_speeds_rad_s,
            "previous_action": self._action,
            "gait_phase": np.array([np.sin(turn), np.cos(turn)]),
            "foot_contact": reading.foot_forces_n > self.contract.contact_n,
        }
        # Numbers too large for single precision become infinite and are refused below.
        with np.errstate(over="ignore"):
            parts = {name: np.asarray(values, np.float32) for name, values in numbers.items()}
        if broken := [name for name, values in parts.items() if not np.all(np.isfinite(values))]:
            raise DataError(f"the reading is not finite in {', '.join(broken)}, so no policy can use it.")
        return np.concatenate([parts[name] for name, _ in self.contract.observation])[None]


def _checked(command: Numbers) -> np.ndarray:
    """A command as three finite numbers."""
    try:
        numbers = np.array(command, float)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    if numbers.shape != (3,) or not np.all(np.isfinite(numbers)):
        raise ShapeError(
            "a command is three finite numbers, forward and left in m/s and yaw rate in rad/s, not "
            f"{command!r}."
        )
    return numbers


def _differing(contract: Contract, table: RobotTable) -> list[str]:
    """Entries of a contract that differ from the robot's table or from this version's gait and past."""
    hips = [table.hip_m(leg) for leg in LEGS]
    valid = {
        "robot": table.name,
        "home_pose_rad": tuple(table.home_pose_rad.tolist()),
        "joint_limits_rad": tuple((float(low), float(high)) for low, high in table.joint_limits_rad),
        "hip_position_m": tuple((float(x), float(y)) for x, y, _ in hips),
        "side_offset_m": tuple(table.side_offset_m(leg) for leg in LEGS),
        "thigh_length_m": table.thigh_length_m,
        "calf_length_m": table.calf_length_m,
        "p_gain_nm_per_rad": table.p_gain_nm_per_rad,
        "d_gain_nms_per_rad": table.d_gain_nms_per_rad,
        "gait_leg_offset": tuple(LEG_OFFSET.tolist()),
        "gain_lead_s": LEAD_S,
    }
    if contract.past_frames:
        valid |= {"past_frames": FRAMES, "past_stride_steps": STRIDE}
    return [name for name, value in valid.items() if getattr(contract, name) != value]


def _session(path: Path) -> Any:
    """The file's network on one thread, because a robot's cores have other work."""
    try:
        import onnxruntime
    except ImportError as error:
        raise ConfigError(
            f"running a policy needs onnxruntime ({error}). Install it: pip install onnxruntime"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
