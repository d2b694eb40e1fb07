"""Tests of grounds' vectors from simulation: what they are, where they are kept, who uses them."""

import jax.numpy as jnp
import numpy as np
import pytest

from dmcm.bank import ContextBank
from dmcm.cli import main, quadruped_ground_vectors
from dmcm.contexts import Contexts
from dmcm.errors import DataError
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned import ground_fit
from dmcm.quadruped.conditioned.export import export_policy, read_contract
from dmcm.quadruped.conditioned.ground_fit import GroundFit, fit_grounds, simulated_log
from dmcm.quadruped.conditioned.shipped import GAIT_POLICY
from dmcm.quadruped.deployment.vectors import bank_vectors
from dmcm.quadruped.dynamics.model import load_dynamics_model
from dmcm.quadruped.walking.gait import SETTINGS, Gait
from dmcm.quadruped.walking.policy import POLICY, load_policy
from dmcm.quadruped.world.terrain import Terrain

GO1 = load_robot("go1")
GROUNDS = [Terrain(), Terrain("stairs_up", 0.08), Terrain("slope_down", 0.24)]
STAIRS = "stairs_up-0.08"


@pytest.fixture(scope="module")
def model():
    return load_dynamics_model()


def test_a_grounds_vector_says_which_ground_it_is(model):
    walker = load_policy(POLICY)[0]
    one, other = (fit_grounds(model, walker, GO1, GROUNDS, seed=seed) for seed in (0, 1))
    assert [fit.ground for fit in one] == GROUNDS
    assert all(fit.contexts.model == model.learner.fingerprint() for fit in one)
    rows = [np.array([np.asarray(fit.contexts["terrain"]) for fit in fits]) for fits in (one, other)]
    # Another walk on the same ground gives nearly the same vector.
    apart = np.linalg.norm(rows[0][:, None] - rows[1], axis=-1)
    different = apart[~np.eye(3, dtype=bool)]
    assert np.all(apart.diagonal() < 0.3 * different.min())


def test_a_ground_on_which_the_robot_falls_has_no_vector(model, monkeypatch):
    samples = ground_fit.log_samples

    def fallen(*args, **how):
        windows = samples(*args, **how)
        windows.count[1] = 3
        return windows

    monkeypatch.setattr(ground_fit, "log_samples", fallen)
    with pytest.raises(DataError, match=r"cannot walk on stairs_up-0\.08, which"):
        fit_grounds(model, load_policy(POLICY)[0], GO1, GROUNDS)


def test_the_command_keeps_what_a_policy_needs_for_the_stairs(model, tmp_path, capsys):
    folder = tmp_path / "bank"
    command = ["quadruped", "ground-vectors", "flat", STAIRS, "--bank", str(folder)]
    assert main(command) == 0
    assert STAIRS in capsys.readouterr().out
    bank = ContextBank(folder)
    entries = bank.entries()
    assert [(entry.factor, entry.name) for entry in entries] == [("terrain", "flat"), ("terrain", STAIRS)]
    assert {entry.source for entry in entries} == {
        "simulated log of the nominal go1 on flat",
        f"simulated log of the nominal go1 on {STAIRS}",
    }
    # With any robot's vector, the exported policy finds both of its vectors here, and lifts its feet.
    robot = Contexts({"robot": jnp.zeros(6)}, model.learner.fingerprint())
    bank.save("ours", robot, model.learner, source="a log", samples=9)
    contract = read_contract(export_policy(GAIT_POLICY, tmp_path / "policy.onnx"))
    gait = load_policy(GAIT_POLICY)[0].gait
    lifted = {}
    for ground in ("flat", STAIRS):
        told = bank_vectors(contract, bank, {"robot": "ours", "terrain": ground})
        settings = gait(np.concatenate([told["robot"], told["terrain"]])[None])[0]
        lifted[ground] = settings[SETTINGS.index("swing_height_m")]
    assert lifted[STAIRS] > max(lifted["flat"], Gait().swing_height_m) + 0.01


def test_the_command_replaces_nothing_unasked(model, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "bank"
    own = Contexts({"terrain": jnp.ones(4)}, model.learner.fingerprint())
    ContextBank(folder).save("flat", own, model.learner, source="a real floor", samples=9)
    command = ["quadruped", "ground-vectors", STAIRS, "flat", "--bank", str(folder)]
    assert main(command) == 2
    assert "overwrite" in capsys.readouterr().err
    assert [(entry.name, entry.source) for entry in ContextBank(folder).entries()] == [
        ("flat", "a real floor")
    ]
    # One that was simulated before stays, and is not simulated again.
    simulated = simulated_log("go1", Terrain())
    ContextBank(folder).save("flat", own, model.learner, source=simulated, samples=9, overwrite=True)
    asked = []

    def fitted(model, policy, table, grounds, **how):
        asked.extend(grounds)
        return [GroundFit(ground, own, 5) for ground in grounds]

    monkeypatch.setattr(quadruped_ground_vectors, "fit_grounds", fitted)
    assert main(command) == 0
    assert asked == [GROUNDS[1]]
    assert "flat already" in capsys.readouterr().out
    assert {entry.name: entry.samples for entry in ContextBank(folder).entries()} == {"flat": 9, STAIRS: 5}
    assert main(command) == 0
    assert len(asked) == 1
    assert main([*command, "--overwrite"]) == 0
    assert asked[1:] == [GROUNDS[1], GROUNDS[0]]
    assert {entry.samples for entry in ContextBank(folder).entries()} == {5}


def test_a_file_is_no_bank_and_nothing_is_simulated_for_it(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(quadruped_ground_vectors, "fit_grounds", None)
    (tmp_path / "bank").write_text("a list of banks")
    assert main(["quadruped", "ground-vectors", "flat", "--bank", str(tmp_path / "bank")]) == 2
    assert "is a file" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["stairs"], "stairs_up"),
        (["flat", "flat"], "Name each once"),
        ([STAIRS, "stairs_up-0.080"], "Name each once"),
        ([], "no ground is named"),
        (["flat", "--robot", "a1"], "Give --model"),
        (["flat", "--robot", "a1", "--model", "m.safetensors"], "give both files"),
        (["flat", "--base", "b.safetensors"], "give both files"),
        (["flat", "--seed", "-1"], "not be negative"),
        (["flat", "--walker", "none.safetensors"], "none.safetensors"),
    ],
)
def test_bad_input_is_refused(arguments, advice, tmp_path, capsys):
    assert main(["quadruped", "ground-vectors", *arguments, "--bank", str(tmp_path / "bank")]) == 2
    assert advice in capsys.readouterr().err
    assert not (tmp_path / "bank").exists()
