"""Walking policies as ONNX: the same actions as JAX, a contract that says what they mean, an example."""

import ast
import dataclasses
import json
import os
import runpy
import subprocess
import sys

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import onnx
import onnxruntime
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from dmcm.cli import main
from dmcm.errors import ConfigError, DataError, ShapeError, StorageError
from dmcm.quadruped.body.properties import draw_robots, nominal
from dmcm.quadruped.body.robot_table import JOINT_NAMES, load_robot
from dmcm.quadruped.conditioned.contract import make_contract
from dmcm.quadruped.conditioned.export import build_model, export_policy, read_contract
from dmcm.quadruped.conditioned.widening import read_gains, widen
from dmcm.quadruped.walking.environment import ACTION_LIMIT, WalkConfig, WalkEnvironment
from dmcm.quadruped.walking.gait import SETTINGS, Gait
from dmcm.quadruped.walking.guides import History, Vectors
from dmcm.quadruped.walking.observations import OBSERVATION, REALISTIC_NOISE, part
from dmcm.quadruped.walking.policy import POLICY, load_policy, mean_action, save_policy
from dmcm.quadruped.walking.told_gait import GaitReader
from dmcm.quadruped.world.arena import Arena
from dmcm.quadruped.world.terrain import Terrain
from helpers import ROOT

GO1 = load_robot("go1")
OWN = sum(OBSERVATION.values())
EXAMPLE = ROOT / "examples" / "run_policy.py"
KINDS = ("vanilla", "dmcm", "history", "vanilla_gait", "dmcm_gait", "oracle_gait", "dmcm_told", "oracle_told")
SIZES = {"robot": 6, "terrain": 4}
TRUE_SIZES = {"true_robot": 6, "true_terrain": 4}
MODEL = "0123456789abcdef"
TOLD = {
    "vanilla": {"vectors": {}, "model": None},
    "dmcm": {"vectors": {"robot": 6}, "model": MODEL},
    "dmcm_told": {"vectors": SIZES, "model": MODEL},
    "history": {"vectors": {}, "model": None},
    "vanilla_gait": {"vectors": {}, "model": None},
    "dmcm_gait": {"vectors": SIZES, "model": MODEL},
    "oracle_gait": {"vectors": TRUE_SIZES, "model": None},
    "oracle_told": {"vectors": TRUE_SIZES, "model": None},
}
ADDED = {
    "vanilla": {},
    "dmcm": {"vectors": 6},
    "dmcm_told": {"vectors": 10},
    "history": {"past": History(1).size},
    "vanilla_gait": {},
    "dmcm_gait": {"vectors": 10},
    "oracle_gait": {"vectors": 10},
    "oracle_told": {"vectors": 10},
}
READ = ("dmcm", "dmcm_gait", "oracle_gait")
UNHEARD = ("vanilla", "vanilla_gait")
ROBOTS = 3


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    """Files of policies that read what they are told: by kind."""
    folder, rng = tmp_path_factory.mktemp("policies"), np.random.default_rng(0)
    start, found = load_policy(POLICY)[0], {}
    for kind in KINDS:
        # The ground's vector never varies: its scale is the least there is.
        rows = (rng.normal(1.0, 2.0, (40, 6)), np.full((40, 4), 0.3))
        vectors = dict(zip(TOLD[kind]["vectors"], rows, strict=False))
        gains = read_gains(kind, vectors, draw_robots(rng, 40), GO1)
        gait = None
        if kind.endswith("_gait"):
            told = sum(TOLD[kind]["vectors"].values())
            parts = (rng.normal(size=(4, told)), rng.normal(size=4), np.full(told, -1.5), np.full(told, 2.0))
            gait = eqx.tree_at(
                lambda r: (r.slope, r.offset, r.low, r.high),
                GaitReader(told),
                tuple(jnp.asarray(0.5 * part, jnp.float32) for part in parts),
            )
        policy = start if kind == "vanilla" else widen(start, kind, vectors, gains, gait)
        # What is added is not heard before training: here it is.
        first = policy.actor.layers[0].weight
        heard = first + 0.1 * rng.normal(size=first.shape).astype(np.float32) * (jnp.abs(first) == 0)
        policy = eqx.tree_at(lambda p: p.actor.layers[0].weight, policy, heard)
        if policy.modulation is not None:
            told = policy.modulation.told
            weights = tuple(0.1 * rng.normal(size=(2, 128, told)).astype(np.float32))
            policy = eqx.tree_at(
                lambda p: (p.modulation.gain.weight, p.modulation.shift.weight), policy, weights
            )
        found[kind] = folder / f"{kind}.safetensors"
        save_policy(found[kind], policy, {"training": {"method": kind, "told": TOLD[kind]}})
    return found


@pytest.fixture(scope="module")
def files(policies):
    """The same as ONNX."""
    return {kind: export_policy(path, path.with_suffix(".onnx")) for kind, path in policies.items()}


def guide(kind, count):
    if kind == "history":
        return History(count)
    size = ADDED[kind].get("vectors")
    return None if size is None else Vectors(np.random.default_rng(5).normal(0.5, 1.0, (count, size)))


def run(file, observations):
    """Actions by onnxruntime, from observations with what a guide added."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    ends = np.cumsum([given.shape[1] for given in session.get_inputs()])
    parts = np.split(observations, ends[:-1], axis=1)
    names = [given.name for given in session.get_inputs()]
    return session.run(["action"], dict(zip(names, parts, strict=True)))[0]


def outputs(file, name, vectors):
    """What a file reads out of vectors."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    observation = np.zeros((len(vectors), OWN), np.float32)
    return session.run([name], {"observation": observation, "vectors": vectors})[0]


@pytest.mark.parametrize("kind", KINDS)
def test_actions_are_those_of_jax_in_recorded_episodes(kind, policies, files):
    policy = load_policy(policies[kind])[0]
    walks = WalkEnvironment(
        GO1,
        Arena([Terrain("rough", 0.04, 0.2)]),
        draw_robots(np.random.default_rng(0), ROBOTS),
        [0] * ROBOTS,
        WalkConfig(noise=REALISTIC_NOISE, push_m_s=0.5),
        guide=guide(kind, ROBOTS),
        threads=1,
    )
    seen = [walks.reset(seed=1)[0]]
    for _ in range(50):
        seen.append(walks.step(np.asarray(mean_action(policy, seen[-1])))[0])
    observations = np.concatenate(seen)
    expected = np.asarray(policy.mean(jnp.asarray(observations)))
    found = run(files[kind], observations)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    # What is added matters, or parity would say nothing about it.
    other = observations.copy()
    other[:, OWN:] += 1.0
    changed = np.abs(run(files[kind], other) - found).max()
    # With the actor of another that heard nothing, only gains and gaits are read out of vectors.
    assert changed > 0.01 if kind not in UNHEARD else changed == 0
    if policy.gait is not None and "vectors" in ADDED[kind]:
        chosen = outputs(files[kind], "gait_settings", observations[:, OWN:])
        np.testing.assert_allclose(chosen, policy.gait(observations[:, OWN:]), rtol=1e-5)
        assert np.ptp(chosen, axis=0).min() > 1e-3
    if policy.gains is not None:
        shares = outputs(files[kind], "gain_shares", observations[:, OWN:])
        np.testing.assert_allclose(shares, policy.gains(observations[:, OWN:]), rtol=1e-5)
        assert shares.std(axis=0).min() > (0.01 if kind == "dmcm" else 5e-4)
        assert np.all(np.isfinite(outputs(files[kind], "gain_shares", 1e6 * observations[:, OWN:])))
    # One robot at once, and values that are cut.
    np.testing.assert_allclose(run(files[kind], observations[:1]), expected[:1], rtol=0, atol=1e-5)
    wild = 100 * observations
    np.testing.assert_allclose(run(files[kind], wild), policy.mean(jnp.asarray(wild)), rtol=0, atol=1e-4)


def test_the_packaged_policy_is_exported_by_the_command(tmp_path, capsys):
    out = tmp_path / "new" / "policy.onnx"
    assert main(["quadruped", "export-policy", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert str(out) in said
    assert f"input observation: {OWN} columns" in said
    assert "vectors" not in said
    observations = np.random.default_rng(0).normal(size=(7, OWN)).astype(np.float32)
    expected = load_policy(POLICY)[0].mean(jnp.asarray(observations))
    np.testing.assert_allclose(run(out, observations), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_contract_comes_back_and_says_what_the_robot_needs(kind, policies, files):
    policy, about = load_policy(policies[kind])
    contract = read_contract(files[kind])
    assert contract == make_contract(policy, about, GO1)
    assert contract.robot == "go1"
    assert contract.joints == JOINT_NAMES
    assert dict(contract.observation) == OBSERVATION
    assert contract.vectors == tuple(TOLD[kind]["vectors"].items())
    assert contract.vectors_model == TOLD[kind]["model"]
    np.testing.assert_array_equal(contract.home_pose_rad, GO1.home_pose_rad)
    np.testing.assert_array_equal(contract.joint_limits_rad, GO1.joint_limits_rad)
    assert contract.inputs == {"observation": OWN, **ADDED[kind]}
    session = onnxruntime.InferenceSession(files[kind], providers=["CPUExecutionProvider"])
    assert {given.name: given.shape[1] for given in session.get_inputs()} == contract.inputs
    gains = [("gain_shares", 2, "tensor(float)")] if kind in READ else []
    gait = [("gait_settings", 4, "tensor(float)")] if kind in ("dmcm_gait", "oracle_gait") else []
    assert [(made.name, made.shape[1], made.type) for made in session.get_outputs()] == [
        ("action", 12, "tensor(float)"),
        *gains,
        *gait,
    ]
    assert contract.gait_settings == (SETTINGS if gait else ())
    one = policy.gait(np.zeros((1, 0)))[0] if kind == "vanilla_gait" else Gait().settings
    np.testing.assert_allclose([getattr(contract, f"gait_{name}") for name in SETTINGS], one)
    (opset,) = onnx.load(files[kind]).opset_import
    assert (opset.domain, opset.version) == ("", 17)


def test_equal_policies_are_equal_bytes(policies, files, tmp_path):
    again = export_policy(policies["dmcm"], tmp_path / "again.onnx")
    assert again.read_bytes() == files["dmcm"].read_bytes()


def test_a_write_that_fails_leaves_the_old_file(policies, tmp_path, monkeypatch):
    out = tmp_path / "policy.onnx"
    out.write_bytes(b"old")

    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        export_policy(policies["vanilla"], out)
    assert out.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [out]


def test_observations_of_another_size_are_refused(files):
    with pytest.raises(InvalidArgument, match="observation"):
        run(files["vanilla"], np.zeros((1, OWN - 1), np.float32))


# --- what is refused ---


def rewritten(source, out, text=None, **changes):
    """A file with another contract."""
    model = onnx.load(source)
    (entry,) = model.metadata_props
    entry.value = json.dumps(json.loads(entry.value) | changes) if text is None else text
    onnx.save(model, out)
    return out


def swapped(names):
    """The first two the other way round."""
    return [names[1], names[0], *names[2:]]


@pytest.mark.parametrize(
    ("changes", "error", "match"),
    [
        ({"text": "{"}, StorageError, "not valid JSON"),
        ({"text": "[1]"}, StorageError, "format None"),
        ({"format": 1}, StorageError, "format 1; this version reads 5"),
        ({"colour": "red"}, StorageError, "lacks or adds colour"),
        ({"robot": 1}, StorageError, "robot = 1"),
        ({"action_scale_rad": "0.25"}, StorageError, "action_scale_rad"),
        ({"action_limit": float("nan")}, StorageError, "action_limit"),
        ({"vectors": [["robot"]]}, StorageError, "vectors"),
        ({"joints": swapped(list(JOINT_NAMES))}, StorageError, "joint order"),
        ({"legs": ["FL", "FR", "RL", "RR"]}, StorageError, "leg order"),
        ({"observation": swapped([*OBSERVATION.items()])}, StorageError, "observation"),
        ({"past_parts": ["command"], "past_frames": 1}, StorageError, "past"),
        ({"home_pose_rad": [0.0] * 11}, StorageError, "one number per joint"),
        ({"gait_leg_offset": [0.0] * 3}, StorageError, "one number per joint and per leg"),
        ({"vectors": [["robot", 6], ["terrain", 5]]}, ShapeError, "its contract says"),
        ({"vectors": []}, ShapeError, "its contract says"),
    ],
)
def test_contracts_of_others_are_refused(files, tmp_path, changes, error, match):
    with pytest.raises(error, match=match) as caught:
        read_contract(rewritten(files["dmcm_told"], tmp_path / "other.onnx", **changes))
    assert "dmcm quadruped export-policy" in str(caught.value)


def test_a_contract_that_lacks_an_entry_is_refused(files, tmp_path):
    values = json.loads(onnx.load(files["dmcm"]).metadata_props[0].value)
    del values["joints"]
    with pytest.raises(StorageError, match="lacks or adds joints"):
        read_contract(rewritten(files["dmcm"], tmp_path / "other.onnx", json.dumps(values)))


@pytest.mark.parametrize("content", [b"", b"no model", "half"])
def test_what_is_no_onnx_file_is_refused(files, tmp_path, content):
    path = tmp_path / "broken.onnx"
    whole = files["vanilla"].read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if content == "half" else content)
    with pytest.raises(StorageError, match="damaged or not an ONNX"):
        read_contract(path)


def test_files_that_are_missing_or_of_others_are_refused(files, tmp_path):
    with pytest.raises(StorageError, match="cannot read"):
        read_contract(tmp_path / "nowhere.onnx")
    model = onnx.load(files["vanilla"])
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "plain.onnx")
    with pytest.raises(StorageError, match="no contract"):
        read_contract(tmp_path / "plain.onnx")


def test_a_graph_of_other_sizes_than_its_contract_is_refused(files, tmp_path):
    model = onnx.load(files["vanilla"])
    del model.graph.input[0].type.tensor_type.shape.dim[1]
    onnx.save(model, tmp_path / "flat.onnx")
    with pytest.raises(ShapeError, match="observation"):
        read_contract(tmp_path / "flat.onnx")


def test_what_cannot_be_exported_is_refused(policies, tmp_path):
    out = tmp_path / "policy.onnx"
    with pytest.raises(ConfigError, match=r"\.onnx"):
        export_policy(policies["vanilla"], policies["vanilla"])
    with pytest.raises(ConfigError, match="--robot go1"):
        export_policy(POLICY, out, robot="a1")
    with pytest.raises(DataError, match="a1, go1"):
        export_policy(POLICY, out, robot="go3")
    with pytest.raises(StorageError, match="there is no file"):
        export_policy(tmp_path / "none.safetensors", out)
    policy, about = load_policy(policies["dmcm_told"])
    path = tmp_path / "policy.safetensors"
    save_policy(path, policy, {"training": {**about["training"], "method": "dmcn"}})
    with pytest.raises(StorageError, match="Did you mean 'dmcm'"):
        export_policy(path, out)
    save_policy(path, policy, {})
    with pytest.raises(ShapeError, match=f"reads {OWN + 10} columns"):
        export_policy(path, out)
    # As many columns, but for a network that is told them, not for an encoder.
    policy, about = load_policy(policies["history"])
    contract = make_contract(policy, about, GO1)
    told = dataclasses.replace(contract, vectors=(("robot", contract.inputs["past"]),), past_frames=0)
    with pytest.raises(ShapeError, match="its past"):
        build_model(policy, told)
    assert not out.exists()


def test_without_onnx_the_command_says_what_to_install(monkeypatch, capsys):
    for name in ("dmcm.quadruped.conditioned.export", "dmcm.cli.quadruped_export_policy"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "onnx", None)
    assert main(["quadruped", "export-policy"]) == 2
    assert "pip install 'dmcm[quadruped]'" in capsys.readouterr().err


# --- the example ---


def test_the_example_needs_numpy_and_onnxruntime_alone():
    tree = ast.parse(EXAMPLE.read_text())
    found = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert found == {"json", "numpy", "onnxruntime", "pathlib", "sys"}
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    assert len(EXAMPLE.read_text().splitlines()) <= 130


def example(*arguments):
    command = [sys.executable, "-W", "error", str(EXAMPLE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def expected_targets(policy, guide, command, steps):
    """Joint targets of a standing robot that walks by a policy in JAX, shape (steps, 12)."""
    walks = WalkEnvironment(
        GO1,
        Arena([Terrain()]),
        [nominal(GO1)],
        [0],
        guide=guide,
        gains=policy.gains,
        gait=policy.gait,
        threads=1,
    )
    walks.commands.velocity[:], walks.phase[:] = command, 0.0
    walks.simulation.qpos[:, 7:], walks.simulation.qvel[:] = GO1.home_pose_rad, 0.0
    walks.observe()  # hears what is told
    if guide is not None:
        guide.forget(np.array([0]))
    walks.action[:] = 0.0
    targets = []
    for _ in range(steps):
        seen = np.zeros((1, OWN), np.float32)
        seen[:, part("gravity_direction")] = [0, 0, -1]
        seen[:, part("command")] = command
        seen[:, part("previous_action")] = walks.action
        seen[:, part("gait_phase")] = [np.sin(2 * np.pi * walks.phase[0]), np.cos(2 * np.pi * walks.phase[0])]
        seen[:, part("foot_contact")] = 1
        if guide is not None:
            seen = np.hstack([seen, guide.read(seen)])
        walks.action = np.clip(np.asarray(policy.mean(jnp.asarray(seen)), float), -ACTION_LIMIT, ACTION_LIMIT)
        targets.append(walks.joint_targets()[0])
        walks.phase = (walks.phase + walks.config.gait.frequency_hz * 0.02) % 1.0
    return np.array(targets)


@pytest.mark.parametrize("kind", KINDS)
def test_the_example_gives_the_joint_targets_of_the_environment(kind, policies, files):
    told = guide(kind, 1)
    done = example(files[kind], *(told.values[0] if isinstance(told, Vectors) else ()))
    assert done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    constants = runpy.run_path(str(EXAMPLE))
    expected = expected_targets(
        load_policy(policies[kind])[0], told, constants["COMMAND"], constants["STEPS"]
    )
    assert [name for name, _ in lines] == [*JOINT_NAMES] * len(expected)
    found = np.array([float(number) for _, number in lines]).reshape(-1, 12)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    assert "0.08 s" in done.stdout


def test_the_example_says_what_it_lacks(files, tmp_path):
    assert "give 6 numbers, not 0" in example(files["dmcm"]).stderr
    assert "export-policy" in example(tmp_path / "nowhere.onnx").stderr
    other = rewritten(files["vanilla"], tmp_path / "other.onnx", format=1)
    assert "format 1" in example(other).stderr
