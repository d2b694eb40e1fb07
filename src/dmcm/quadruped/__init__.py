"""A four-legged robot on many grounds: simulation, data labelled by robot and terrain, dynamics models.

Needs the extra `dmcm[quadruped]`. Arrays of twelve joints are in the order of `robot_table.JOINT_NAMES`;
frames are x forward, y left, z up; the world frame has its x axis along the ground's slope or stairs.
"""

from dmcm.errors import ConfigError

try:
    import gymnasium as _gymnasium  # noqa: F401
    import mujoco.batch as _batch  # noqa: F401
except ImportError as error:
    raise ConfigError(
        f"the quadruped needs mujoco 4 or newer and gymnasium ({error}). Install them with: "
        "pip install 'dmcm[quadruped]'"
    ) from error
