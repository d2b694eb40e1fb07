"""Logs: what was written is read back, resampling against closed forms, every fault reported by name."""

import copy
import dataclasses
import io
import sys
import tomllib

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from mcap_ros2.writer import Writer

from dmcm.errors import DataError, DmcmError, ShapeError, StorageError
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import JOINT_NAMES, load_robot
from dmcm.quadruped.data.recording import COLUMNS, column, record
from dmcm.quadruped.data.shards import CollectConfig
from dmcm.quadruped.data.windows import WindowConfig, cut
from dmcm.quadruped.logs import mapping as mapping_module
from dmcm.quadruped.logs.channels import Channel, with_gravity
from dmcm.quadruped.logs.log import LEAST_STEPS, load_log
from dmcm.quadruped.logs.mapping import load_mapping, mapping_names, parse_mapping
from dmcm.quadruped.logs.mcap_write import write_mcap
from dmcm.quadruped.logs.quantities import MAPPED, QUANTITIES
from dmcm.quadruped.logs.resample import resample
from dmcm.quadruped.walking.environment import WalkConfig
from dmcm.quadruped.walking.policy import load_policy
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.terrain import Terrain
from dmcm.tables import write_table

GO1 = load_robot("go1")
ROS2, FLAT = load_mapping("ros2"), load_mapping("flat")
PERIOD_NS = 20_000_000
ALL = frozenset(QUANTITIES)
OPTIONAL = ("foot_forces_n", "trunk_velocity_m_s", "height_m", "torques_nm")


@pytest.fixture(scope="module")
def walk():
    """Five seconds of the shipped policy on flat ground, shape (steps, columns)."""
    policy, _ = load_policy(CollectConfig().policy)
    arena = Arena([Terrain("flat")])
    data = record(
        policy, GO1, [RobotProperties()], arena, [0], WalkConfig(), seconds=5.0, exploration=0.1, seed=(3,)
    )
    assert not data[0, :, column("falls")].any()
    return data[0]


def toml(name):
    """Content of a shipped mapping, to be changed."""
    return tomllib.loads((mapping_module._SHIPPED / f"{name}.toml").read_text())


def kinds(log, level="warning"):
    return {finding.kind for finding in log.findings if finding.level == level}


def assert_same(log, data, *, atol=0.0):
    assert log.data.dtype == np.float32
    assert log.data.shape == data.shape
    for name in COLUMNS:
        np.testing.assert_allclose(
            log.data[:, column(name)], data[:, column(name)], atol=max(atol, 1e-6), rtol=1e-6, err_msg=name
        )


# --- tables that hold a recording ---


def flat(data, *, start_s=0.0):
    """Columns of `mappings/flat.toml`; torques in the row of a step's end, so one row more."""
    steps = len(data)
    table = {"time_s": start_s + np.arange(steps + 1) * 0.02}
    for name, quantity in QUANTITIES.items():
        values = np.full((steps + 1, len(quantity.parts)), np.nan)
        rows = slice(1, None) if name == "torques_nm" else slice(None, -1)
        values[rows] = data[:, column(name)]
        for part, numbers in zip(quantity.parts, values.T, strict=True):
            table[name if len(quantity.parts) == 1 else f"{name}.{part}"] = numbers
    return table


def of_rows(table, rows):
    return {name: np.asarray(values)[rows] for name, values in table.items()}


@pytest.fixture
def load(tmp_path):
    """Load columns through a Parquet file."""

    def load(table, mapping=FLAT, robot=GO1, suffix="parquet"):
        path = tmp_path / f"log.{suffix}"
        write_table(path, table)
        return load_log(path, mapping, robot)

    return load


def columns_of(table, name):
    parts = QUANTITIES[name].parts
    return [name] if len(parts) == 1 else [f"{name}.{part}" for part in parts]


def changed(table, name, change):
    """The table with another version of a quantity, given as (rows, parts)."""
    names = columns_of(table, name)
    values = change(np.stack([table[n] for n in names], axis=1).copy())
    return {**table, **dict(zip(names, values.T, strict=True))}


# --- round trips ---


@pytest.mark.parametrize("start_s", [0.0, 1_700_000_000.25])
def test_mcap_gives_back_what_was_recorded(walk, tmp_path, start_s):
    write_mcap(tmp_path / "walk.mcap", walk, GO1, start_s=start_s)
    log = load_log(tmp_path / "walk.mcap", ROS2, GO1)
    assert_same(log, walk)
    assert log.measured == ALL
    assert log.findings == ()
    assert log.source == "walk.mcap"
    assert log.seconds == pytest.approx(len(walk) * 0.02)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("start_s", [0.0, 1_700_000_000.0])
def test_tables_give_back_what_was_recorded(walk, load, suffix, start_s):
    log = load(flat(walk, start_s=start_s), suffix=suffix)
    assert_same(log, walk)
    assert log.findings == ()


def test_samples_are_those_of_the_recording(walk, tmp_path):
    write_mcap(tmp_path / "walk.mcap", walk, GO1)
    log = load_log(tmp_path / "walk.mcap", ROS2, GO1)
    ours, theirs = (cut(data[None], WindowConfig()) for data in (log.data, walk))
    np.testing.assert_array_equal(ours.count, theirs.count)
    assert ours.count.min() > 0
    np.testing.assert_allclose(ours.x, theirs.x, atol=1e-5)
    np.testing.assert_allclose(ours.y, theirs.y, atol=1e-5)


def test_fresh_starts_come_back_as_fresh_starts(walk, tmp_path):
    data = np.concatenate([walk[:100], walk[:90]])
    assert data[:, column("begins")].sum() == 2
    write_mcap(tmp_path / "two.mcap", data, GO1)
    log = load_log(tmp_path / "two.mcap", ROS2, GO1)
    assert_same(log, data)
    assert kinds(log) == {"gaps"}


def test_what_was_not_measured_is_missing_and_said(walk, tmp_path):
    data = walk.copy()
    for name in OPTIONAL:
        data[:, column(name)] = np.nan
    write_mcap(tmp_path / "poor.mcap", data, GO1)
    log = load_log(tmp_path / "poor.mcap", ROS2, GO1)
    assert log.measured == ALL - set(OPTIONAL)
    assert_same(log, data)
    assert kinds(log) == set()
    missing = [finding for finding in log.findings if finding.kind == "missing"]
    assert [finding.level for finding in missing] == ["note"] * len(OPTIONAL)
    assert all(any(name in finding.text for finding in missing) for name in OPTIONAL)


def test_bag_of_several_files_is_one_log(walk, tmp_path):
    bag = tmp_path / "bag"
    bag.mkdir()
    # By name, the tenth would come before the second.
    for number, rows in ((2, slice(0, 120)), (10, slice(120, None))):
        part = walk[rows].copy()
        part[:, column("begins")] = 0
        write_mcap(bag / f"bag_{number}.mcap", part, GO1, start_s=rows.start * 0.02 + 5)
    log = load_log(bag, ROS2, GO1)
    assert_same(log, walk)
    assert log.findings == ()


def test_orientation_leans_as_the_trunk_did(walk, tmp_path):
    """Through the messages themselves: the quaternion, taken as a rotation matrix, points gravity down."""
    write_mcap(tmp_path / "walk.mcap", walk[:20], GO1)
    quaternions = []
    with (tmp_path / "walk.mcap").open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        for _, _, _, message in reader.iter_decoded_messages(topics=["/imu"]):
            q = message.orientation
            quaternions.append((q.x, q.y, q.z, q.w))
            assert message.linear_acceleration_covariance[0] == -1
    for (x, y, z, w), gravity in zip(quaternions, walk[:20, column("gravity_direction")], strict=True):
        down = [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)]
        np.testing.assert_allclose(np.negative(down), gravity, atol=1e-6)


@given(axis=st.tuples(*[st.floats(-1, 1)] * 3), turn=st.floats(-3.1, 3.1), negative=st.booleans())
def test_orientation_becomes_gravity_whatever_the_yaw(axis, turn, negative):
    axis = np.add(axis, (0.0, 0.0, 1e-3))
    axis /= np.linalg.norm(axis)
    x, y, z = axis
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation = np.eye(3) + np.sin(turn) * cross + (1 - np.cos(turn)) * cross @ cross
    quaternion = np.append(axis * np.sin(turn / 2), np.cos(turn / 2)) * (-1 if negative else 1)
    channel = Channel(np.zeros(1, np.int64), quaternion[None])
    found = with_gravity({"orientation": channel})["gravity_direction"].values[0]
    np.testing.assert_allclose(found, rotation.T @ [0, 0, -1], atol=1e-9)


UNITS = {"rad": "deg", "rad/s": "rpm", "N m": "mN m", "N": "kgf", "m/s": "km/h", "m": "mm"}


@hypothesis_settings(max_examples=30)
@given(data=st.data(), name=st.sampled_from(sorted(QUANTITIES)))
def test_any_mapping_is_undone(data, name):
    """Numbers written by the inverse of order, sign, offset and unit come back."""
    quantity = MAPPED[name]
    order = data.draw(st.permutations([*quantity.parts, "-", "-"]))
    signs = data.draw(st.lists(st.sampled_from([1, -1]), min_size=len(order), max_size=len(order)))
    offsets = data.draw(st.lists(st.floats(-5, 5), min_size=len(order), max_size=len(order)))
    given_units = [
        "1" if part == "-" else data.draw(st.sampled_from(sorted(quantity.units[quantity.parts.index(part)])))
        for part in order
    ]
    section = {"columns": [f"c{i}" for i in range(len(order))], "order": order}
    section |= {"sign": signs, "offset": offsets, "unit": given_units}
    source = parse_mapping({name: section}).sources[name]
    truth = np.random.default_rng(0).normal(size=(5, len(quantity.parts)))
    sizes = {unit: size for units in quantity.units for unit, size in units.items()}
    written = np.full((5, len(order)), 99.0)
    for at, part in enumerate(order):
        if part != "-":
            own = truth[:, quantity.parts.index(part)] / sizes[given_units[at]]
            written[:, at] = signs[at] * (own - offsets[at])
    np.testing.assert_allclose(source.convert(written, quantity), truth, atol=1e-9)


def test_sizes_of_units():
    """Against definitions, not against the table."""
    sizes = {unit: size for q in MAPPED.values() for units in q.units for unit, size in units.items()}
    assert 180 * sizes["deg"] == pytest.approx(np.pi)
    assert 60 * sizes["rpm"] == pytest.approx(2 * np.pi)
    assert 36 * sizes["km/h"] == pytest.approx(10)
    assert 1000 * sizes["mm"] == 100 * sizes["cm"] == sizes["m"] == 1
    assert 1000 * sizes["mN m"] == sizes["N m"]
    assert sizes["kgf"] == pytest.approx(9.80665)
    assert {
        unit: 1 / MAPPED["gait_phase"].units[0][unit] for unit in ("cycle", "rad", "deg")
    } == pytest.approx({"cycle": 1, "rad": 2 * np.pi, "deg": 360})


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_other_orders_signs_units_and_clocks(walk, load, suffix):
    """Left legs first, hips outward, degrees, a clock in ns and a w-x-y-z quaternion."""
    order = [f"{leg}_{joint}" for leg in ("FL", "FR", "RL", "RR") for joint in ("hip", "thigh", "calf")]
    sign = [-1 if name in ("FR_hip", "RR_hip") else 1 for name in order]
    table = {"t": np.arange(len(walk)) * PERIOD_NS + 1_700_000_000_123_456_789}
    content = {"clock": {"column": "t", "unit": "ns"}, "robot": "go1"}
    units = {"joint_angles_rad": "deg", "joint_targets_rad": "deg", "joint_speeds_rad_s": "deg/s"}
    for name, unit in units.items():
        values = np.rad2deg(walk[:, column(name)].astype(float))
        for at, joint in enumerate(order):
            table[f"{name[6]}{at}"] = sign[at] * values[:, JOINT_NAMES.index(joint)]
        content[name] = {"columns": [f"{name[6]}{i}" for i in range(12)], "order": order, "sign": sign}
        content[name]["unit"] = unit
    x, y, z = walk[:, column("gravity_direction")].astype(float).T
    lean = np.stack([1 - z, -y, x, np.zeros_like(x)])
    table |= dict(zip("abcd", lean / np.linalg.norm(lean, axis=0), strict=True))
    content["orientation"] = {"columns": list("abcd"), "order": ["w", "x", "y", "z"]}
    for name in ("gyro_rad_s", "command", "gait_phase"):
        columns = columns_of(None, name)
        content[name] = {"columns": columns}
        table |= dict(zip(columns, walk[:, column(name)].T, strict=True))
    table["gait_phase"] = table["gait_phase"] * 360
    content["gait_phase"]["unit"] = "deg"
    table["command.forward"] = table["command.forward"] * 3.6
    content["command"]["unit"] = ["km/h", "m/s", "rad/s"]
    expected = walk.copy()
    for name in OPTIONAL:
        expected[:, column(name)] = np.nan
    log = load(table, parse_mapping(content), suffix=suffix)
    phase = log.data[:, column("gait_phase")]
    assert np.all((phase >= 0) & (phase < 1))
    assert_same(log, expected, atol=2e-6)


# --- resampling, against closed forms ---


def channels(rate_hz, seconds=3.0, start_s=0.0, jitter_s=0.0, **other):
    """Known functions of time in every needed quantity: sinusoids, and for what holds the time itself."""
    rng = np.random.default_rng(0)
    out = {}
    for name, quantity in QUANTITIES.items():
        if not quantity.needed and name != "torques_nm":
            continue
        times = start_s + np.arange(round(seconds * rate_hz)) / rate_hz
        times_ns = np.round((times + jitter_s * rng.uniform(-1, 1, len(times))) * 1e9).astype(np.int64)
        values = truth(name, times_ns * 1e-9)
        out[name] = Channel(times_ns, values)
    return {**out, **other}


def truth(name, t):
    parts = len(QUANTITIES[name].parts)
    if name == "gravity_direction":
        return np.stack([np.sin(0.2 * np.sin(t)), 0 * t, -np.cos(0.2 * np.sin(t))], axis=1)
    if name == "gait_phase":
        return ((2.5 * t) % 1.0)[:, None]
    if QUANTITIES[name].held:
        return t[:, None] + np.arange(parts)
    return np.sin(2 * np.pi * 2.5 * t[:, None] + np.arange(parts))


def test_500_hz_is_interpolated_where_it_may_be():
    data = resample([channels(500)])
    steps = np.arange(len(data)) * 0.02
    assert len(data) == 149  # the last step's torque lies beyond the end
    for name in ("joint_angles_rad", "joint_speeds_rad_s", "gyro_rad_s", "gravity_direction"):
        # Of a sinusoid of 2.5 Hz, sampled at 500 Hz, a straight line misses (2 π 2.5 / 500)² / 8.
        np.testing.assert_allclose(data[:, column(name)], truth(name, steps), atol=1.3e-4)
    np.testing.assert_allclose(data[:, column("torques_nm")], truth("torques_nm", steps + 0.02), atol=1.3e-4)
    for name in ("command", "joint_targets_rad", "gait_phase"):
        np.testing.assert_allclose(data[:, column(name)], truth(name, steps), atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(data[:, column("gravity_direction")], axis=1), 1, atol=1e-6)


def test_between_its_own_samples_a_log_is_on_straight_lines():
    """33 ms apart in everything but targets, which set the steps."""
    targets = channels(50)["joint_targets_rad"]
    data = resample([channels(30, joint_targets_rad=targets)])
    steps = np.arange(len(data)) * 0.02
    own = np.arange(90) / 30
    expected = np.interp(steps, own, np.sin(2 * np.pi * 2.5 * own))
    np.testing.assert_allclose(data[:, column("joint_angles_rad")][:, 0], expected, atol=1e-6)
    held = np.floor(steps * 30 + 1e-6) / 30
    np.testing.assert_allclose(data[:, column("command")][:, 0], held, atol=1e-6)
    np.testing.assert_allclose(data[:, column("gait_phase")][:, 0], (2.5 * held) % 1, atol=1e-6)


def test_phase_is_never_between_the_ends_of_the_cycle():
    phase = resample([channels(90)])[:, column("gait_phase")][:, 0].astype(float)
    own = (2.5 * np.arange(270) / 90) % 1
    assert np.abs(phase[:, None] - own).min(axis=1).max() < 1e-6


def test_steps_are_those_of_a_controller_that_starts_late_and_trembles():
    """Targets 7 ms beside the other samples and 1.4 ms early or late, the first most: none is a step old."""
    rng = np.random.default_rng(1)
    at = 0.5 + 0.007 + np.arange(100) * 0.02
    early = np.append(-1.4e-3, rng.uniform(-1.4e-3, 1.4e-3, 99))
    times_ns = np.round((at + early) * 1e9).astype(np.int64)
    targets = Channel(times_ns, np.arange(100.0)[:, None] + np.zeros(12))
    data = resample([channels(500, joint_targets_rad=targets)])
    numbers = data[:, column("joint_targets_rad")][:, 0]
    assert len(numbers) >= 98
    np.testing.assert_array_equal(np.diff(numbers), 1)
    angle = data[:, column("joint_angles_rad")][:, 0]
    np.testing.assert_allclose(angle, np.sin(5 * np.pi * at[numbers.astype(int)]), atol=0.02)


@pytest.mark.parametrize("period_s", [0.0199, 0.02002, 0.0202])
@pytest.mark.parametrize("late_s", [0.0, 0.01])
def test_steps_follow_a_controller_that_drifts_or_is_late(period_s, late_s):
    """Each step has the next target and the angles of its own start, for 20 s."""
    at = 0.1 + np.arange(1000) * period_s + late_s * (np.arange(1000) // 90)
    targets = Channel(np.round(at * 1e9).astype(np.int64), np.arange(1000.0)[:, None] + np.zeros(12))
    data = resample([channels(500, seconds=21.0, joint_targets_rad=targets)])
    numbers = data[:, column("joint_targets_rad")][:, 0]
    assert len(numbers) >= 998
    np.testing.assert_array_equal(np.diff(numbers), 1)
    angle = data[:, column("joint_angles_rad")][:, 0]
    np.testing.assert_allclose(angle, np.sin(5 * np.pi * at[numbers.astype(int)]), atol=0.02)


def test_command_on_change_holds_as_long_as_it_must(walk, load):
    table = flat(walk)
    table = changed(table, "command", lambda v: np.where(np.arange(len(v))[:, None] == 0, v[0], np.nan))
    content = toml("flat")
    with pytest.raises(DataError, match="command"):
        load(table)
    content["command"]["on_change"] = True
    log = load(table, parse_mapping(content))
    assert len(log.data) == len(walk)
    assert np.ptp(log.data[:, column("command")], axis=0).max() == 0


def test_gap_cuts_the_log(walk, load):
    table = flat(walk)
    keep = np.ones(len(walk) + 1, bool)
    keep[100:110] = False
    log = load(of_rows(table, keep))
    assert kinds(log) == {"gaps"}
    # The step before has no torque at its end.
    expected = np.concatenate([walk[:99], walk[110:]])
    expected[99, column("begins")] = 1
    assert_same(log, expected)
    windows = cut(log.data[None], WindowConfig(), parts=1)
    reach = windows.step[0, 0, : windows.count[0, 0]]
    assert np.all((reach + 51 <= 98) | (reach - 2 >= 99))


def test_gap_of_days_costs_no_memory(walk, load):
    table = flat(walk)
    table["time_s"] = table["time_s"] + np.where(np.arange(len(walk) + 1) < 120, 0, 1e8)
    log = load(table)
    assert len(log.data) == len(walk) - 1
    assert kinds(log) == {"gaps"}


# --- clocks ---


def test_dropped_samples_are_bridged_and_counted(walk, load):
    keep = np.ones(len(walk) + 1, bool)
    keep[20:190:20] = False
    log = load(of_rows(flat(walk), keep))
    (finding,) = log.findings
    assert (finding.kind, finding.level) == ("dropped samples", "warning")
    assert "0.04 s" in finding.text
    assert len(log.data) == len(walk)
    middle = (walk[39, :12].astype(float) + walk[41, :12]) / 2
    np.testing.assert_allclose(log.data[40, :12], middle, atol=1e-5)


def test_repeated_times_are_dropped(walk, load):
    rows = np.sort(np.concatenate([np.arange(len(walk) + 1), [30, 31, 90]]))
    log = load(of_rows(flat(walk), rows))
    assert kinds(log) == {"duplicates"}
    assert_same(log, walk)


def test_samples_that_came_late_are_put_in_order(walk, load):
    rows = np.arange(len(walk) + 1)
    rows[[50, 51]] = [51, 50]
    log = load(of_rows(flat(walk), rows))
    assert kinds(log) == {"clock"}
    assert_same(log, walk)


@pytest.mark.parametrize("back_s", [0.05, 1.0, 1e9])
def test_clock_that_was_set_back_cuts_the_log(walk, load, back_s):
    table = flat(walk)
    table["time_s"] = table["time_s"] - np.where(np.arange(len(walk) + 1) < 120, 0, back_s)
    log = load(table)
    assert kinds(log) == {"clock"}
    expected = np.concatenate([walk[:119], walk[120:]])
    expected[119, column("begins")] = 1
    assert_same(log, expected)


def test_clock_that_runs_back_and_forth_is_refused(walk, load):
    table = flat(walk)
    table["time_s"] = np.abs((table["time_s"] % 0.301) - 0.15)
    with pytest.raises(DataError, match=r"clock: .*run back"):
        load(table)


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_clock_in_another_unit_is_refused(walk, load, unit):
    content = toml("flat")
    content["clock"]["unit"] = unit
    with pytest.raises(DataError, match=r"(rate|duplicates): .*clock\.unit"):
        load(flat(walk), parse_mapping(content))


def test_clock_in_single_precision_since_1970_is_refused(walk, load):
    table = flat(walk, start_s=1.7e9)
    table["time_s"] = table["time_s"].astype(np.float32)
    with pytest.raises(DataError, match=r"duplicates: .*single precision"):
        load(table)


def test_rates(walk, load):
    table, content = flat(walk), toml("flat")
    half = of_rows(table, slice(None, None, 2))
    assert "rate" in kinds(load(half))
    third = of_rows(table, slice(None, None, 3))
    with pytest.raises(DataError, match=r"rate: .*16\.67 Hz"):
        load(third)
    content["gyro_rad_s"]["rate_hz"] = 65
    assert kinds(load(table, parse_mapping(content))) == {"rate"}
    content["gyro_rad_s"]["rate_hz"] = 500
    with pytest.raises(DataError, match=r"rate: gyro_rad_s: .*500 Hz"):
        load(table, parse_mapping(content))


def test_numbers_that_are_none(walk, load):
    def spoil(values, rows):
        values[rows, 1] = np.nan
        return values

    log = load(changed(flat(walk), "gyro_rad_s", lambda v: spoil(v, [50, 80])))
    assert kinds(log) == {"not finite"}
    assert kinds(log, "note") == {"dropped samples"}
    assert np.isfinite(log.data).all()
    with pytest.raises(DataError, match="not finite: gyro_rad_s"):
        load(changed(flat(walk), "gyro_rad_s", lambda v: spoil(v, slice(0, None, 2))))
    with pytest.raises(DataError, match="not finite: gyro_rad_s"):
        load(changed(flat(walk), "gyro_rad_s", lambda v: np.full_like(v, np.inf)))


def test_log_that_is_too_short_is_refused(walk, load):
    rows = slice(None, LEAST_STEPS)
    with pytest.raises(DataError, match="short: "):
        load(of_rows(flat(walk), rows))
    assert len(load(of_rows(flat(walk), slice(None, LEAST_STEPS + 1))).data) == LEAST_STEPS


# --- faults, one at a time ---


def swap(*pairs):
    order = list(range(12))
    for a, b in pairs:
        i, j = JOINT_NAMES.index(a), JOINT_NAMES.index(b)
        order[i], order[j] = order[j], order[i]
    return lambda v: v[:, order]


def swap_legs(a, b):
    return swap(*[(f"{a}_{joint}", f"{b}_{joint}") for joint in ("hip", "thigh", "calf")])


def scaled(factor):
    return lambda v: v * factor


def flipped(part):
    def flip(v):
        v[:, part] *= -1
        return v

    return flip


def stuck(part):
    def hold(v):
        v[:, part] = v[0, part]
        return v

    return hold


FL_HIP, FR_THIGH = JOINT_NAMES.index("FL_hip"), JOINT_NAMES.index("FR_thigh")

FAULTS = {
    "angles in degrees": ("joint_angles_rad", np.rad2deg, r"limits: .*degrees"),
    "angles taken for degrees": ("joint_angles_rad", np.deg2rad, r"limits: .*radians already"),
    "targets in degrees": ("joint_targets_rad", np.rad2deg, r"limits: joint_targets_rad.*degrees"),
    "calf's sign": ("joint_angles_rad", flipped(2), r"limits: .*FR_calf; is the sign wrong"),
    "calf and thigh": ("joint_angles_rad", swap(("RL_calf", "RL_thigh")), r"limits: .*RL_thigh, RL_calf"),
    "speeds in deg/s": (
        "joint_speeds_rad_s",
        np.rad2deg,
        r"units: speeds.*5\d\.\d times.*deg/s and not rad/s",
    ),
    "speeds in rpm": ("joint_speeds_rad_s", scaled(30 / np.pi), r"units: speeds .*rpm and not rad/s"),
    "speeds too small": ("joint_speeds_rad_s", np.deg2rad, r"units: speeds .*rad/s and not deg/s"),
    "one gear": (
        "joint_speeds_rad_s",
        lambda v: v * np.where(np.arange(12) == 2, 9, 1),
        "speeds of FR_calf are",
    ),
    "speeds of two joints": (
        "joint_speeds_rad_s",
        swap(("FR_hip", "FL_hip")),
        r"order: the speed of FR_hip looks like that of FL_hip: order\?",
    ),
    "speeds of legs in step": (
        "joint_speeds_rad_s",
        swap_legs("FR", "RL"),
        "order: the speed of FR_hip looks like that of RL_hip",
    ),
    "speed's sign": ("joint_speeds_rad_s", flipped(FL_HIP), r"sign: FL_hip turns against its speed"),
    "targets of legs": (
        "joint_targets_rad",
        swap_legs("FR", "FL"),
        "order: joint targets are in another order",
    ),
    "targets of legs in step": (
        "joint_targets_rad",
        swap_legs("FR", "RL"),
        "order: joint targets .*FR_hip follows the target of RL_hip, FR_thigh follows .*, RL_calf follows",
    ),
    "target's sign": ("joint_targets_rad", flipped(FL_HIP), r"sign: FL_hip turns against its target"),
    "target's offset": (
        "joint_targets_rad",
        lambda v: v + np.where(np.arange(12) == FR_THIGH, 1.2, 0),
        "targets: the target of FR_thigh is 1",
    ),
    "gyro in deg/s": ("gyro_rad_s", np.rad2deg, r"units: .*deg/s"),
    "gyro's sign": ("gyro_rad_s", lambda v: -v, r"sign: gravity turns against the gyro"),
    "gyro's axes": (
        "gyro_rad_s",
        lambda v: v[:, [1, 0, 2]],
        r"gyro: gravity does not turn|sign: gravity turns",
    ),
    "yaw's sign": (
        "gyro_rad_s",
        lambda v: v * [1, 1, -1],
        r"sign: the gyro's z goes against the command yaw",
    ),
    "gravity up": ("gravity_direction", lambda v: -v, r"gravity: .*sign, axes"),
    "gravity along y": ("gravity_direction", lambda v: v[:, [0, 2, 1]], r"gravity: .*axes"),
    "gravity in m/s2": ("gravity_direction", scaled(9.81), r'units: gravity_direction .*unit = "m/s2"'),
    "gravity of the world": ("gravity_direction", lambda v: v * [-1, -1, 1], "sign: gravity turns against"),
    "phase in rad": ("gait_phase", scaled(2 * np.pi), "units: gait_phase runs from"),
    "phase in deg": ("gait_phase", scaled(360), "units: gait_phase runs from"),
    "phase taken for rad": (
        "gait_phase",
        scaled(0.5 / np.pi),
        "units: gait_phase runs from .*again and again",
    ),
    "phase of other legs": ("gait_phase", lambda v: (v + 0.5) % 1, "gait: by their targets, legs swing"),
    "command in cm/s": ("command", scaled(100), "units: command reaches"),
    "angle stuck": ("joint_angles_rad", stuck(FL_HIP), r"stuck: joint_angles_rad: FL_hip did not change"),
    "IMU stuck": (
        "gravity_direction",
        stuck(slice(None)),
        r"stuck: gravity_direction: x, y, z did not change",
    ),
    "feet right for left": (
        "foot_forces_n",
        lambda v: v[:, [1, 0, 3, 2]],
        "gait: feet .*FR, FL, RR, RL.*order",
    ),
    "two feet": ("foot_forces_n", lambda v: v[:, [0, 1, 3, 2]], r"gait: feet .*\(RR, RL\)"),
    "torques in mN m": ("torques_nm", scaled(1000), r'units: torques_nm .*unit = "mN m"'),
    "torques too small": ("torques_nm", scaled(0.001), "units: torques_nm stay below"),
    "height in mm": ("height_m", scaled(1000), "units: height_m changes"),
    "velocity in cm/s": ("trunk_velocity_m_s", scaled(100), "units: trunk_velocity_m_s reaches"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_refused_by_name(walk, load, fault):
    name, change, message = FAULTS[fault]
    with pytest.raises(DataError, match=message) as caught:
        load(changed(flat(walk), name, change))
    assert "log.parquet cannot be used" in str(caught.value)


def test_all_joints_of_legs_exchanged_alike_are_refused(walk, load):
    """Right for left in angles, speeds, targets and torques: only the gait tells."""
    table = flat(walk)
    for name in ("joint_angles_rad", "joint_speeds_rad_s", "joint_targets_rad", "torques_nm"):
        table = changed(table, name, lambda v: swap_legs("RR", "RL")(swap_legs("FR", "FL")(v)))
    with pytest.raises(DataError, match=r"gait: .*FR by .*FL by"):
        load(table)


def test_all_refusals_are_told_at_once(walk, load):
    table = changed(flat(walk), "joint_angles_rad", np.rad2deg)
    table = changed(table, "gravity_direction", lambda v: -v)
    with pytest.raises(DataError, match=r"(?s)limits: .*gravity: "):
        load(table)


def test_sensors_that_saturate(walk, load):
    def clipped(share):
        def clip(v):
            limit = np.quantile(np.abs(v[np.isfinite(v).all(axis=1), 2]), 1 - share)
            v[:, 2] = np.clip(v[:, 2], -limit, limit)
            return v

        return clip

    table = changed(flat(walk), "joint_speeds_rad_s", clipped(0.05))
    assert "saturated" in kinds(load(table))
    with pytest.raises(DataError, match=r"saturated: joint_speeds_rad_s: .*FR_calf"):
        load(changed(flat(walk), "joint_speeds_rad_s", clipped(0.4)))


@pytest.mark.parametrize(
    "change", [lambda v: -v, lambda v: v[:, [*range(3, 12), *range(3)]]], ids=["sign", "legs"]
)
def test_torques_that_do_not_fit_are_told(walk, load, change):
    assert kinds(load(changed(flat(walk), "torques_nm", change))) == {"torques"}


def test_forces_in_another_unit_are_told(walk, load):
    assert kinds(load(changed(flat(walk), "foot_forces_n", scaled(0.01)))) == {"units"}


def test_robot_that_stands_still_is_not_refused(walk, load):
    """Every reading the same to the last bit, and with the noise of sensors."""
    still = np.repeat(walk[:1], 200, axis=0)
    still[:, column("joint_targets_rad")] = walk[0, column("joint_angles_rad")]
    still[:, column("begins")] = 0
    still[0, column("begins")] = 1
    still[:, column("command")] = 0
    noisy = still.copy()
    rng = np.random.default_rng(0)
    for name, noise in (("joint_angles_rad", 1e-4), ("joint_speeds_rad_s", 0.02), ("gyro_rad_s", 0.01)):
        noisy[:, column(name)] += noise * rng.normal(size=(200, COLUMNS[name]))
    for data in (still, noisy):
        log = load(flat(data))
        assert [finding.kind for finding in log.findings if finding.kind != "units"] == ["stands still"]
        assert_same(log, data)


# --- mappings ---


def test_shipped_mappings_map_everything():
    assert mapping_names() == ("flat", "ros2")
    assert set(FLAT.sources) == ALL
    assert set(ROS2.sources) == ALL - {"gravity_direction"} | {"orientation"}


def with_entry(path, value):
    """The flat mapping with one entry changed; None removes it."""
    content = copy.deepcopy(toml("flat"))
    section, _, entry = path.rpartition(".")
    holder = content.setdefault(section, {}) if section else content
    if value is None:
        del holder[entry]
    else:
        holder[entry] = value
    return content


TWELVE = list(JOINT_NAMES)
BAD_MAPPINGS = [
    ("joint_angle_rad", {}, "no entry 'joint_angle_rad'.*Did you mean 'joint_angles_rad'"),
    ("gyro_rad_s", [1], r"must be a table, headed by \[gyro_rad_s\]"),
    ("robot", 3, "robot = 3 must be the name"),
    ("orientation", {"columns": list("xyzw"), "order": list("xyzw")}, "not both"),
    ("clock.unit", "sec", r"clock\.unit: there is no unit of time 'sec'. Valid: s, ms, us, ns"),
    ("clock.unit", None, r"\[clock\] lacks unit"),
    ("clock.unit", ["s"], r"clock\.unit = \['s'\] must be text"),
    ("command.unit", 3, r"command\.unit = 3 must be text or a list of texts"),
    ("clock.time", "stamp", "no kind of stamp 'stamp'"),
    ("clock.zone", "UTC", r"\[clock\]: there is no entry 'zone'"),
    ("joint_names.FR_knee", "knee", "no entry 'FR_knee'.*Valid: FR_hip"),
    ("joint_names.FR_hip", "FR_calf", "two joints that the log calls 'FR_calf'"),
    ("gyro_rad_s.units", "rad/s", r"\[gyro_rad_s\]: there is no entry 'units'.*Did you mean 'unit'"),
    ("gyro_rad_s.unit", "grad/s", "there is no unit 'grad/s'. Valid: rad/s, deg/s, rpm"),
    ("gyro_rad_s.unit", ["rad/s"], "one unit, or 3"),
    ("command.unit", "m/s", r"unit of yaw: there is no unit 'm/s'.*as a list"),
    ("gyro_rad_s.columns", ["a", "b"], "2 entries in columns for the 3 numbers x, y, z"),
    ("gyro_rad_s.columns", ["a", "b", "a"], r"\[gyro_rad_s\] has 'a' twice in columns"),
    ("height_m.columns", "time_s", r"\[height_m\] reads 'time_s', the column of times"),
    ("gyro_rad_s.columns", None, r"\[gyro_rad_s\] does not say where to look"),
    ("gyro_rad_s.columns", [], "must be text or a list of texts"),
    ("gyro_rad_s.columns", [1, 2, 3], "must be text"),
    ("gyro_rad_s.topic", "/imu", "both topic and field"),
    ("gyro_rad_s.names", "name", "names is for topics with joint names"),
    ("joint_angles_rad.order", [*TWELVE[:-1], "RL_knee"], "no part 'RL_knee'. Valid: FR_hip, FR_thigh"),
    ("joint_angles_rad.order", [*TWELVE[:-1], "RL_hip"], "has 'RL_hip' twice"),
    ("joint_angles_rad.order", TWELVE[:-1], "order lacks RL_calf"),
    ("joint_angles_rad.sign", [1] * 11, "a list of 12"),
    ("joint_angles_rad.sign", 2, "consist of 1 and -1"),
    ("joint_angles_rad.offset", "0", "must be a number for all"),
    ("joint_angles_rad.offset", float("nan"), "must be a number for all"),
    ("joint_angles_rad.rate_hz", 0, "must be a number > 0"),
    ("joint_angles_rad.rate_hz", True, "must be a number > 0"),
    ("gait_phase.on_change", True, "for the command only"),
]


@pytest.mark.parametrize(("path", "value", "message"), BAD_MAPPINGS)
def test_bad_mapping_is_refused_by_name(path, value, message):
    with pytest.raises(DataError, match=message):
        parse_mapping(with_entry(path, value))


def test_quaternion_must_say_its_order():
    with pytest.raises(DataError, match=r"\[orientation\] lacks order"):
        parse_mapping({"orientation": {"columns": list("abcd")}})


def test_mapping_files_that_cannot_be_read(tmp_path):
    with pytest.raises(DataError, match=r"no mapping 'ros'.*Did you mean 'ros2'"):
        load_mapping("ros")
    with pytest.raises(DataError, match="cannot read the mapping"):
        load_mapping(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("[clock")
    with pytest.raises(DataError, match="not valid TOML"):
        load_mapping(tmp_path / "bad.toml")


def test_mapping_of_another_robot_is_refused(walk, load):
    with pytest.raises(DataError, match="for the robot a1, but the table is of go1"):
        load(flat(walk), dataclasses.replace(FLAT, robot="a1"))


# --- files ---


def test_needed_columns_that_are_missing_are_all_told(walk, load):
    table = flat(walk)
    del table["gait_phase"], table["gyro_rad_s.y"]
    with pytest.raises(
        DataError, match=r"(?s)gyro_rad_s: there is no column 'gyro_rad_s\.y'.*gait_phase: .*time_s"
    ):
        load(table)
    with pytest.raises(DataError, match=r"clock\.column: there is no column 'stamp'"):
        load(flat(walk), parse_mapping(with_entry("clock.column", "stamp")))
    content = toml("flat")
    del content["command"], content["clock"]
    with pytest.raises(DataError, match=r"command: the mapping has no \[command\]"):
        load(flat(walk), dataclasses.replace(parse_mapping(content), clock=FLAT.clock))
    with pytest.raises(DataError, match="has no column of times"):
        load(flat(walk), parse_mapping(content))


def test_mapping_of_the_other_kind_of_file(walk, load, tmp_path):
    with pytest.raises(DataError, match="only has a topic"):
        load(flat(walk), dataclasses.replace(ROS2, clock=FLAT.clock))
    write_mcap(tmp_path / "walk.mcap", walk, GO1)
    with pytest.raises(
        DataError, match=r"(?s)only has columns.*/joint_states \(sensor_msgs/msg/JointState\)"
    ):
        load_log(tmp_path / "walk.mcap", FLAT, GO1)


def test_dates_are_times(walk, tmp_path):
    table = pl.DataFrame(flat(walk))
    stamps = (np.arange(len(walk) + 1) * PERIOD_NS + 10**18).astype("datetime64[ns]")
    table = table.with_columns(pl.Series("time_s", stamps))
    table.write_parquet(tmp_path / "dates.parquet")
    assert_same(load_log(tmp_path / "dates.parquet", FLAT, GO1), walk)


def test_cells_that_are_no_numbers_are_told(walk, tmp_path):
    text = io.BytesIO()
    pl.DataFrame(flat(walk)).with_columns(pl.lit("ok").alias("height_m")).write_csv(text)
    (tmp_path / "a.csv").write_bytes(text.getvalue())
    with pytest.raises(DataError, match="column 'height_m', row 1: 'ok' is not a number"):
        load_log(tmp_path / "a.csv", FLAT, GO1)


@pytest.mark.parametrize("name", ["a.mcap", "a.csv", "a.parquet", "a.txt", "a.db3"])
@pytest.mark.parametrize("content", [None, b"", b"\x89MCAP0\r\n", b"nonsense\n\xff\xfe;;,,\n" * 20])
def test_files_that_are_no_logs(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((StorageError, DataError), match=name.replace(".", r"\.")):
        load_log(tmp_path / name, ROS2 if name == "a.mcap" else FLAT, GO1)


def test_folder_without_bags_is_told(tmp_path):
    (tmp_path / "metadata.yaml").write_text("")
    with pytest.raises(StorageError, match=r"holds no \.mcap file, only metadata\.yaml"):
        load_log(tmp_path, ROS2, GO1)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_recordings_that_were_cut_off(walk, tmp_path, share):
    write_mcap(tmp_path / "whole.mcap", walk[:60], GO1)
    content = (tmp_path / "whole.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(content[: int(share * len(content))])
    with pytest.raises(StorageError, match="mcap recover"):
        load_log(tmp_path / "cut.mcap", ROS2, GO1)


def test_damage_inside_is_told(walk, tmp_path):
    write_mcap(tmp_path / "whole.mcap", walk[:60], GO1)
    content = bytearray((tmp_path / "whole.mcap").read_bytes())
    content[len(content) // 3] ^= 0xFF
    (tmp_path / "damaged.mcap").write_bytes(content)
    with pytest.raises(StorageError, match="damaged"):
        load_log(tmp_path / "damaged.mcap", ROS2, GO1)


# --- messages of other robots ---

LOW_STATE = (
    "MotorState[14] motor_state\nfloat32[4] quaternion\n" + "=" * 80 + "\nMSG: robot/MotorState\n"
    "float64 q\nfloat64 dq\n"
)


def write_low_state(path, data):
    """Everything a robot says in a list of motors of which two are not there, logged and without header."""
    with path.open("wb") as stream, Writer(stream) as writer:
        low = writer.register_msgdef(
            "robot/msg/LowState", LOW_STATE.replace("MotorState[", "robot/MotorState[")
        )
        plain = writer.register_msgdef("std_msgs/msg/Float64MultiArray", "float64[] data\n")
        for step, row in enumerate(data.astype(float)):
            time_ns = 10**18 + step * PERIOD_NS
            pairs = zip(row[column("joint_angles_rad")], row[column("joint_speeds_rad_s")], strict=True)
            motors = [{"q": float(q), "dq": float(dq)} for q, dq in pairs] + [{"q": 7.0, "dq": 7.0}] * 2
            x, y, z = row[column("gravity_direction")]
            lean = np.array([1 - z, -y, x, 0.0])
            message = {"motor_state": motors, "quaternion": (lean / np.linalg.norm(lean)).tolist()}
            writer.write_message("/low_state", low, message, log_time=time_ns)
            for name in ("gyro_rad_s", "command", "gait_phase", "joint_targets_rad"):
                writer.write_message(
                    f"/{name}", plain, {"data": row[column(name)].tolist()}, log_time=time_ns
                )


def low_state_mapping(**changes):
    content = {
        name: {"topic": f"/{name}", "field": "data"}
        for name in ("gyro_rad_s", "command", "gait_phase", "joint_targets_rad")
    }
    motors = [*JOINT_NAMES, "-", "-"]
    content["joint_angles_rad"] = {"topic": "/low_state", "field": "motor_state.q", "order": motors}
    content["joint_speeds_rad_s"] = {"topic": "/low_state", "field": "motor_state.dq", "order": motors}
    content["orientation"] = {"topic": "/low_state", "field": "quaternion", "order": ["w", "x", "y", "z"]}
    content["gait_phase"]["field"] = "data.0"
    for name, change in changes.items():
        content[name] = {**content.get(name, {}), **change}
    return parse_mapping(content)


def test_lists_of_motors_and_places_in_lists(walk, tmp_path):
    write_low_state(tmp_path / "low.mcap", walk[:90])
    log = load_log(tmp_path / "low.mcap", low_state_mapping(), GO1)
    expected = walk[:90].copy()
    for name in OPTIONAL:
        expected[:, column(name)] = np.nan
    assert_same(log, expected)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"field": "motor_state.position"}, "no field 'position'. Valid: q, dq"),
        ({"field": "motors.q"}, "no field 'motors'. Valid: motor_state, quaternion.*motor_state"),
        ({"field": "motor_state.20.q"}, "the list has 14 entries"),
        ({"field": "motor_state"}, "is not a number or a list of numbers. It has q, dq"),
        ({"field": "quaternion"}, "has 4 numbers, but .*names 14"),
        ({"topic": "/low_stat"}, "no topic '/low_stat'.*Did you mean '/low_state'"),
    ],
)
def test_fields_that_are_not_there(walk, tmp_path, change, message):
    write_low_state(tmp_path / "low.mcap", walk[:10])
    with pytest.raises(DataError, match=message):
        load_log(tmp_path / "low.mcap", low_state_mapping(joint_angles_rad=change), GO1)


def rewritten(source, target, change):
    """Copy an MCAP file, message by message, after a change of each."""
    with source.open("rb") as stream, target.open("wb") as out, Writer(out) as writer:
        schemas = {}
        reader = make_reader(stream, decoder_factories=[DecoderFactory()])
        for schema, channel, raw, message in reader.iter_decoded_messages():
            if schema.name not in schemas:
                schemas[schema.name] = writer.register_msgdef(schema.name, schema.data.decode())
            for log_ns, content in change(channel.topic, raw.log_time, message):
                writer.write_message(channel.topic, schemas[schema.name], content, log_time=log_ns)


def test_names_in_messages_say_the_order(walk, tmp_path):
    """Each message in another order, under other names and with a joint of an arm."""
    rng = np.random.default_rng(0)

    def shuffle(topic, log_ns, message):
        if hasattr(message, "name"):
            order = rng.permutation(12)
            message.name = ["arm", *(f"{message.name[i]}_joint" for i in order)]
            for field in ("position", "velocity", "effort"):
                values = list(getattr(message, field))
                setattr(message, field, [9.0, *(values[i] for i in order)] if values else [])
        return [(log_ns, message)]

    write_mcap(tmp_path / "walk.mcap", walk[:90], GO1)
    rewritten(tmp_path / "walk.mcap", tmp_path / "named.mcap", shuffle)
    with pytest.raises(DataError, match=r"no joint 'FR_hip'.*\[joint_names\]"):
        load_log(tmp_path / "named.mcap", ROS2, GO1)
    names = {name: f"{name}_joint" for name in JOINT_NAMES}
    log = load_log(tmp_path / "named.mcap", dataclasses.replace(ROS2, joint_names=names), GO1)
    assert_same(log, walk[:90])


@pytest.mark.parametrize(("late_s", "level"), [(0.001, None), (0.04, "warning"), (30.0, "refused")])
def test_two_clocks_in_one_log_are_told(walk, tmp_path, late_s, level):
    """The recorder is late, and phase, forces and height have no other time than the recorder's."""
    write_mcap(tmp_path / "walk.mcap", walk[:90], GO1)
    late = lambda topic, log_ns, message: [(log_ns + round(late_s * 1e9), message)]  # noqa: E731
    rewritten(tmp_path / "walk.mcap", tmp_path / "late.mcap", late)
    if level == "refused":
        with pytest.raises(DataError, match=r'clock: .*time = "log"'):
            load_log(tmp_path / "late.mcap", ROS2, GO1)
    else:
        clocks = [f.level for f in load_log(tmp_path / "late.mcap", ROS2, GO1).findings if f.kind == "clock"]
        assert clocks == ([level] if level else [])
    by_log = dataclasses.replace(ROS2, clock=dataclasses.replace(ROS2.clock, stamp="log"))
    assert_same(load_log(tmp_path / "late.mcap", by_log, GO1), walk[:90])


def test_topics_that_run_back_at_different_places_are_refused(walk, tmp_path):
    write_mcap(tmp_path / "walk.mcap", walk[:90], GO1, start_s=100.0)

    def set_back(topic, log_ns, message):
        return [(log_ns - (10**9 if topic == "/gait_phase" and log_ns > 101 * 10**9 else 0), message)]

    rewritten(tmp_path / "walk.mcap", tmp_path / "back.mcap", set_back)
    with pytest.raises(DataError, match=r"run back at different places .*gait_phase 1"):
        load_log(tmp_path / "back.mcap", ROS2, GO1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda data: data[None], ShapeError, r"shape \(steps, 69\)"),
        (lambda data: data[:0], DataError, "no steps"),
        (
            lambda data: np.where(np.arange(69) == 3, np.nan, data),
            DataError,
            "joint_angles_rad is not finite",
        ),
        (
            lambda data: np.where(
                (np.arange(69) == 68 - 3) & (np.arange(len(data)) == 7)[:, None], np.inf, data
            ),
            DataError,
            "torques_nm is not finite in step 7",
        ),
    ],
)
def test_recordings_that_cannot_be_written(walk, tmp_path, change, error, message):
    with pytest.raises(error, match=message):
        write_mcap(tmp_path / "a.mcap", change(walk), GO1)
    with pytest.raises(DataError, match="start_s"):
        write_mcap(tmp_path / "a.mcap", walk, GO1, start_s=-1.0)
    assert list(tmp_path.iterdir()) == []


def test_torques_that_nobody_read_before_a_pause_are_left_out(walk, tmp_path):
    """What `Outcome.recording` says of a step that came late."""
    late, torques = walk[:120].copy(), column("torques_nm")
    late[60, column("begins")] = 1
    late[[59, 119], torques] = np.nan
    write_mcap(tmp_path / "late.mcap", late, GO1)
    found = load_log(tmp_path / "late.mcap", ROS2, GO1).data[:, torques]
    whole = walk[:120].copy()
    whole[60, column("begins")] = 1
    write_mcap(tmp_path / "whole.mcap", whole, GO1)
    expected = load_log(tmp_path / "whole.mcap", ROS2, GO1).data[:, torques]
    # Steps without torques at their end are no steps of the log.
    assert len(expected) == 120
    np.testing.assert_allclose(found, np.delete(expected, [59, 119], axis=0), rtol=1e-5, atol=1e-5)


def test_without_the_library_there_is_advice(walk, tmp_path, monkeypatch):
    write_mcap(tmp_path / "walk.mcap", walk[:5], GO1)
    for name in ("mcap_ros2", "mcap_ros2.writer"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (
        lambda: load_log(tmp_path / "walk.mcap", ROS2, GO1),
        lambda: write_mcap(tmp_path / "b.mcap", walk[:5], GO1),
    ):
        with pytest.raises(DmcmError, match=r"pip install 'dmcm\[quadruped\]'"):
            call()
