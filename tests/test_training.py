"""The outer loop: determinism, stopping, what is skipped, refused and written."""

import dataclasses
import json
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.helpers import FACTORS, learner, network, same_bits, sine, sines, solver

from dmcm import FactorDataset, FitConfig, fit, load_learner
from dmcm.checkpoints import load_checkpoint
from dmcm.errors import CheckpointError, ConfigError, DataError, DivergenceError, InterruptedRun, ShapeError
from dmcm.networks import ConcatNetwork
from dmcm.optimiser import outer_optimiser
from dmcm.runs import RunFolder
from dmcm.scaling import Scaler
from dmcm.storage import load_arrays, tree_arrays

QUICK = FitConfig(steps=7, chunk=3, learning_rate=1e-2)


def plain(seed=0):
    """Without adaptation: the quickest learner to compile."""
    return learner(seed=seed, solver=solver("none"))


def train(model, data=None, config=QUICK, **options):
    return fit(model, sines() if data is None else data, config, progress=False, **options)


def numbers(model):
    return eqx.filter(model, eqx.is_array)


class Spoiled(eqx.Module):
    """Batches of a dataset, some of them changed."""

    inner: eqx.Module
    bad_keys: jax.Array

    def sample(self, key):
        batch = self.inner.sample(key)
        data = jax.random.key_data(key)
        bad = jnp.any(jnp.all(self.bad_keys == data, axis=-1))
        y = jnp.where(bad, jnp.nan, batch.query.y)
        return eqx.tree_at(lambda b: b.query.y, batch, y)

    def scaler(self):
        return self.inner.scaler()


class Mine(ConcatNetwork):
    """A network of one's own."""


@dataclasses.dataclass(frozen=True)
class Shift:
    by: float


class Shifted(eqx.Module):
    """Batches of a dataset with a setting that lies deeper than the sampler."""

    inner: eqx.Module
    settings: dict

    def sample(self, key):
        batch = self.inner.sample(key)
        return eqx.tree_at(lambda b: b.query.y, batch, batch.query.y + self.settings["shift"].by)

    def scaler(self):
        return self.inner.scaler()


class Changed(eqx.Module):
    """Batches of a dataset, changed as one says."""

    inner: eqx.Module
    change: Any = eqx.field(static=True)
    moments: Any = None

    def sample(self, key):
        return self.change(self.inner.sample(key))

    def scaler(self):
        return self.inner.scaler() if self.moments is None else self.moments


@dataclasses.dataclass
class Unfrozen:
    inner: eqx.Module

    def sample(self, key):
        return self.inner.sample(key)

    def scaler(self):
        return self.inner.scaler()


class NothingValid(eqx.Module):
    inner: eqx.Module

    def sample(self, key):
        batch = self.inner.sample(key)
        return eqx.tree_at(lambda b: b.valid, batch, jnp.zeros_like(batch.valid))

    def scaler(self):
        return self.inner.scaler()


def batch_keys(*steps):
    """Data of the keys that these outer steps of seed 0 draw their batches with."""
    keys = [jax.random.fold_in(jax.random.key(0), step) for step in steps]
    return jnp.stack([jax.random.key_data(jax.random.split(key)[0]) for key in keys])


def test_training_repeats_itself_bit_for_bit_and_learns():
    start = learner()
    config = FitConfig(steps=60, chunk=20, learning_rate=1e-2)
    one, two = (train(start, config=config) for _ in range(2))
    assert same_bits(numbers(one.learner), numbers(two.learner))
    assert one.history == two.history
    assert [line["step"] for line in one.history] == [20, 40, 60]
    assert one.steps == 60
    for part in ("own", "recombined"):
        assert one.history[-1][part] < 0.95 * one.history[0][part]
    # A learner is a value: the one that went in is as it was.
    assert start.fingerprint() == learner().fingerprint()
    assert start.scaler is None
    other = train(start, config=dataclasses.replace(config, seed=1))
    assert not same_bits(numbers(one.learner), numbers(other.learner))


def test_the_size_of_chunks_changes_no_step():
    found = {}
    for chunk, steps in ((3, [3, 6, 7]), (7, [7]), (100, [7])):
        done = train(plain(), config=dataclasses.replace(QUICK, chunk=chunk))
        assert [line["step"] for line in done.history] == steps
        found[chunk] = jax.tree.leaves(numbers(done.learner))
    for one, other in zip(found[3], found[100], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_every_trained_part_moves_and_the_scaler_does_not():
    data = sines()
    # In the second inner step the prior begins to pull.
    model = learner(solver=solver("gradient_descent", steps=2))
    done = train(model, data).learner
    before, after = tree_arrays(model), tree_arrays(done)
    moved = {name for name in before if not np.array_equal(before[name], after[name])}
    assert moved == before.keys()
    assert same_bits(done.scaler, data.scaler())
    fixed = learner(solver=solver("gradient_descent", steps=2, learned=False), scaler=data.scaler())
    before, after = tree_arrays(fixed), tree_arrays(train(fixed, data).learner)
    still = {name for name in before if np.array_equal(before[name], after[name])}
    assert {name.split(".")[1] for name in still} == {"solver", "scaler"}


def test_the_prior_learns_faster_by_its_factor():
    """The first step of Adam moves every number by the learning rate, whatever its slope."""
    model, rate = learner(), 1e-3
    config = FitConfig(steps=1, chunk=1, warmup=0, learning_rate=rate, prior_rate=7.0)
    before, after = tree_arrays(model), tree_arrays(train(model, config=config).learner)
    for name, start in before.items():
        if name.startswith(".scaler"):
            continue
        expected = 7 * rate if name.startswith(".prior") else rate
        assert np.max(np.abs(after[name] - start)) == pytest.approx(expected, rel=1e-2), name


@pytest.mark.parametrize(("optimiser", "alike"), [("muon", True), ("adam", False)])
def test_muon_moves_a_layer_equally_far_along_all_its_directions(optimiser, alike):
    weights = eqx.filter(learner(network=network(depth=2), solver=solver("gradient_descent")), eqx.is_array)
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(8, 8)))[0] for _ in range(2))
    steep = jnp.asarray(left * np.geomspace(1, 1e-2, 8) @ right, jnp.float32)
    slopes = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), jnp.float32), weights)
    slopes = eqx.tree_at(lambda tree: tree.network.trunk.layers[1].weight, slopes, steep)
    made = outer_optimiser(dataclasses.replace(QUICK, steps=1, optimiser=optimiser))
    updates, _ = made.update(slopes, made.init(weights), weights)
    moved = np.linalg.svd(updates.network.trunk.layers[1].weight, compute_uv=False)
    assert (moved.max() < 3 * moved.min()) == alike
    # All else goes by Adam, whose first step is as long everywhere: also the matrix of step sizes.
    for rest in (
        updates.network.head,
        updates.solver.log_rate["phase"],
        updates.network.trunk.layers[1].bias,
    ):
        np.testing.assert_allclose(np.abs(rest), np.abs(rest).max(), rtol=1e-3)


def test_unknown_optimisers_are_named():
    with pytest.raises(ConfigError, match=r"no optimiser 'mun'.*Did you mean 'muon'"):
        train(plain(), config=dataclasses.replace(QUICK, optimiser="mun"))


def test_a_batch_that_explodes_changes_nothing():
    inner = sines().sampler()
    # The second of two batches is bad: what is left is the first step.
    done = train(plain(), Spoiled(inner, batch_keys(1)), FitConfig(steps=2, chunk=2))
    first = train(plain(), inner, FitConfig(steps=1, chunk=2))
    assert done.history[-1]["skipped"] == 0.5
    assert done.history[-1]["own"] == pytest.approx(first.history[-1]["own"], rel=1e-5)
    pairs = [jax.tree.leaves(numbers(run.learner)) for run in (done, first)]
    for one, other in zip(*pairs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_divergence_is_an_error_and_keeps_what_was_good(tmp_path):
    with pytest.raises(DivergenceError, match=r"between steps 0 and 3 \d+% of the gradients were not finite"):
        train(plain(), config=dataclasses.replace(QUICK, learning_rate=1e37))
    inner = sines().sampler()
    with pytest.raises(DivergenceError, match="between steps 3 and 6 67%"):
        train(plain(), Spoiled(inner, batch_keys(4, 5)), run_dir=tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000000003.safetensors"]


def test_nothing_valid_trains_nothing():
    done = train(plain(), NothingValid(sines().sampler()))
    assert all(line["own"] == line["recombined"] == line["gradient"] == 0 for line in done.history)
    start = eqx.tree_at(lambda m: m.scaler, done.learner, None)
    assert same_bits(numbers(start), numbers(plain()))


def test_data_without_donors_train_on_own_contexts():
    data = sines()
    alone = FactorDataset.from_arrays(data.x, data.y, {name: range(9) for name in FACTORS}, shots=5)
    done = train(plain(), alone)
    assert all(line["recombined"] == 0 < line["own"] for line in done.history)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(numbers(done.learner)))


def test_patience_stops_where_nothing_gets_better(tmp_path):
    config = FitConfig(steps=100, chunk=5, patience=2)
    options = {"validation": sines(), "run_dir": tmp_path}
    done = train(plain(), NothingValid(sines().sampler()), config, **options)
    assert done.steps == 15
    losses = [line["validation"] for line in done.history]
    assert losses[0] == losses[1] == losses[2] > 0
    # Stopped is stopped: resuming does nothing more.
    again = train(plain(), NothingValid(sines().sampler()), config, resume=True, **options)
    assert again.steps == 15
    assert again.history == done.history
    assert same_bits(numbers(again.learner), numbers(done.learner))


def test_the_best_on_validation_data_is_returned(tmp_path, monkeypatch):
    data = sines()
    # What is learned from the data makes these worse, so the first validation is the best.
    contrary = dataclasses.replace(data, y=-data.y)
    config = FitConfig(steps=20, chunk=5, learning_rate=3e-2, recombination=0.0)
    done = train(plain(), data, config, validation=contrary)
    losses = [line["validation"] for line in done.history]
    assert len(losses) == 4
    assert np.argmin(losses) == 0
    log = RunFolder.log

    def stop_after_first(self, step, metrics):
        log(self, step, metrics)
        raise KeyboardInterrupt

    monkeypatch.setattr(RunFolder, "log", stop_after_first)
    with pytest.raises(InterruptedRun, match="Step 5 is saved"):
        train(plain(), data, config, run_dir=tmp_path)
    arrays, _ = load_arrays(tmp_path / "checkpoints" / "step-000000005.safetensors")
    for name, array in tree_arrays(done.learner).items():
        np.testing.assert_array_equal(arrays[f".trained{name}"], array)
    # Without validation data the last is returned.
    monkeypatch.undo()
    last = train(plain(), data, config)
    assert not same_bits(numbers(last.learner), numbers(done.learner))


def test_validation_that_is_never_finite_is_an_error():
    class Broken(eqx.Module):
        inner: eqx.Module

        def sample(self, key):
            batch = self.inner.sample(key)
            return eqx.tree_at(lambda b: b.query.y, batch, jnp.nan * batch.query.y)

        def scaler(self):
            return self.inner.scaler()

    with pytest.raises(DivergenceError, match="validation loss was never a finite number"):
        train(plain(), validation=Broken(sines().sampler()))


def test_run_folder_holds_the_record(tmp_path, capsys):
    folder = tmp_path / "deep" / "run"
    done = fit(plain(), sines(), QUICK, run_dir=folder)
    assert "7/7" in capsys.readouterr().out
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == done.history == RunFolder(folder).history()
    assert lines[0].keys() >= {"step", "own", "recombined", "dependence", "gradient", "skipped"}
    assert same_bits(numbers(load_learner(folder / "model.safetensors")), numbers(done.learner))
    assert any((folder / "events").iterdir())
    found = json.loads((folder / "training.json").read_text())
    assert found["settings"] == dataclasses.asdict(QUICK)
    assert [p.name for p in (folder / "checkpoints").iterdir()] == ["step-000000007.safetensors"]
    assert load_checkpoint(folder / "checkpoints", {})[1]["step"] == 7


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("steps", 0),
        ("learning_rate", 0.0),
        ("learning_rate", float("nan")),
        ("learning_rate", float("inf")),
        ("warmup", -1),
        ("clip", 0.0),
        ("prior_rate", 0.0),
        ("recombination", -1.0),
        ("omission", -1.0),
        ("recombination", float("inf")),
        ("dependence", float("nan")),
        ("outlier_scale", 0.0),
        ("chunk", 0),
        ("checkpoint_seconds", -1.0),
        ("patience", -1),
        ("seed", -1),
        ("seed", 2**32),
    ],
)
def test_settings_out_of_range_are_named(name, value):
    config = dataclasses.replace(QUICK, **{name: value})
    with pytest.raises(ConfigError, match=rf"out of range: {name}=.* \(valid: .*\d"):
        train(plain(), config=config)


def test_settings_that_contradict_each_other():
    with pytest.raises(ConfigError, match="patience needs validation data"):
        train(plain(), config=FitConfig(patience=3))
    with pytest.raises(ConfigError, match="resume needs the run_dir"):
        train(plain(), resume=True)


def test_data_that_do_not_fit_the_learner():
    x, y = (np.stack([sine(a, samples=8)[i] for a in (1, 2)]) for i in (0, 1))
    wide = FactorDataset.from_arrays(np.concatenate([x, x], axis=2), y, {name: [0, 1] for name in FACTORS})
    for options in ({"data": wide}, {"validation": wide}):
        with pytest.raises(
            ShapeError, match="the data have 2 input and 1 output columns, but the learner takes 1 and 1"
        ):
            train(plain(), **options)
    partly = FactorDataset.from_arrays(x, y, {"amplitude": [1, 2], "other": [1, 2]})
    with pytest.raises(ConfigError, match="no label for phase; they have amplitude, other"):
        train(plain(), partly)
    done = train(plain(), partly, FitConfig(steps=1, recombination=0.0))
    assert done.steps == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda b: (b.support, b.query), DataError, "must return a dmcm.samples.Batch, not tuple"),
        (
            lambda b: eqx.tree_at(lambda b: b.query.y, b, jnp.tile(b.query.y, 2)),
            ShapeError,
            "1 input and 2 output columns",
        ),
        (
            lambda b: eqx.tree_at(lambda b: b.query.x, b, b.query.x[:, :1]),
            ShapeError,
            "the query samples of a batch have",
        ),
        (
            lambda b: eqx.tree_at(lambda b: b.support.weight, b, b.support.weight[:1]),
            ShapeError,
            "the support samples of a batch have",
        ),
        (
            lambda b: eqx.tree_at(lambda b: b.labels["phase"], b, b.labels["phase"] * 1.0),
            ShapeError,
            "labels of phase of a batch must be integers",
        ),
        (
            lambda b: eqx.tree_at(lambda b: b.valid, b, b.valid * 1.0),
            ShapeError,
            "valid of a batch must be booleans",
        ),
    ],
)
def test_batches_that_do_not_fit_are_refused(change, error, message):
    with pytest.raises(error, match=message):
        train(plain(), Changed(sines().sampler(), change))


def test_samplers_that_cannot_be_used_are_refused():
    with pytest.raises(DataError, match=r"Unfrozen is not a frozen pytree.*equinox\.Module"):
        train(plain(), Unfrozen(sines().sampler()))
    with pytest.raises(ShapeError, match="the scaler has 2 input"):
        train(plain(), Changed(sines().sampler(), lambda batch: batch, Scaler.identity(2, 1)))


def test_validation_columns_in_another_order_are_refused():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(4, 8, 2)), {"amplitude": [0, 1, 0, 1], "phase": [0, 0, 1, 1]}
    there = FactorDataset.from_arrays(x, x, labels, input_names=["q", "u"], output_names=["a", "b"])
    for names in ({"input_names": ["u", "q"]}, {"output_names": ["b", "a"]}):
        turned = FactorDataset.from_arrays(x, x, labels, **names)
        with pytest.raises(ShapeError, match="in the same order"):
            train(learner(network=network(inputs=2, outputs=2)), there, validation=turned)


def test_penalty_on_dependence_takes_part():
    config = FitConfig(steps=1, dependence=0.5, outlier_scale=1.0)
    done = train(learner(solver=solver("set_encoder", width=4)), config=config)
    assert all(0 < line["dependence"] <= 1 for line in done.history)


@pytest.mark.parametrize("scale", [1e-38, 1e35])
def test_units_beyond_single_precision_are_refused(scale):
    x = np.linspace(0, 1, 12).reshape(2, 6, 1)
    with pytest.raises(DataError, match=r"cannot scale\. Choose a unit"):
        FactorDataset.from_arrays(x, scale * np.sin(x), {"place": ["a", "b"]})


def test_a_network_of_ones_own_is_trained_into_a_folder(tmp_path):
    def own(seed):
        mine = Mine(FACTORS, 1, 1, width=4, key=jax.random.key(seed))
        return learner(network=mine, solver=solver("none"))

    trained = train(own(0), run_dir=tmp_path).learner
    found = load_learner(tmp_path / "model.safetensors", like=own(1))
    assert same_bits(numbers(found), numbers(trained))


def test_a_setting_deep_within_a_sampler_counts(tmp_path):
    def shifted(by):
        return Shifted(sines().sampler(), {"shift": Shift(by), "key": jax.random.key(0)})

    done = train(plain(), shifted(0.0), run_dir=tmp_path)
    with pytest.raises(CheckpointError, match="or other data"):
        train(plain(), shifted(100.0), run_dir=tmp_path, resume=True)
    again = train(plain(), shifted(0.0), run_dir=tmp_path, resume=True)
    assert same_bits(numbers(again.learner), numbers(done.learner))


def test_seconds_of_a_resumed_training_are_all_of_it(tmp_path):
    first = train(plain(), run_dir=tmp_path)
    again = train(plain(), run_dir=tmp_path, resume=True)
    assert load_checkpoint(tmp_path / "checkpoints", {})[1]["seconds"] < first.seconds
    assert again.seconds > load_checkpoint(tmp_path / "checkpoints", {})[1]["seconds"] > 0
