"""Tests of the stand-in as a robot of the deployment loop."""

import numpy as np
import pytest

from dmcm.errors import ConfigError
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.export import export_policy
from dmcm.quadruped.data.recording import TRUTH, column
from dmcm.quadruped.deployment.controller import Controller
from dmcm.quadruped.deployment.loop import run
from dmcm.quadruped.deployment.robot import Robot
from dmcm.quadruped.standin.gap import RealityGap
from dmcm.quadruped.standin.simulation import StandIn
from dmcm.quadruped.transfer.robot import StandInRobot
from dmcm.quadruped.walking.policy import POLICY
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.terrain import Terrain

GO1 = load_robot("go1")


def make(**properties):
    """A robot on flat ground, and its simulation."""
    simulation = StandIn(GO1, Arena([Terrain()]), 1, gap=RealityGap())
    simulation.set_robots(np.arange(1), [RobotProperties(**properties)])
    return StandInRobot(simulation), simulation


def test_it_walks_by_the_loop_and_settles(tmp_path):
    robot, simulation = make()
    assert isinstance(robot, Robot)
    controller = Controller(export_policy(POLICY, tmp_path / "policy.onnx"))
    outcome = run(robot, controller, lambda _: [0.5, 0.0, 0.0], seconds=3.0, stand_s=0.5)
    assert outcome.ended == "finished", outcome.reason
    assert simulation.travelled_m[0, 0] - 1.0 > 0.8
    data = outcome.recording()
    assert len(data) == 150
    assert np.all(np.isfinite(data[:-1, column("torques_nm")]))
    assert all(np.all(np.isnan(data[:, column(name)])) for name in TRUTH)


def test_a_damped_robot_sinks():
    robot, simulation = make()
    robot.wait_until(0.5)
    standing = simulation.qpos[0, 2]
    robot.damp()
    robot.damp()
    robot.wait_until(1.5)
    assert robot.now_s() == pytest.approx(1.5)
    assert simulation.qpos[0, 2] < standing - 0.1


def test_gains_act_in_proportion_to_the_robots_own():
    robot, simulation = make(p_gain_nm_per_rad=17.5, d_gain_nms_per_rad=0.4)
    robot.send(GO1.home_pose_rad, 70.0, 0.8)
    assert simulation.properties["p_gain_nm_per_rad"][0] == pytest.approx(35.0)
    assert simulation.properties["d_gain_nms_per_rad"][0] == pytest.approx(0.4)


def test_several_robots_are_refused():
    with pytest.raises(ConfigError, match="one robot"):
        StandInRobot(StandIn(GO1, Arena([Terrain()]), 2))
