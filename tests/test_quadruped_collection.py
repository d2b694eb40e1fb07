"""Grid, recordings, and the folder that stores them: equal bits however collected, and damage refused."""

import dataclasses
import hashlib
import os
import shutil
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from dmcm.errors import ClusterError, ConfigError, DataError, StorageError
from dmcm.quadruped.body.properties import TRAINING_RANGES, RobotProperties, as_columns
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.data import collection as module
from dmcm.quadruped.data import distributed
from dmcm.quadruped.data.collection import collect, read_collection
from dmcm.quadruped.data.grid import SPLITS, GridConfig, make_grid
from dmcm.quadruped.data.recording import COLUMNS, column, delayed, record
from dmcm.quadruped.data.shards import CollectConfig, collect_shard, shard_cells
from dmcm.quadruped.data.windows import WindowConfig, cut
from dmcm.quadruped.walking.commands import CommandRanges
from dmcm.quadruped.walking.environment import WalkConfig
from dmcm.quadruped.walking.policy import load_policy
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.terrain import OOD_TERRAINS, TRAINING_TERRAINS, Terrain
from dmcm.storage import load_arrays, read_json, save_arrays, write_json

SMALL = CollectConfig(grid=GridConfig(robots=4, ood_robots=1, seed=24), seconds=4.0)
"""100 cells, so a shard of 64 and a short one of 36; the robot from outside is soft and heavy, and falls."""
FIRST, LAST = 0, 1


# --- the grid ---


def parts(pairs):
    """How many groups of robots and grounds have no pair between them."""
    parent = {}

    def root(node):
        while parent.setdefault(node, node) != node:
            node = parent[node]
        return node

    for robot, terrain in pairs:
        parent[root(("robot", robot))] = root(("terrain", terrain))
    return len({root(node) for node in list(parent)}), len(parent)


@pytest.mark.parametrize("coverage", [0.01, 0.3, 1.0])
@pytest.mark.parametrize("seed", range(5))
def test_seen_pairs_are_connected(coverage, seed):
    grid = make_grid(GridConfig(robots=20, coverage=coverage, seed=seed))
    seen = [(cell.robot, cell.terrain) for cell in grid.cells if cell.split == "seen_pair"]
    assert parts(seen) == (1, 20 + len(TRAINING_TERRAINS))


@pytest.mark.parametrize("coverage", [0.2, 0.6, 0.9])
def test_coverage_is_near_what_was_asked(coverage):
    """Of the pairs that are drawn: those of the first robot and of flat ground are all seen."""
    grid = make_grid(GridConfig(robots=200, coverage=coverage, unseen_pairs=10_000))
    drawn = [cell.split for cell in grid.cells if cell.split.endswith("pair") and cell.robot and cell.terrain]
    assert len(drawn) == 199 * (len(TRAINING_TERRAINS) - 1)
    assert drawn.count("seen_pair") / len(drawn) == pytest.approx(coverage, abs=0.03)


def test_only_so_many_unseen_pairs_are_collected():
    counts = []
    for most in (0, 7, 10_000):
        grid = make_grid(GridConfig(robots=20, unseen_pairs=most))
        splits = [cell.split for cell in grid.cells]
        counts.append(splits.count("unseen_pair"))
        # What training sees does not depend on what it is tested on.
        seen = [cell for cell in grid.cells if cell.split == "seen_pair"]
        assert seen == [c for c in make_grid(GridConfig(robots=20)).cells if c.split == "seen_pair"]
    assert counts == [0, 7, 20 * len(TRAINING_TERRAINS) - len(seen)]


def test_full_coverage_leaves_no_pair_unseen():
    assert "unseen_pair" not in {cell.split for cell in make_grid(GridConfig(coverage=1.0)).cells}


def test_splits_share_no_pair_and_are_what_they_are_called():
    config = GridConfig()
    grid = make_grid(config)
    pairs = [(cell.robot, cell.terrain) for cell in grid.cells]
    assert len(set(pairs)) == len(pairs)
    assert {cell.split for cell in grid.cells} == set(SPLITS)
    for cell in grid.cells:
        from_outside = (cell.robot >= config.robots, cell.terrain >= len(TRAINING_TERRAINS))
        assert from_outside == {"ood_robot": (True, False), "ood_terrain": (False, True)}.get(
            cell.split, (cell.split == "ood_both",) * 2
        )


def test_every_robot_and_ground_is_met():
    grid = make_grid(GridConfig())
    assert {cell.robot for cell in grid.cells} == set(range(len(grid.robots)))
    assert {cell.terrain for cell in grid.cells} == set(range(len(grid.terrains)))


def test_training_grounds_carry_no_label_from_outside():
    labels = [{terrain.label for terrain in terrains} for terrains in (TRAINING_TERRAINS, OOD_TERRAINS)]
    assert [len(group) for group in labels] == [len(TRAINING_TERRAINS), len(OOD_TERRAINS)]
    assert not labels[0] & labels[1]


def test_robots_are_inside_or_outside_the_training_ranges():
    """Those from outside in P gain or payload at least."""
    grid = make_grid(GridConfig(robots=200, ood_robots=200))
    values = as_columns(grid.robots)
    inside = {
        name: (low <= values[name]) & (values[name] <= high) for name, (low, high) in TRAINING_RANGES.items()
    }
    assert np.all([share[:200] for share in inside.values()])
    gain, payload = (~inside[name][200:] for name in ("p_gain_nm_per_rad", "payload_kg"))
    assert np.all(gain | payload)
    for kind in (gain & payload, gain & ~payload, payload & ~gain):
        assert 0.2 < kind.mean() < 0.5


def test_grid_depends_on_its_seed_alone():
    assert make_grid(GridConfig(seed=3)) == make_grid(GridConfig(seed=3))
    one, other = make_grid(GridConfig(seed=3)), make_grid(GridConfig(seed=4))
    assert one.robots != other.robots
    assert one.cells != other.cells


@pytest.mark.parametrize(
    "bad",
    [{"robots": 1}, {"ood_robots": -1}, {"coverage": 0.0}, {"coverage": 1.1}, {"coverage": np.nan}],
    ids=str,
)
def test_impossible_grids_are_refused(bad):
    with pytest.raises(ConfigError, match=next(iter(bad))):
        make_grid(GridConfig(**bad))
    with pytest.raises(ConfigError, match=next(iter(bad))):
        CollectConfig(grid=GridConfig(**bad)).check()


# --- recordings ---


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """A finished folder and what was read from it. Copy the folder before changing it."""
    folder = tmp_path_factory.mktemp("collected")
    return folder, collect(SMALL, folder, threads=1, progress=False)


def properties(collection):
    """Properties of each cell's robot, each of shape (cells, 1, 1)."""
    robots = [collection.grid.robots[cell.robot] for cell in collection.grid.cells]
    return {name: values[:, None, None] for name, values in as_columns(robots).items()}


def test_columns_partition_a_recording():
    taken = np.concatenate([np.arange(1000)[column(name)] for name in COLUMNS])
    np.testing.assert_array_equal(taken, np.arange(sum(COLUMNS.values())))


def test_readings_are_what_their_names_say(collected):
    _, data = collected
    table = load_robot("go1")
    assert data.data.dtype == np.float32
    assert data.data.shape == (100, 200, sum(COLUMNS.values()))
    np.testing.assert_allclose(np.linalg.norm(data["gravity_direction"], axis=-1), 1.0, atol=1e-5)
    limits = table.joint_limits_rad
    assert np.all(data["joint_targets_rad"] >= limits[:, 0] - 1e-6)
    assert np.all(data["joint_targets_rad"] <= limits[:, 1] + 1e-6)
    assert np.all((data["gait_phase"] >= 0) & (data["gait_phase"] < 1))
    assert np.all(data["foot_forces_n"] >= 0)
    for name in ("begins", "falls", "diverges"):
        assert set(np.unique(data[name])) <= {0.0, 1.0}


def test_commands_keep_their_ranges_on_every_ground(collected):
    command, ranges = collected[1]["command"], SMALL.commands
    for axis, (low, high) in enumerate((ranges.forward_m_s, ranges.left_m_s, ranges.yaw_rad_s)):
        assert np.all((low - 1e-6 <= command[..., axis]) & (command[..., axis] <= high + 1e-6))


def test_motors_give_no_more_than_their_peak(collected):
    _, data = collected
    table = load_robot("go1")
    peak = np.array([table.joints[name].peak_torque_nm for name in ("hip", "thigh", "calf")] * 4)
    share = np.abs(data["torques_nm"]) / (peak * properties(data)["motor_strength"])
    # Some saturate, so the bound is the right one.
    assert share.max() == pytest.approx(1.0, abs=1e-5)


def test_torques_are_those_of_each_robots_own_gains(collected):
    """P fitted by least squares, a robot and ground at a time.

    A torque belongs to the last substep of 5 ms, which began where the next state was less its speed times
    5 ms. The speed then is only nearly that of the next state, hence the tolerance. A delay below 15 ms is
    over by then.
    """
    _, data = collected
    own = {name: values[..., 0, 0] for name, values in properties(data).items()}
    table = load_robot("go1")
    least = 0.99 * own["motor_strength"] * min(joint.peak_torque_nm for joint in table.joints.values())
    fitted = 0
    for cell in np.flatnonzero(own["action_delay_s"] < 0.015):
        speed = data["joint_speeds_rad_s"][cell, 1:]
        pull = data["joint_targets_rad"][cell, :-1] - (data["joint_angles_rad"][cell, 1:] - 0.005 * speed)
        torque = data["torques_nm"][cell, :-1]
        usable = (data["begins"][cell, 1:] == 0) & (np.abs(torque) < least[cell])
        push = (torque + own["d_gain_nms_per_rad"][cell] * speed)[usable]
        p_gain = push @ pull[usable] / (pull[usable] @ pull[usable])
        assert p_gain == pytest.approx(own["p_gain_nm_per_rad"][cell], rel=0.1)
        fitted += 1
    assert fitted > 40


def test_trunks_lean_with_their_ground(collected):
    """Gravity points backwards in the trunk of a robot that looks uphill."""
    _, data = collected
    labels = np.array([data.grid.terrains[cell.terrain].label for cell in data.grid.cells])
    lean = data["gravity_direction"][..., 0].mean(axis=1)
    for kind in ("slope", "stairs"):
        up, down = (lean[np.char.startswith(labels, f"{kind}_{way}")] for way in ("up", "down"))
        flat = lean[labels == "flat"]
        assert up.mean() < flat.mean() < down.mean()


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_delayed_targets_are_those_given_earlier_in_the_same_episode(steps):
    rng = np.random.default_rng(steps)
    data = rng.normal(size=(3, 120, sum(COLUMNS.values()))).astype(np.float32)
    for name in ("begins", "falls", "diverges"):
        data[..., column(name)] = 0
    for row, starts in enumerate(([0], [0, 40], [0, 1, 2, 55, 57])):
        data[row, starts, column("begins")] = 1
        data[row, np.array(starts[1:], int) - 1, column("falls")] = 1
    windows = cut(delayed(data, steps), WindowConfig(stride=1), parts=1, outcomes=False)
    targets, angles = column("joint_targets_rad"), column("joint_angles_rad")
    for row, starts in enumerate(([0], [0, 40], [0, 1, 2, 55, 57])):
        found = []
        for i in range(windows.count[row, 0]):
            now = windows.step[row, 0, i]
            found.append(now)
            offsets = windows.x[row, 0, i, 3 * 30 : 3 * 30 + 36].reshape(3, 12)
            past = np.arange(now - 2, now + 1)
            expected = data[row, past - steps, targets] - data[row, past, angles]
            np.testing.assert_allclose(offsets, expected, rtol=1e-5, atol=1e-6)
        # All samples whose past, given targets and next step lie in one episode before the step of its fall.
        episodes = zip(starts, [*(start - 1 for start in starts[1:]), 120], strict=True)
        spans = [range(start + 2 + steps, end - 1) for start, end in episodes]
        assert sorted(found) == [now for span in spans for now in span]


def test_robots_begin_first_and_after_each_fall(collected):
    _, data = collected
    begins, falls = data["begins"][..., 0], data["falls"][..., 0]
    assert np.all(begins[:, 0] == 1)
    np.testing.assert_array_equal(begins[:, 1:], falls[:, :-1])
    assert falls.sum() > 0


def test_robots_begin_after_each_cut_at_rest_in_the_home_pose():
    policy, _ = load_policy(SMALL.policy)
    table = load_robot("go1")
    data = record(
        policy,
        table,
        [RobotProperties(), RobotProperties()],
        Arena([Terrain("flat")]),
        [0, 0],
        WalkConfig(episode_s=0.5),
        seconds=2.0,
        exploration=0.0,
        seed=(0,),
    )
    assert not data[..., column("falls")].any()
    begins = data[..., column("begins")][..., 0] == 1
    np.testing.assert_array_equal(np.flatnonzero(begins[0]), [0, 25, 50, 75])
    np.testing.assert_array_equal(begins[0], begins[1])
    angles, speeds = (data[..., column(f"joint_{name}")] for name in ("angles_rad", "speeds_rad_s"))
    assert np.ptp(angles[begins], axis=0).max() == 0
    assert np.all(speeds[begins] == 0)
    assert np.abs(speeds[~begins]).max(axis=-1).min() > 0.01


def test_threads_do_not_change_a_bit(collected):
    np.testing.assert_array_equal(collect_shard(SMALL, LAST, threads=2), collected[1].data[64:])


# --- the folder ---


@pytest.fixture
def folder(collected, tmp_path):
    """A copy to spoil."""
    return Path(shutil.copytree(collected[0], tmp_path / "copy"))


@pytest.fixture
def simulated(collected, monkeypatch):
    """Numbers of the shards that are asked for from now on; known data instead of a simulation."""
    numbers = []

    def known(config, number, *, threads=0):
        numbers.append(number)
        return collected[1].data[64 * number : 64 * (number + 1)]

    monkeypatch.setattr(module, "collect_shard", known)
    return numbers


def shard(folder, number):
    return folder / f"shard-{number:04d}.safetensors"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def digests(folder):
    return {path.name: sha256(path) for path in sorted(folder.iterdir())}


def contents(folder):
    """What the files say. Their bytes may differ: safetensors keeps its metadata in no fixed order."""
    manifest = read_json(folder / "manifest.json")
    for number, entry in manifest["shards"].items():
        assert entry.pop("sha256") == sha256(shard(folder, int(number)))
    bits = {}
    for path in sorted(folder.glob("shard-*")):
        arrays, about = load_arrays(path)
        bits[path.name] = {name: value.tobytes() for name, value in arrays.items()}, about
    assert sorted(digests(folder)) == ["manifest.json", *bits]
    return manifest, bits


def edit_manifest(folder, **changes):
    write_json(folder / "manifest.json", read_json(folder / "manifest.json") | changes)


def rewrite(folder, number, change):
    """Change a shard's data and make the manifest agree."""
    arrays, about = load_arrays(shard(folder, number))
    save_arrays(shard(folder, number), {"data": change(arrays["data"].copy())}, about)
    entries = read_json(folder / "manifest.json")["shards"]
    entries[str(number)]["sha256"] = sha256(shard(folder, number))
    edit_manifest(folder, shards=entries)


def test_folder_holds_shards_and_what_they_are(collected):
    folder, data = collected
    assert sorted(digests(folder)) == ["manifest.json", shard(folder, 0).name, shard(folder, 1).name]
    manifest = read_json(folder / "manifest.json")
    assert [entry["cells"] for entry in manifest["shards"].values()] == [64, 36]
    assert sum(entry["falls"] for entry in manifest["shards"].values()) == data["falls"].sum()
    assert [cell for cells in shard_cells(SMALL) for cell in cells] == list(make_grid(SMALL.grid).cells)


def test_reading_gives_what_collecting_gave(collected):
    folder, data = collected
    again = read_collection(folder)
    np.testing.assert_array_equal(again.data, data.data)
    assert again.grid == data.grid == make_grid(SMALL.grid)
    assert again.config == data.config
    numbers = np.concatenate([again.cells_of(split) for split in SPLITS])
    np.testing.assert_array_equal(np.sort(numbers), np.arange(100))
    for split in SPLITS:
        assert {again.grid.cells[i].split for i in again.cells_of(split)} == {split}


def test_finished_folder_is_not_simulated_again(collected, folder, simulated):
    before = digests(folder)
    data = collect(SMALL, folder)
    assert simulated == []
    assert digests(folder) == before
    np.testing.assert_array_equal(data.data, collected[1].data)


def test_stopped_and_resumed_ends_where_an_unstopped_one_does(collected, tmp_path, simulated, monkeypatch):
    known = module.collect_shard

    def stop_before_the_last(config, number, *, threads=0):
        if number == LAST:
            raise KeyboardInterrupt
        return known(config, number, threads=threads)

    monkeypatch.setattr(module, "collect_shard", stop_before_the_last)
    with pytest.raises(KeyboardInterrupt):
        collect(SMALL, tmp_path / "out", progress=False)
    assert simulated == [FIRST]
    monkeypatch.setattr(module, "collect_shard", collect_shard)  # the last one for true
    collect(SMALL, tmp_path / "out", progress=False, threads=2)
    assert contents(tmp_path / "out") == contents(collected[0])


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def alter(path):
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)


def swap(path):
    """Another shard in its place: whole, but not this one."""
    shutil.copy(shard(path.parent, FIRST if path == shard(path.parent, LAST) else LAST), path)


@pytest.mark.parametrize("number", [FIRST, LAST])
@pytest.mark.parametrize("damage", [truncate, alter, swap, Path.unlink])
def test_damaged_shard_is_refused_and_collecting_repairs_it(folder, simulated, damage, number):
    before = contents(folder)
    damage(shard(folder, number))
    with pytest.raises(StorageError, match=shard(folder, number).name):
        read_collection(folder)
    collect(SMALL, folder, progress=False)
    assert simulated == [number]
    assert contents(folder) == before


def test_shard_that_the_manifest_lacks_is_named_and_simulated_again(folder, simulated):
    """As after a stop between writing a shard and writing that it is there."""
    before = contents(folder)
    entries = read_json(folder / "manifest.json")["shards"]
    del entries[str(LAST)]
    edit_manifest(folder, shards=entries)
    with pytest.raises(DataError, match=rf"incomplete: shards \[{LAST}\] of 2"):
        read_collection(folder)
    collect(SMALL, folder, progress=False)
    assert simulated == [LAST]
    assert contents(folder) == before


@pytest.mark.parametrize(
    "change",
    [
        {"seconds": 4.02},
        {"exploration": 0.2},
        {"seed": 1},
        {"robot": "a1"},
        {"commands": CommandRanges()},
        {"grid": dataclasses.replace(SMALL.grid, seed=1)},
        {"grid": dataclasses.replace(SMALL.grid, coverage=0.5)},
    ],
    ids=str,
)
def test_folder_of_other_settings_is_refused(folder, simulated, change):
    before = digests(folder)
    with pytest.raises(ConfigError, match=f"other settings: {next(iter(change))}"):
        collect(dataclasses.replace(SMALL, **change), folder, progress=False)
    assert simulated == []
    assert digests(folder) == before


def test_folder_of_another_policy_of_the_same_name_is_refused(folder, simulated, tmp_path):
    other = tmp_path / SMALL.policy.name
    other.write_bytes(SMALL.policy.read_bytes() + b" ")
    with pytest.raises(ConfigError, match="other settings"):
        collect(dataclasses.replace(SMALL, policy=other), folder, progress=False)
    assert simulated == []


@pytest.mark.parametrize(
    "bad",
    [
        {"seconds": 3.9},
        {"seconds": 601.0},
        {"seconds": np.nan},
        {"exploration": -0.1},
        {"exploration": np.nan},
        {"exploration": np.inf},
        {"seed": -1},
        {"grid": GridConfig(seed=-1)},
    ],
    ids=str,
)
def test_settings_out_of_range_are_refused_before_anything_is_written(bad, tmp_path):
    with pytest.raises(ConfigError, match="seed" if "grid" in bad else next(iter(bad))):
        collect(dataclasses.replace(SMALL, **bad), tmp_path, progress=False)
    assert digests(tmp_path) == {}


def test_policy_that_is_not_there_is_named(tmp_path):
    with pytest.raises(StorageError, match="lost"):
        collect(dataclasses.replace(SMALL, policy=tmp_path / "lost"), tmp_path / "out", progress=False)


def test_folder_without_manifest_is_refused(folder):
    (folder / "manifest.json").unlink()
    with pytest.raises(StorageError, match=r"no data in .*manifest\.json.*quadruped collect --out"):
        read_collection(folder)


@pytest.mark.parametrize("text", ["{", "[]", '{"kind": "something else"}', '{"kind": "quadruped data"}'])
def test_manifest_that_is_none_is_refused(folder, simulated, text):
    """By both who read and who would go on collecting."""
    (folder / "manifest.json").write_text(text)
    for use in (read_collection, lambda place: collect(SMALL, place, progress=False)):
        with pytest.raises(StorageError, match=r"manifest\.json"):
            use(folder)
    assert simulated == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("rate_hz", "50"),
        ("config", None),
        ("config", {}),
        ("cells", []),
        ("robots", {}),
        ("shards", {"0": 1}),
    ],
)
def test_manifest_with_a_part_of_another_kind_is_refused(folder, name, value):
    file = folder / "manifest.json"
    write_json(file, {**read_json(file), name: value})
    with pytest.raises(StorageError, match=f"is damaged: .*{name}.*collect into another folder"):
        read_collection(folder)


def test_manifest_with_a_property_of_another_version_is_refused(folder):
    robots = read_json(folder / "manifest.json")["robots"]
    robots[0]["tail_m"] = 0.3
    edit_manifest(folder, robots=robots)
    with pytest.raises(StorageError, match="tail_m"):
        read_collection(folder)


def reversed_joints(manifest):
    return {"joints": manifest["joints"][::-1]}


def without_torques(manifest):
    return {"columns": {name: n for name, n in manifest["columns"].items() if name != "torques_nm"}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda manifest: {"rate_hz": 100.0}, "100.0 Hz, not 50 Hz"),
        (reversed_joints, "joints are in the order"),
        (without_torques, "columns"),
        (lambda manifest: {"cells": manifest["cells"][:-1]}, "100 cells of data, 99 in the manifest"),
    ],
    ids=["rate", "joints", "columns", "cells"],
)
def test_data_of_another_kind_are_refused(folder, change, message):
    edit_manifest(folder, **change(read_json(folder / "manifest.json")))
    with pytest.raises(DataError, match=message):
        read_collection(folder)


def with_one(value):
    def put(data):
        data[3, 100, 7] = value
        return data

    return put


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_one(np.nan), "not finite"),
        (with_one(-np.inf), "not finite"),
        (lambda data: data[:, :-1], "gaps"),
        (lambda data: data[..., :-1], "shape"),
        (lambda data: data[1:], "99 cells of data, 100 in the manifest"),
    ],
    ids=["nan", "infinity", "steps", "columns", "cells"],
)
def test_shard_with_holes_is_refused(folder, change, message):
    rewrite(folder, LAST, change)
    with pytest.raises(DataError, match=message):
        read_collection(folder)


# --- over a cluster ---

# JAX warns of any fork. Ray forks to start a node's processes, which become other programs at once.
ray_forks = pytest.mark.filterwarnings(r"ignore:os\.fork\(\) was called:RuntimeWarning")


@pytest.fixture(scope="module")
def cluster():
    """A head that simulates nothing and one node with one core, both processes of this machine."""
    pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        # Said here, or a token that some other use of Ray has left at home would be asked for.
        patch.setenv("RAY_AUTH_MODE", "disabled")
        patch.delenv("RAY_ADDRESS", raising=False)
        # Ray lets workers wait for whatever else runs here, such as the other tests.
        patch.setenv("RAY_worker_niceness", "0")
        import ray
        from ray.cluster_utils import Cluster

        started = Cluster()
        try:
            started.add_node(num_cpus=0, include_dashboard=False)
            started.add_node(num_cpus=1)
            yield started
        finally:
            ray.shutdown()
            started.shutdown()


@pytest.mark.slow
@ray_forks
def test_cluster_collects_the_same_bits(cluster, collected, tmp_path):
    collect(SMALL, tmp_path, ray_address=cluster.address, progress=False)
    assert contents(tmp_path) == contents(collected[0])


@pytest.mark.slow
@ray_forks
def test_shards_of_a_node_that_dies_are_simulated_elsewhere(cluster, collected, tmp_path):
    import ray

    doomed = cluster.add_node(num_cpus=1)

    def cores():
        """All and free ones; none of either while Ray is still connecting."""
        if not ray.is_initialized():
            return 0, 0
        return ray.cluster_resources().get("CPU", 0), ray.available_resources().get("CPU", 0)

    def kill_once_all_are_busy():
        """Two nodes and two shards: when no core is free, this one simulates."""
        seen, until = set(), time.monotonic() + 60
        while (2, 0) not in seen and time.monotonic() < until:
            time.sleep(0.05)
            seen.add(cores())
        cluster.remove_node(doomed, allow_graceful=False)
        return seen

    with ThreadPoolExecutor(1) as pool:
        killer = pool.submit(kill_once_all_are_busy)
        collect(SMALL, tmp_path, ray_address=cluster.address, progress=False)
        assert (2, 0) in killer.result()
    assert contents(tmp_path) == contents(collected[0])


@pytest.mark.slow
@ray_forks
def test_errors_of_workers_are_those_of_the_library(cluster, tmp_path):
    config = dataclasses.replace(SMALL, policy=tmp_path / "lost")
    with pytest.raises(StorageError, match="lost"):
        collect(config, tmp_path / "out", ray_address=cluster.address, progress=False)


@pytest.mark.slow
@ray_forks
def test_a_shard_that_kills_every_worker_ends_in_advice(cluster, monkeypatch, tmp_path):
    monkeypatch.setattr(distributed, "_RETRIES", 0)
    monkeypatch.setattr(distributed, "_simulate", lambda config, number: os._exit(1))
    with pytest.raises(ClusterError, match=r"every attempt, 1 in all.*the same command"):
        collect(SMALL, tmp_path, ray_address=cluster.address, progress=False)


def test_address_where_no_cluster_answers_is_refused(tmp_path):
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # ours, and nobody listens
        for address in (f"127.0.0.1:{taken.getsockname()[1]}", "nonsense"):
            with pytest.raises(ConfigError, match=f"no Ray cluster answers at '{address}'"):
                collect(SMALL, tmp_path, ray_address=address, progress=False)
    assert digests(tmp_path) == {}
