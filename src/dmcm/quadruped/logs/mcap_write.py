"""Recordings written as rosbag2 would record them: MCAP with ROS 2 messages, for `mappings/ros2.toml`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.errors import DataError, DmcmError, ShapeError
from dmcm.quadruped.body.robot_table import JOINT_NAMES, RobotTable
from dmcm.quadruped.data.recording import COLUMNS, column
from dmcm.quadruped.logs.quantities import QUANTITIES
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.storage import write_atomic

PAUSE_S = 1.0
"""Silence before a fresh start, so that a reader sees where one recording ends and the next begins."""

_HEADER = "std_msgs/Header header\n"
_SEPARATOR = "=" * 80 + "\nMSG: "
_HEADER_PARTS = f"{_SEPARATOR}std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
_TIME = f"{_SEPARATOR}builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
_VECTOR = f"{_SEPARATOR}geometry_msgs/Vector3\nfloat64 x\nfloat64 y\nfloat64 z\n"
_DEFINITIONS: Mapping[str, str] = {
    "sensor_msgs/msg/JointState": (
        f"{_HEADER}string[] name\nfloat64[] position\nfloat64[] velocity\nfloat64[] effort\n"
        f"{_HEADER_PARTS}{_TIME}"
    ),
    "sensor_msgs/msg/Imu": (
        f"{_HEADER}geometry_msgs/Quaternion orientation\nfloat64[9] orientation_covariance\n"
        "geometry_msgs/Vector3 angular_velocity\nfloat64[9] angular_velocity_covariance\n"
        "geometry_msgs/Vector3 linear_acceleration\nfloat64[9] linear_acceleration_covariance\n"
        f"{_HEADER_PARTS}{_TIME}{_SEPARATOR}geometry_msgs/Quaternion\n"
        f"float64 x\nfloat64 y\nfloat64 z\nfloat64 w\n{_VECTOR}"
    ),
    "geometry_msgs/msg/TwistStamped": (
        f"{_HEADER}geometry_msgs/Twist twist\n{_HEADER_PARTS}{_TIME}"
        f"{_SEPARATOR}geometry_msgs/Twist\ngeometry_msgs/Vector3 linear\ngeometry_msgs/Vector3 angular\n"
        f"{_VECTOR}"
    ),
    "std_msgs/msg/Float64": "float64 data\n",
    "std_msgs/msg/Float64MultiArray": (
        f"std_msgs/MultiArrayLayout layout\nfloat64[] data\n{_SEPARATOR}std_msgs/MultiArrayLayout\n"
        f"std_msgs/MultiArrayDimension[] dim\nuint32 data_offset\n{_SEPARATOR}std_msgs/MultiArrayDimension\n"
        "string label\nuint32 size\nuint32 stride\n"
    ),
}


def write_mcap(path: Path | str, data: np.ndarray, table: RobotTable, *, start_s: float = 0.0) -> None:
    """Write a recording as MCAP, whole or not at all.

    The layout is that of `mappings/ros2.toml`. Torques belong to the end of a step and carry its time, so the
    last step of a recording ends with a message that holds only torques. A fresh start (`begins`) follows a
    pause of `PAUSE_S`. Falls are not written: real logs do not say when robots fall.

    Args:
        path: of the file.
        data: shape (steps, columns), as `record` makes it of one robot. Foot forces, trunk velocity, height
            and torques may be NaN throughout; they are left out then.
        table: the robot; its name is kept in the file.
        start_s: time of the first step, seconds since 1970.

    Raises:
        ShapeError: data of another shape.
        DataError: no steps, numbers that are not finite, or a time before 1970.
        StorageError: the file cannot be written.
        DmcmError: the library that writes MCAP is not installed.
    """
    try:
        from mcap_ros2.writer import Writer
    except ImportError as error:
        raise DmcmError("MCAP files need more packages: pip install 'dmcm[quadruped]'.") from error
    left_out = _check(data, start_s)
    content = io.BytesIO()
    with Writer(content) as writer:
        writer.add_metadata("dmcm", {"robot": table.name})
        schemas = {name: writer.register_msgdef(name, text) for name, text in _DEFINITIONS.items()}

        def write(topic: str, kind: str, message: Mapping[str, Any], time_ns: int) -> None:
            if "header" in schemas[kind].data.decode().partition("\n")[0]:
                stamp = {"sec": time_ns // 10**9, "nanosec": time_ns % 10**9}
                message = {"header": {"stamp": stamp, "frame_id": "trunk"}, **message}
            writer.write_message(topic, schemas[kind], message, log_time=time_ns)

        times_ns = _times_ns(data, start_s)
        for step, row in enumerate(data.astype(np.float64)):
            fresh = step == 0 or row[column("begins")][0] > 0
            torques = None if fresh or "torques_nm" in left_out else data[step - 1, column("torques_nm")]
            _write_step(write, row, torques, times_ns[step], left_out)
            last = step == len(data) - 1 or data[step + 1, column("begins")][0] > 0
            if last and "torques_nm" not in left_out and np.isfinite(row[column("torques_nm")]).all():
                state = _joints(effort=row[column("torques_nm")])
                write("/joint_states", "sensor_msgs/msg/JointState", state, times_ns[step] + _PERIOD_NS)
    write_atomic(Path(path), content.getvalue())


_PERIOD_NS = round(CONTROL_PERIOD_S * 1e9)


def _check(data: np.ndarray, start_s: float) -> frozenset[str]:
    """Names of the columns that are left out because they hold no numbers."""
    size = sum(COLUMNS.values())
    if data.ndim != 2 or data.shape[1] != size:
        raise ShapeError(
            f"a recording of one robot has shape (steps, {size}); this has {data.shape}. Of several robots, "
            "give one: data[i]."
        )
    if not len(data):
        raise DataError("the recording has no steps.")
    if not 0 <= start_s < 2**31:
        raise DataError(f"start_s={start_s} must be seconds since 1970, from 0 to below {2**31}.")
    left_out = set()
    for name in COLUMNS:
        values = data[:, column(name)]
        if name in QUANTITIES and not QUANTITIES[name].needed and np.isnan(values).all():
            left_out.add(name)
        elif not (known := np.isfinite(values).all(axis=1) | (_unread(data) & (name == "torques_nm"))).all():
            row = int(np.flatnonzero(~known)[0])
            raise DataError(f"{name} is not finite in step {row}; cut the recording before it.")
    return frozenset(left_out)


def _unread(data: np.ndarray) -> np.ndarray:
    """Whether a step is the last before a pause, whose torques nobody could read, shape (steps,)."""
    return np.append(data[1:, column("begins")][:, 0] > 0, True)


def _times_ns(data: np.ndarray, start_s: float) -> list[int]:
    """Time of each step."""
    pauses = np.cumsum(data[1:, column("begins")][:, 0] > 0)
    steps = np.arange(len(data)) * _PERIOD_NS
    steps[1:] += pauses * round(PAUSE_S * 1e9)
    return (round(start_s * 1e9) + steps).tolist()


def _write_step(
    write: Any, row: np.ndarray, torques: np.ndarray | None, time_ns: int, left_out: frozenset[str]
) -> None:
    """Messages of one step; torques are those of the step before."""
    of = {name: row[column(name)].tolist() for name in COLUMNS}
    state = _joints(of["joint_angles_rad"], of["joint_speeds_rad_s"], () if torques is None else torques)
    write("/joint_states", "sensor_msgs/msg/JointState", state, time_ns)
    unknown = [-1.0] + [0.0] * 8  # ROS's way to say that there is no such reading
    imu = {
        "orientation": dict(zip("xyzw", _upright(row[column("gravity_direction")]), strict=True)),
        "orientation_covariance": [0.0] * 9,
        "angular_velocity": _vector(of["gyro_rad_s"]),
        "angular_velocity_covariance": [0.0] * 9,
        "linear_acceleration": _vector([0.0] * 3),
        "linear_acceleration_covariance": unknown,
    }
    write("/imu", "sensor_msgs/msg/Imu", imu, time_ns)
    write("/joint_targets", "sensor_msgs/msg/JointState", _joints(of["joint_targets_rad"]), time_ns)
    forward, left, yaw = of["command"]
    command = {"linear": _vector([forward, left, 0.0]), "angular": _vector([0.0, 0.0, yaw])}
    write("/command", "geometry_msgs/msg/TwistStamped", {"twist": command}, time_ns)
    write("/gait_phase", "std_msgs/msg/Float64", {"data": of["gait_phase"][0]}, time_ns)
    if "foot_forces_n" not in left_out:
        forces = {"layout": {"dim": [], "data_offset": 0}, "data": of["foot_forces_n"]}
        write("/foot_forces", "std_msgs/msg/Float64MultiArray", forces, time_ns)
    if "trunk_velocity_m_s" not in left_out:
        velocity = {"linear": _vector(of["trunk_velocity_m_s"]), "angular": _vector([0.0] * 3)}
        write("/trunk_velocity", "geometry_msgs/msg/TwistStamped", {"twist": velocity}, time_ns)
    if "height_m" not in left_out:
        write("/height", "std_msgs/msg/Float64", {"data": of["height_m"][0]}, time_ns)


def _joints(position: Any = (), velocity: Any = (), effort: Any = ()) -> dict[str, Any]:
    return {
        "name": list(JOINT_NAMES),
        "position": [float(value) for value in position],
        "velocity": [float(value) for value in velocity],
        "effort": [float(value) for value in effort],
    }


def _vector(values: list[float]) -> dict[str, float]:
    return dict(zip("xyz", values, strict=True))


def _upright(gravity: np.ndarray) -> list[float]:
    """The smallest rotation (x, y, z, w) after which gravity, given in the trunk frame, points down."""
    x, y, z = gravity / np.linalg.norm(gravity)
    quaternion = np.array([-y, x, 0.0, 1.0 - z])
    norm = np.linalg.norm(quaternion)
    # Upside down any horizontal axis will do.
    return [1.0, 0.0, 0.0, 0.0] if norm < 1e-9 else (quaternion / norm).tolist()
