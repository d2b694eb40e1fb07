"""Tests of grounds' vectors from simulation: what they are, where they are kept, who uses them."""

import jax.numpy as jnp
import numpy as np
import pytest

from dmcm.bank import ContextBank
from dmcm.cli import main
from dmcm.contexts import Contexts
from dmcm.errors import DataError
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned import ground_fit
from dmcm.quadruped.conditioned.export import export_policy, read_contract
from dmcm.quadruped.conditioned.ground_fit import fit_grounds
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
    with pytest.raises(DataError, match=r"cannot walk on stairs_up-0\.08"):
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


def test_the_command_replaces_nothing_unasked(model, tmp_path, capsys):
    folder = tmp_path / "bank"
    own = Contexts({"terrain": jnp.ones(4)}, model.learner.fingerprint())
    ContextBank(folder).save("flat", own, model.learner, source="a real floor", samples=9)
    command = ["quadruped", "ground-vectors", STAIRS, "flat", "--bank", str(folder)]
    assert main(command) == 2
    assert "overwrite" in capsys.readouterr().err
    assert [(entry.name, entry.source) for entry in ContextBank(folder).entries()] == [
        ("flat", "a real floor")
    ]


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (["stairs"], "stairs_up"),
        (["flat", "flat"], "each once"),
        ([STAIRS, "stairs_up-0.080"], "each once"),
        ([], "each once"),
        (["flat", "--robot", "a1"], "Give --model"),
        (["flat", "--seed", "-1"], "not be negative"),
        (["flat", "--walker", "none.safetensors"], "none.safetensors"),
    ],
)
def test_bad_input_is_refused(arguments, advice, tmp_path, capsys):
    assert main(["quadruped", "ground-vectors", *arguments, "--bank", str(tmp_path / "bank")]) == 2
    assert advice in capsys.readouterr().err
    assert not (tmp_path / "bank").exists()
