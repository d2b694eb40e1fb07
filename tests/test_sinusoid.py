"""The sinusoid family, its protocol, measures, methods and comparison.

Measures are checked on a model that is right by construction: its two contexts of size one are the amplitude
and the phase. When the two are entangled on purpose, every measure must show it.
"""

import dataclasses
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dmcm.baselines import NoAdaptation
from dmcm.contexts import Factors
from dmcm.errors import CheckpointError, ConfigError, FactorError, StorageError
from dmcm.learner import Learner
from dmcm.networks import Network
from dmcm.priors import Prior
from dmcm.sinusoid import comparison, measures, protocol
from dmcm.sinusoid.family import AMPLITUDE, BLOCK, INPUT, PHASE, SinusoidSampler
from dmcm.sinusoid.methods import METHODS, TOTAL_SIZE, build_method, method_named
from dmcm.solvers import GradientDescent, LevenbergMarquardt

TASKS = 120
TWO = Factors(amplitude=1, phase=1)
ONE = Factors(task=2)


class ExactNetwork(Network):
    """y = A·sin(x − φ) with A = 2.5 + c_1 + leak·c_2 and φ = 1.5 + c_2."""

    kind: ClassVar[str] = "exact"
    factors: Factors = eqx.field(static=True)
    inputs: int = eqx.field(static=True, default=1)
    outputs: int = eqx.field(static=True, default=1)
    leak: float = eqx.field(static=True, default=0.0)

    def encode(self, x: Any) -> Any:
        return x

    def decode(self, encoded: Any, contexts: Any) -> Any:
        first, second = jnp.concatenate([contexts[name] for name in self.factors])
        return (2.5 + first + self.leak * second) * jnp.sin(encoded - 1.5 - second)

    def spec(self) -> dict[str, Any]:
        return {"leak": self.leak}


def exact(factors=TWO, leak=0.0, precision=1e-9):
    prior = Prior(factors, floor=1e-9, precision=precision)
    return Learner(ExactNetwork(factors, leak=leak), LevenbergMarquardt(30), factors, prior=prior)


@pytest.fixture(scope="module")
def right():
    return exact()


@pytest.fixture(scope="module")
def leaking():
    return exact(leak=0.5)


# The family


@pytest.fixture(scope="module")
def batches():
    keys = jax.random.split(jax.random.key(0), 200)
    return eqx.filter_jit(lambda: jax.vmap(SinusoidSampler().sample)(keys))()


def test_batches_are_sinusoids_of_their_values(batches):
    a, p = batches.values["amplitude"][..., None], batches.values["phase"][..., None]
    for samples in (batches.support, batches.query):
        np.testing.assert_allclose(samples.y, a * jnp.sin(samples.x - p), atol=1e-5)
        assert np.all(np.abs(samples.x) <= INPUT[1])


def test_held_out_block_is_never_trained_on(batches):
    a, p = (np.asarray(batches.values[name])[..., 0] for name in ("amplitude", "phase"))
    inside = (a > BLOCK[0]) & (p > BLOCK[1])
    assert np.array_equal(np.asarray(batches.valid), ~inside)
    assert 0.2 < inside.mean() < 0.3
    assert a.min() >= AMPLITUDE[0]
    assert a.max() <= AMPLITUDE[1]
    assert p.min() >= PHASE[0]
    assert p.max() <= PHASE[1]


def test_labels_are_equal_exactly_where_values_are(batches):
    for name, label in batches.labels.items():
        value = np.asarray(batches.values[name])[..., 0]
        same = np.asarray(label)[:, :, None] == np.asarray(label)[:, None, :]
        assert np.array_equal(same, value[:, :, None] == value[:, None, :])
    pairs = batches.labels["amplitude"][0] * 6 + batches.labels["phase"][0]
    assert sorted(pairs.tolist()) == list(range(36))


def test_closed_form_scaler_agrees_with_draws():
    rng = np.random.default_rng(0)
    a, p, x = (rng.uniform(*limits, 400_000) for limits in (AMPLITUDE, PHASE, INPUT))
    scaler = SinusoidSampler().scaler()
    assert float(scaler.x_std[0]) == pytest.approx(x.std(), rel=0.01)
    # The formula takes sin²'s mean over x and φ as 1/2, which holds up to the ends of the range.
    assert float(scaler.y_std[0]) == pytest.approx((a * np.sin(x - p)).std(), rel=0.05)


# The protocol


@pytest.mark.parametrize("split", protocol.SPLITS)
@given(seed=st.integers(0, 2**31))
def test_test_tasks_lie_where_their_split_says(split, seed):
    drawn = protocol.draw_tasks(split, seed=seed, tasks=30)
    a, p = drawn.amplitude, drawn.phase
    inside = (a > BLOCK[0]) & (p > BLOCK[1])
    beyond = (a > AMPLITUDE[1]) | (p > PHASE[1])
    expected = {"seen": ~inside & ~beyond, "unseen_pair": inside & ~beyond, "range": beyond}[split]
    assert expected.all()
    assert a.max() <= protocol.RANGE[0]
    assert p.max() <= protocol.RANGE[1]
    # Donors: outside the block, and in range in the factor that is not asked of them.
    assert not ((a > BLOCK[0]) & (drawn.donor_phase > BLOCK[1])).any()
    assert not ((drawn.donor_amplitude > BLOCK[0]) & (p > BLOCK[1])).any()
    assert drawn.donor_phase.max() <= PHASE[1]
    assert drawn.donor_amplitude.max() <= AMPLITUDE[1]
    for samples, amplitude, phase in (
        (drawn.support, a, p),
        (drawn.amplitude_donor, a, drawn.donor_phase),
        (drawn.phase_donor, drawn.donor_amplitude, p),
    ):
        y = amplitude[:, None] * np.sin(np.asarray(samples.x)[..., 0] - phase[:, None])
        np.testing.assert_allclose(np.asarray(samples.y)[..., 0], y, atol=1e-5)


FROZEN = {
    "amplitude": [3.7207873191379948, 2.9953300188492236, 3.2308432095335586],
    "phase": [1.5931585470043552, 2.132850482821336, 2.5962204191428717],
    "x": [-3.361884355545044, -1.553501009941101, -2.0145645141601562],
}


def test_test_tasks_are_frozen():
    """These figures are of the published protocol: they must never change."""
    drawn = protocol.draw_tasks("unseen_pair", tasks=3)
    again = protocol.draw_tasks("unseen_pair", tasks=3)
    assert np.array_equal(drawn.amplitude, again.amplitude)
    assert np.array_equal(drawn.support.x, again.support.x)
    other = protocol.draw_tasks("unseen_pair", seed=protocol.VALIDATION_SEED, tasks=3)
    assert not np.array_equal(drawn.amplitude, other.amplitude)
    np.testing.assert_allclose(drawn.amplitude, FROZEN["amplitude"], rtol=1e-12)
    np.testing.assert_allclose(drawn.phase, FROZEN["phase"], rtol=1e-12)
    np.testing.assert_allclose(drawn.support.x[0, :3, 0], FROZEN["x"], rtol=1e-6)


def test_unknown_split():
    with pytest.raises(ConfigError, match="Did you mean 'seen'"):
        protocol.draw_tasks("sean")


def test_a_right_model_has_no_error(right):
    table = protocol.evaluate(right, seed=1, tasks=TASKS)
    for way in ("few_shot", "zero_shot"):
        for split in ("seen", "unseen_pair"):
            # The median: a donor of small amplitude leaves the phase open.
            assert table[way][split]["median"] < 1e-6
    assert table["zero_shot"]["seen"]["way"] == "shared"


def test_a_leaking_model_adapts_well_but_does_not_mix(leaking):
    table = protocol.evaluate(leaking, seed=1, tasks=TASKS)
    assert table["few_shot"]["unseen_pair"]["median"] < 1e-6
    assert table["zero_shot"]["unseen_pair"]["mean"] > 0.05


def test_errors_are_those_of_a_constant_for_a_model_that_cannot_adapt():
    """Without adaptation the exact network stays at 2.5·sin(x − 1.5)."""
    factors = TWO
    stuck = Learner(ExactNetwork(factors), NoAdaptation(), factors)
    drawn = protocol.draw_tasks("seen", seed=1, tasks=TASKS)
    x = protocol.grid()[:, 0]
    truth = drawn.amplitude[:, None] * np.sin(x - drawn.phase[:, None])
    expected = np.mean((truth - 2.5 * np.sin(x - 1.5)) ** 2, axis=1)
    found = protocol.task_errors(stuck, protocol.few_shot_contexts(stuck, drawn), drawn)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_a_single_context_gets_the_best_of_three_ways():
    single = exact(ONE)
    drawn = protocol.draw_tasks("unseen_pair", seed=1, tasks=TASKS)
    ways = protocol.zero_shot_contexts(single, drawn)
    assert ways.keys() == {"amplitude_donor", "phase_donor", "mean"}
    errors = {k: protocol.task_errors(single, c, drawn).mean() for k, c in ways.items()}
    table = protocol.evaluate(single, seed=1, tasks=TASKS)["zero_shot"]["unseen_pair"]
    assert table["mean"] == pytest.approx(min(errors.values()))
    assert errors[table["way"]] == min(errors.values())


# Measures


@given(
    amplitude=st.floats(0.01, 10),
    phase=st.floats(-np.pi + 1e-6, np.pi - 1e-6),
)
def test_curve_is_read_back(amplitude, phase):
    found = measures.read_curve(amplitude * np.sin(protocol.grid()[:, 0] - phase)[None])
    assert found["amplitude"][0] == pytest.approx(amplitude, rel=1e-9)
    assert measures.angle_between(found["phase"], np.array([phase]))[0] == pytest.approx(0, abs=1e-9)


@given(a=st.floats(-20, 20), b=st.floats(-20, 20))
def test_angle_between_is_the_angle_on_the_circle(a, b):
    found = measures.angle_between(np.array([a]), np.array([b]))[0]
    assert -np.pi <= found <= np.pi
    assert np.exp(1j * found) == pytest.approx(np.exp(1j * (a - b)), abs=1e-9)


def test_all_measures_of_a_right_model(right):
    table = measures.all_measures(right, tasks=TASKS)
    assert table.keys() == {"probes", "shots", "swap", "clamp"}
    for row in table["swap"].values():
        for cell in row.values():
            assert cell["rms"] < 0.05
            assert cell["median"] < 1e-3
    for name in ("amplitude", "phase"):
        other = "phase" if name == "amplitude" else "amplitude"
        assert table["probes"][name][name] > 0.99
        assert table["probes"][name][other] < 0.2
        assert table["clamp"][name]["replaced"] > 100 * table["clamp"]["free"]
    shots = {int(k): v["median"] for k, v in table["shots"]["unseen_pair"].items()}
    assert shots[1] > 0.01
    assert max(v for k, v in shots.items() if k >= 5) < 1e-6


def test_leak_shows_in_the_measures(leaking):
    """A = 2.5 + c_1 + c_2/2 with c_2 = φ − 1.5: swapping c_2 moves A by half the change in φ."""
    swap = measures.swap_test(leaking, tasks=TASKS)
    drawn = protocol.draw_tasks("seen", seed=protocol.VALIDATION_SEED, tasks=TASKS)
    moved = 0.5 * (np.roll(drawn.phase, -1) - drawn.phase) / drawn.amplitude.std()
    assert swap["phase"]["amplitude"]["median"] == pytest.approx(np.median(np.abs(moved)), rel=0.15)
    assert swap["amplitude"]["phase"]["median"] < 1e-3
    # With next to no prior some tasks are fitted by a negative amplitude, and no probe can follow.
    probes = measures.probe_table(exact(leak=0.5, precision=1e-3), tasks=TASKS)
    assert (
        probes["amplitude"]["phase"] > 0.01 + measures.probe_table(exact(), tasks=TASKS)["amplitude"]["phase"]
    )
    assert probes["phase"]["phase"] > 0.99


def test_clamped_error_is_that_of_the_clamped_factor(right):
    drawn = protocol.draw_tasks("seen", seed=protocol.VALIDATION_SEED, tasks=TASKS)
    x = protocol.grid()[:, 0]
    truth = drawn.amplitude[:, None] * np.sin(x - drawn.phase[:, None])
    clamped = 2.5 * np.sin(x - drawn.phase[:, None])
    found = measures.clamp_test(right, tasks=TASKS)
    assert found["amplitude"]["replaced"] == pytest.approx(np.mean((truth - clamped) ** 2), rel=0.02)


def test_shots_curve_hides_the_points_beyond(right):
    """Adapting to the first points alone, in arrays of that length, gives the same errors."""
    curve = measures.shots_curve(right, tasks=TASKS, shots=(3, 9))
    drawn = protocol.draw_tasks("seen", seed=protocol.VALIDATION_SEED, tasks=TASKS, shots=9)
    short = right.adapt_many(drawn.support.x[:, :3], drawn.support.y[:, :3])
    errors = protocol.task_errors(right, short, drawn)
    assert curve["seen"]["3"]["median"] == pytest.approx(np.median(errors), rel=0.05, abs=1e-9)
    assert curve.keys() == {"seen", "unseen_pair"}


def test_single_context_has_no_swap_and_no_clamp():
    single = exact(ONE)
    table = measures.all_measures(single, tasks=TASKS)
    assert table.keys() == {"probes", "shots"}
    assert table["probes"]["task"]["amplitude"] > 0.99
    with pytest.raises(FactorError, match="amplitude"):
        measures.swap_test(single, tasks=TASKS)


# Methods and the comparison


@pytest.mark.parametrize("name", sorted(METHODS))
def test_every_method_can_be_built_and_adapts(name):
    learner = build_method(name, 0)
    if METHODS[name].factors and name != "oracle":
        assert learner.factors.total == TOTAL_SIZE
    again, other = build_method(name, 0), build_method(name, 1)
    assert again.fingerprint() == learner.fingerprint() != other.fingerprint()


def test_unknown_method():
    with pytest.raises(ConfigError, match="Did you mean 'cavia'"):
        method_named("cavai")


def test_more_inner_steps_change_only_their_number(right):
    solver = LevenbergMarquardt(8, training_steps=3, safeguard=False, restarts=False)
    changed = comparison.with_steps(solver, 20)
    assert changed.spec() == {**solver.spec(), "steps": 20}
    gradient = GradientDescent(TWO, steps=4, rate=0.2)
    longer = comparison.with_steps(gradient, 9)
    assert longer.steps == 9
    assert longer.spec() == {**gradient.spec(), "steps": 9}
    for name, rates in longer.log_rate.items():
        assert np.array_equal(rates, gradient.log_rate[name])


def test_comparison_trains_measures_and_remembers(monkeypatch, tmp_path):
    calls = []

    def evaluate(learner, *, seed):
        calls.append(seed)
        split = {name: {"mean": 1.0, "median": 0.5, "max": 2.0} for name in protocol.SPLITS}
        return {"few_shot": split, "zero_shot": {k: {**v, "way": "mean"} for k, v in split.items()}}

    monkeypatch.setattr(protocol, "evaluate", evaluate)
    config = comparison.ComparisonConfig(
        methods=("none",), seeds=2, steps=3, out=tmp_path / "runs", results=tmp_path / "table.json"
    )
    table = comparison.compare(config, progress=False)
    assert calls == [protocol.TEST_SEED] * 2
    assert table["methods"]["none"]["few_shot"]["range"]["per_seed"] == [1.0, 1.0]
    assert table["methods"]["none"]["zero_shot"]["seen"]["way"] == "mean"
    assert (tmp_path / "table.json").exists()

    again = comparison.compare(config, progress=False)
    assert len(calls) == 2, "finished cells must not be measured again"
    assert again["methods"] == table["methods"]

    other = comparison.ComparisonConfig(methods=("none",), seeds=1, steps=3, out=config.out, test_seed=7)
    comparison.compare(other, progress=False)
    assert calls[2:] == [7], "a cell of another test seed must be measured anew"

    # Of the same protocol what is not compared again stays, and a table of another is not replaced.
    more = comparison.compare(dataclasses.replace(config, methods=("oracle",)), progress=False)
    assert set(more["methods"]) == {"none", "oracle"}
    assert more["methods"]["none"] == table["methods"]["none"]
    assert more["earlier"]["none"]["command"] == table["command"] != more["command"]
    adam = dataclasses.replace(config, methods=("oracle",), optimiser="adam")
    before = config.results.read_bytes()
    with pytest.raises(StorageError, match="optimiser: muon, not adam"):
        comparison.compare(adam, progress=False)
    assert config.results.read_bytes() == before
    adam = dataclasses.replace(adam, results=None)
    with pytest.raises(CheckpointError, match="with other settings"):
        comparison.compare(adam, progress=False)
    adam = dataclasses.replace(adam, out=tmp_path / "adam")
    assert set(comparison.compare(adam, progress=False)["methods"]) == {"oracle"}


def test_comparison_refuses_settings_out_of_range():
    for wrong in ({"seeds": 0}, {"steps": 0}, {"methods": ("dmmc",)}):
        with pytest.raises(ConfigError):
            comparison.ComparisonConfig(**wrong).names()
    assert comparison.ComparisonConfig(methods=("all",)).names() == tuple(METHODS)
