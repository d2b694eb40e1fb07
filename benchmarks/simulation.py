"""Speed of the quadruped's simulation against bare mj_step, and how it walks: results/simulation.json.

Run as `python -m benchmarks.simulation`. Ratios come from one run and are of CPU time on one thread: in every
round the same states are stepped by a plain loop over mj_step and by the code under test.
"""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import mujoco
import numpy as np
import tyro

from dmcm.quadruped.body.properties import draw_robots
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.walking.environment import WalkEnvironment
from dmcm.quadruped.walking.policy import load_policy, mean_action
from dmcm.quadruped.walking.ppo import PpoConfig, Trainee, collect, improve
from dmcm.quadruped.walking.suite import WalkingSuite, run_suite
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.simulation import SUBSTEPS, Simulation
from dmcm.quadruped.world.terrain import TRAINING_TERRAINS
from dmcm.runs import environment
from dmcm.storage import write_json

STATE = mujoco.mjtState.mjSTATE_INTEGRATION


@dataclasses.dataclass(frozen=True)
class Options:
    """What is measured."""

    robots: int = 130
    """Robots stepped at once, spread over all training grounds."""
    rounds: int = 60
    """Control steps that are timed."""
    episodes: int = 64
    """Episodes of each cell of the walking suite."""
    results: Path | None = Path("results/simulation.json")
    """File for the table."""


class Raw:
    """A plain loop over mj_step, on the models and states of a simulation."""

    def __init__(self, simulation: Simulation):
        self.simulation = simulation
        self.models = [simulation.batch.get_model(i) for i in range(simulation.count)]
        self.datas = [mujoco.MjData(model) for model in self.models]

    def seconds(self) -> float:
        """CPU time of one control step of all robots from where the simulation is."""
        for model, data, state in zip(self.models, self.datas, self.simulation.batch.state, strict=True):
            mujoco.mj_setState(model, data, state, STATE)
        began = time.process_time()
        for model, data in zip(self.models, self.datas, strict=True):
            mujoco.mj_step(model, data, SUBSTEPS)
        return time.process_time() - began


def ratios(options: Options) -> dict[str, Any]:
    """Throughput of the simulation, the environment and PPO as shares of bare mj_step."""
    table, arena = load_robot("go1"), Arena(TRAINING_TERRAINS)
    rng = np.random.default_rng(0)
    robots = draw_robots(rng, options.robots)
    tiles = np.arange(options.robots) % len(arena.terrains)
    walkers = WalkEnvironment(table, arena, robots, tiles, threads=1)
    policy, _ = load_policy(WalkingSuite().policy)
    observation, _ = walkers.reset(seed=0)
    simulation = walkers.simulation
    raw = Raw(simulation)
    times: dict[str, list[float]] = {"raw": [], "physics": [], "environment": []}
    resets = 0
    for step in range(options.rounds + 20):
        # Enough noise that robots fall and restart all the time.
        action = np.asarray(mean_action(policy, observation)) + rng.normal(0, 1.0, (options.robots, 12))
        bare = raw.seconds()
        before = simulation.snapshot()
        targets = walkers.joint_targets()
        began = time.process_time()
        simulation.step(targets)
        physics = time.process_time() - began
        simulation.batch.state[:] = before.state
        simulation.moved_m[:] = before.moved_m
        began = time.process_time()
        observation, _, fell, cut, _ = walkers.step(action)
        walkers.privileged()
        whole = time.process_time() - began
        if step >= 20:
            resets += int((fell | cut).sum())
            for name, value in (("raw", bare), ("physics", physics), ("environment", whole)):
                times[name].append(value)
    total = {name: float(np.sum(values)) for name, values in times.items()}
    steps = options.robots * options.rounds
    return {
        "physics": total["raw"] / total["physics"],
        "observations_and_resets": total["raw"] / total["environment"],
        "resets": resets,
        "raw_control_steps_per_cpu_s": steps / total["raw"],
        "robots": options.robots,
        "control_steps": options.rounds,
    }


def ppo_ratio(options: Options) -> dict[str, float]:
    """Speed of our PPO, rollouts and updates together, as a share of the environment's own."""
    table, arena = load_robot("go1"), Arena(TRAINING_TERRAINS)
    rng = np.random.default_rng(0)
    count, config = 256, PpoConfig()
    tiles = np.arange(count) % len(arena.terrains)
    walkers = WalkEnvironment(table, arena, draw_robots(rng, count), tiles, threads=1)
    policy, _ = load_policy(WalkingSuite().policy)
    trainee = Trainee(policy, config)
    observation, _ = walkers.reset(seed=0)
    spent: list[tuple[float, float]] = []
    own_step = walkers.step

    def timed(actions: np.ndarray) -> Any:
        began = time.process_time()
        result = own_step(actions)
        spent[-1] = (spent[-1][0] + time.process_time() - began, spent[-1][1])
        return result

    walkers.step = timed  # type: ignore[method-assign]
    for round_ in range(7):
        spent.append((0.0, 0.0))
        began = time.process_time()
        acting, learning = jax.random.split(jax.random.key(round_))
        rollout, observation, last, _ = collect(trainee.policy, walkers, observation, config, acting)
        trainee, _ = improve(trainee, rollout, last, config, learning)
        spent[-1] = (spent[-1][0], time.process_time() - began)
    inside, whole = np.sum(spent[2:], axis=0)
    return {"ppo_of_environment": float(inside / whole)}


def main(options: Options) -> None:
    """Measure, print and write."""
    found = {"throughput": ratios(options) | ppo_ratio(options)}
    print(found)
    suite = run_suite(WalkingSuite(episodes=options.episodes))
    found |= {
        "walking": suite["cells"],
        "policy": suite["policy"],
        "episodes": suite["episodes"],
        "seconds": suite["seconds"],
        "command": f"python -m benchmarks.simulation --episodes {options.episodes}",
        "environment": environment(),
    }
    for name, cell in suite["cells"].items():
        print(
            f"{name:32s} success {cell['success']:.2f} progress {cell['progress']:.2f} falls {cell['falls']}"
        )
    if options.results is not None:
        write_json(options.results, found)


if __name__ == "__main__":
    main(tyro.cli(Options))
