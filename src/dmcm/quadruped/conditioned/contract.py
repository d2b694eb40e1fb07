"""What the numbers of an exported policy mean: everything a robot needs to walk with it."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any

import numpy as np

from dmcm.errors import StorageError, unknown_name
from dmcm.quadruped.body.robot_table import JOINT_NAMES, LEGS, RobotTable
from dmcm.quadruped.conditioned.methods import METHODS
from dmcm.quadruped.walking.environment import ACTION_LIMIT, WalkConfig
from dmcm.quadruped.walking.gait import LEG_OFFSET, SETTINGS
from dmcm.quadruped.walking.guides import FRAME, FRAMES, STRIDE
from dmcm.quadruped.walking.known_gains import LEAD_S
from dmcm.quadruped.walking.observations import CONTACT_N, OBSERVATION
from dmcm.quadruped.walking.policy import Policy
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S

FORMAT = 5
"""Version of the contract."""
EXPORT_AGAIN = "Export the policy again: dmcm quadruped export-policy."
"""Advice in errors about files that do not fit."""


@dataclasses.dataclass(frozen=True)
class Contract:
    """Everything a robot needs to walk with an exported file; stored as JSON in its metadata.

    In each control step the robot builds the observation, runs the file, clips the action to plus and minus
    `action_limit`, multiplies it by `action_scale_rad`, adds the gait's joint angles (with the settings that
    the file outputs, if it does), clips the sum to the joints' limits, matches it to the robot's gains if the
    file outputs them (`known_gains.matched_targets`) and sends it to its joint controllers; then the gait's
    phase advances. Frames are x forward, y left, z up.
    examples/run_policy.py does all of this.
    """

    format: int
    """Version of the contract."""
    robot: str
    """Short name of the robot, such as go1."""
    control_period_s: float
    """Time from one action to the next."""
    joints: tuple[str, ...]
    """Order of all arrays of twelve joints."""
    legs: tuple[str, ...]
    """Order of all arrays of four legs."""
    observation: tuple[tuple[str, int], ...]
    """Parts of the input `observation` in order, and their sizes; see `observations.OBSERVATION`."""
    contact_n: float
    """Force above which a foot counts as touching the ground."""
    vectors: tuple[tuple[str, int], ...]
    """Kinds of vectors in the input `vectors` in order, and their sizes; empty for a policy without
    vectors."""
    vectors_model: str | None
    """Fingerprint of the dynamics model that makes the vectors; None for the truth or no vectors."""
    gain_shares: int
    """2 if the file has an output `gain_shares`: the robot's P and D gain in units of the nominal ones, to
    match joint targets to; otherwise 0."""
    gain_lead_s: float
    """How far ahead joint angles are extrapolated by their speeds when targets are matched."""
    past_parts: tuple[str, ...]
    """Parts of an observation in each frame of the input `past`, in order; empty for a policy without a
    past."""
    past_frames: int
    """Frames in the input `past`, oldest first, the present one last; 0 for a policy without a past."""
    past_stride_steps: int
    """Control steps from one frame to the next; frames before the start repeat the first one."""
    home_pose_rad: tuple[float, ...]
    """Standing joint angles: joint offsets are relative to these."""
    joint_limits_rad: tuple[tuple[float, float], ...]
    """Lower and upper limit of each joint target."""
    p_gain_nm_per_rad: float
    """Nominal position gain of the joint controllers."""
    d_gain_nms_per_rad: float
    """Nominal velocity gain of the joint controllers."""
    action_limit: float
    """Actions are clipped to plus and minus this, also in the observation's previous action."""
    action_scale_rad: float
    """Change of a joint target per unit of action, on top of the gait."""
    gait_frequency_hz: float
    """Cycles per second."""
    gait_swing_height_m: float
    """How high a foot is lifted."""
    gait_stance_height_m: float
    """Height of the hip above the foot in stance."""
    gait_shift_m: float
    """How far in front of the hips the feet are placed."""
    gait_forward_share: float
    """Forward speed of the feet as a share of the commanded one."""
    gait_settings: tuple[str, ...]
    """Names of the settings in the output `gait_settings`, in order, which replace those above; empty if the
    file has none."""
    gait_leg_offset: tuple[float, ...]
    """Phase offset of each leg, as a share of the cycle; a leg swings while its phase is below one half."""
    hip_position_m: tuple[tuple[float, float], ...]
    """Each leg's abduction axis in the trunk frame, x and y."""
    side_offset_m: tuple[float, ...]
    """From each abduction axis to the plane of the leg, positive to the left."""
    thigh_length_m: float
    """From hip flexion to knee."""
    calf_length_m: float
    """From knee to the centre of the foot."""

    @property
    def inputs(self) -> dict[str, int]:
        """Columns of each of the file's inputs, in order."""
        own = dict(self.observation)
        sizes = {
            "observation": sum(own.values()),
            "vectors": sum(size for _, size in self.vectors),
            "past": self.past_frames * sum(own[name] for name in self.past_parts),
        }
        return {name: size for name, size in sizes.items() if size}

    @property
    def outputs(self) -> dict[str, int]:
        """Columns of each of the file's outputs, in order."""
        sizes = {
            "action": len(self.joints),
            "gain_shares": self.gain_shares,
            "gait_settings": len(self.gait_settings),
        }
        return {name: size for name, size in sizes.items() if size}

    def check(self) -> Contract:
        """Return self, or raise `StorageError` for another order, other parts, or missing numbers."""
        for name, found, valid in (
            ("joint order", self.joints, JOINT_NAMES),
            ("leg order", self.legs, LEGS),
            ("observation", self.observation, tuple(OBSERVATION.items())),
            ("past", self.past_parts, FRAME if self.past_frames else ()),
            ("number of gains", self.gain_shares, 2 if self.gain_shares else 0),
            ("gait settings", self.gait_settings, SETTINGS if self.gait_settings else ()),
        ):
            if found != valid:
                raise StorageError(
                    f"the contract's {name} is {found}; this version has {valid}. {EXPORT_AGAIN}"
                )
        joints, legs = (self.home_pose_rad, self.joint_limits_rad), (self.gait_leg_offset, self.side_offset_m)
        counts = [len(numbers) for numbers in (*joints, *legs, self.hip_position_m)]
        if counts != [len(JOINT_NAMES)] * 2 + [len(LEGS)] * 3:
            raise StorageError(f"the contract does not have one number per joint and per leg. {EXPORT_AGAIN}")
        return self


def make_contract(policy: Policy, about: Mapping[str, Any], table: RobotTable) -> Contract:
    """The contract of a policy.

    Args:
        policy: reads its past if it has an encoder.
        about: what its file says about it: "training" holds the method and what it is given, if anything.
        table: facts of the robot.

    Raises:
        StorageError: a method that this version does not know.
    """
    training = about.get("training", {})
    told = training.get("told", {"vectors": {}, "model": None})
    method = training.get("method", "vanilla")
    if method not in METHODS:
        raise StorageError(unknown_name("method", method, METHODS))
    past = policy.encoder is not None
    walk = WalkConfig()
    # A gait that depends on nothing is one of the contract's numbers.
    chosen = policy.gait is not None and policy.gait.slope.shape[1] > 0
    gait = walk.gait
    if policy.gait is not None and not chosen:
        settings = policy.gait(np.zeros((1, 0)))[0]
        gait = dataclasses.replace(gait, **dict(zip(SETTINGS, settings.tolist(), strict=True)))
    return Contract(
        format=FORMAT,
        robot=table.name,
        control_period_s=CONTROL_PERIOD_S,
        joints=JOINT_NAMES,
        legs=LEGS,
        observation=tuple(OBSERVATION.items()),
        contact_n=CONTACT_N,
        # The file's JSON is sorted; the method gives the order.
        vectors=tuple((kind, told["vectors"][kind]) for kind in METHODS[method].vectors),
        vectors_model=told["model"],
        gain_shares=0 if policy.gains is None else len(policy.gains.offset),
        gain_lead_s=LEAD_S,
        past_parts=FRAME if past else (),
        past_frames=FRAMES if past else 0,
        past_stride_steps=STRIDE if past else 0,
        home_pose_rad=tuple(table.home_pose_rad.tolist()),
        joint_limits_rad=tuple((float(low), float(high)) for low, high in table.joint_limits_rad),
        p_gain_nm_per_rad=table.p_gain_nm_per_rad,
        d_gain_nms_per_rad=table.d_gain_nms_per_rad,
        action_limit=ACTION_LIMIT,
        action_scale_rad=walk.action_scale_rad,
        gait_frequency_hz=gait.frequency_hz,
        gait_swing_height_m=gait.swing_height_m,
        gait_stance_height_m=gait.stance_height_m,
        gait_shift_m=gait.shift_m,
        gait_forward_share=gait.forward_share,
        gait_settings=SETTINGS if chosen else (),
        gait_leg_offset=tuple(LEG_OFFSET.tolist()),
        hip_position_m=tuple((float(x), float(y)) for x, y, _ in map(table.hip_m, LEGS)),
        side_offset_m=tuple(map(table.side_offset_m, LEGS)),
        thigh_length_m=table.thigh_length_m,
        calf_length_m=table.calf_length_m,
    )


def parse_contract(text: str) -> Contract:
    """A contract from JSON, checked.

    Raises:
        StorageError: invalid JSON, another format, entries that are missing, unknown or of another type, or
            as `Contract.check`.
    """
    try:
        values = json.loads(text)
    except json.JSONDecodeError as error:
        raise StorageError(f"the contract is not valid JSON: {error}. {EXPORT_AGAIN}") from error
    version = values.get("format") if isinstance(values, dict) else None
    if version != FORMAT:
        raise StorageError(f"the contract has format {version}; this version reads {FORMAT}. {EXPORT_AGAIN}")
    kinds = typing.get_type_hints(Contract)
    if differing := sorted(values.keys() ^ kinds.keys()):
        raise StorageError(f"the contract lacks or adds {', '.join(differing)}. {EXPORT_AGAIN}")
    return Contract(**{name: _value(values[name], kind, name) for name, kind in kinds.items()}).check()


def _value(value: Any, kind: Any, name: str) -> Any:
    """A JSON value converted to the type of its field."""
    inner = typing.get_args(kind)
    if isinstance(kind, types.UnionType) and value is None:
        return None
    if isinstance(kind, types.UnionType):
        kind = inner[0]
    if typing.get_origin(kind) is tuple and isinstance(value, list):
        kinds = inner[:1] * len(value) if inner[-1] is ... else inner
        if len(kinds) == len(value):
            return tuple(_value(item, kind, name) for item, kind in zip(value, kinds, strict=True))
    elif kind is float and type(value) in (int, float) and np.isfinite(value):
        return float(value)
    elif kind in (int, str) and type(value) is kind:
        return value
    raise StorageError(f"the contract's {name} = {value!r} is not of type {kind}. {EXPORT_AGAIN}")
