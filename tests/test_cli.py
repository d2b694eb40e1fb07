"""Every command through `main`, on tiny settings; every error a line and an exit code, never a traceback."""

import ast
import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
import types
from html.parser import HTMLParser
from pathlib import Path

import jax
import numpy as np
import polars as pl
import pytest

import dmcm
from dmcm import training
from dmcm.bank import ContextBank
from dmcm.cli import app, main
from dmcm.cli.arguments import parse_pairs, parse_range, parse_sizes
from dmcm.cli.runs import Run
from dmcm.errors import ConfigError
from dmcm.models import load_learner, save_learner
from dmcm.quadruped.conditioned.widening import widen
from dmcm.quadruped.dynamics import model as dynamics_model
from dmcm.quadruped.walking.known_gains import GainReader
from dmcm.quadruped.walking.policy import POLICY, load_policy, save_policy
from dmcm.quadruped.walking.told_gait import GaitReader
from dmcm.runs import RunFolder
from dmcm.sinusoid import protocol
from dmcm.sinusoid.demo import DemoConfig, choose_folder
from dmcm.sinusoid.methods import METHODS
from dmcm.tabular.runs import TableConfig
from helpers import ROOT, robot_model

VARIETIES, YEARS = ("F", "P"), (1988, 1989, 1990)
FIT = ["--task", "plot", "--factors", "variety=2", "year=1", "--inputs", "day", "--outputs", "weight_g"]
TINY = ["--width", "8", "--depth", "1", "--shots", "3", "--solver", "gradient_descent"]


def growth(variety, year, day):
    """What the table holds: a slope per variety, an offset per year."""
    return (1.0 if variety == "F" else 2.0) * np.sin(day) + (year - 1989)


def write_plants(path, plots=2):
    """Plots of every variety and year, six samples each."""
    rng = np.random.default_rng(0)
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["plot", "variety", "year", "day", "weight_g"])
        for variety in VARIETIES:
            for year in YEARS:
                for plot in range(plots):
                    for day in rng.uniform(0, 4, 6):
                        row = [f"{year}{variety}{plot}", variety, year, day, growth(variety, year, day)]
                        writer.writerow(row)
    return path


@pytest.fixture(scope="module")
def plants(tmp_path_factory):
    return write_plants(tmp_path_factory.mktemp("table") / "plants.csv")


@pytest.fixture(scope="module")
def table_run(plants, tmp_path_factory):
    """A run on the table with one combination held out, fitted by the command."""
    out = tmp_path_factory.mktemp("runs") / "plants"
    held_out = ["--hold-out", "variety=P", "year=1990", "--steps", "40", "--out", str(out)]
    assert main(["fit", str(plants), *FIT, *TINY, *held_out]) == 0
    return out


@pytest.fixture(scope="module")
def bank(table_run, plants, tmp_path_factory):
    """A bank with every plot, and pooled contexts of every label."""
    folder = tmp_path_factory.mktemp("banks") / "bank"
    for more in ([], ["--pool", "variety"], ["--pool", "year"]):
        assert main(["adapt", str(table_run), str(plants), "--bank", str(folder), *more]) == 0
    return folder


@pytest.fixture(scope="module")
def small_methods():
    """The demo's methods with small networks and few inner steps, which compile in a moment."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("dmcm", "cavia"):
            small = {
                "network": {**METHODS[name].network, "width": 8, "depth": 1},
                "solver": {"kind": "gradient_descent", "steps": 2, "rate": 0.1},
            }
            patch.setitem(METHODS, name, dataclasses.replace(METHODS[name], **small))
        yield


@pytest.fixture(scope="module")
def small_robot(tmp_path_factory):
    """The demo's robot with a tiny, untrained model, for a few seconds."""
    folder, model = tmp_path_factory.mktemp("models"), robot_model()
    with pytest.MonkeyPatch.context() as patch:
        for name, part in (("BASE_MODEL", model.base), ("MODEL", model.learner)):
            save_learner(folder / name, part)
            patch.setattr(dynamics_model, name, folder / name)
        patch.setattr("dmcm.quadruped.demo.SECONDS", 6.0)
        plain, told = load_policy(POLICY)[0], {"robot": np.eye(2), "terrain": np.eye(2)}
        matched = widen(plain, "dmcm", told, GainReader(2))
        gaited = widen(plain, "dmcm_gait", told, GainReader(4), GaitReader(4))
        for name, policy in (("MATCHED_POLICY", matched), ("GAIT_POLICY", gaited)):
            save_policy(folder / name, policy, {})
            patch.setattr(f"dmcm.quadruped.demo_walk.{name}", folder / name)
        patch.setattr("dmcm.quadruped.demo_walk.EPISODE_S", 0.4)
        patch.setattr("dmcm.quadruped.demo_walk.film", lambda *_, **__: None)
        yield


@pytest.fixture(scope="module")
def demo_run(small_methods, small_robot, tmp_path_factory):
    """A demo with hardly any training."""
    out = tmp_path_factory.mktemp("demo") / "demo"
    assert main(["demo", "--steps", "2", "--out", str(out)]) == 0
    return out


def fails(capsys, *arguments, code=2):
    """Run a command that must fail; what it said on stderr."""
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.out + said.err
    return said.err


def check_page(path):
    """Raise unless a page is well-formed, self-contained and free of scripts."""
    void = {"meta", "img", "link", "br", "hr"}

    class Checker(HTMLParser):
        open_tags = ()

        def handle_starttag(self, tag, attributes):
            assert tag not in ("script", "link", "iframe")
            for name, value in attributes:
                if name in ("src", "href"):
                    assert value.startswith("data:"), value
            if tag not in void:
                self.open_tags = (*self.open_tags, tag)

        def handle_endtag(self, tag):
            assert self.open_tags
            assert self.open_tags[-1] == tag
            self.open_tags = self.open_tags[:-1]

    checker = Checker()
    text = path.read_text()
    checker.feed(text)
    assert checker.open_tags == ()
    assert "url(" not in text
    assert "@import" not in text
    return text


# --- the table commands ---------------------------------------------------------------------------


def test_fit_leaves_a_complete_run(table_run, capsys):
    config = json.loads((table_run / "config.json").read_text())
    assert config["kind"] == "table"
    assert config["factors"] == {"variety": 2, "year": 1}
    assert (config["inputs"], config["outputs"], config["task"]) == (["day"], ["weight_g"], "plot")
    assert config["hold_out"] == {"variety": "P", "year": "1990"}
    assert json.loads((table_run / "environment.json").read_text())["packages"]["jax"]
    metrics = json.loads((table_run / "metrics.json").read_text())
    assert len(metrics["few_shot"]["tasks"]) == 10
    assert set(metrics["held_out"]["zero_shot"]["tasks"]) == {"1990P0", "1990P1"}
    assert metrics["held_out"]["pooled"] == {"variety": {"P": 4}, "year": {"1990": 2}}
    page = check_page(table_run / "report.html")
    assert "held out" in page
    assert "1990P0" not in config["inputs"]
    assert {path.suffix for path in (table_run / "plots").iterdir()} == {".svg"}


def test_held_out_errors_are_those_of_the_model(table_run, plants):
    """The mean curve and the swap, computed from public parts."""
    metrics = json.loads((table_run / "metrics.json").read_text())["held_out"]
    learner = load_learner(table_run / "model.safetensors")
    use = {"task": "plot", "factors": ["variety", "year"], "inputs": ["day"], "outputs": ["weight_g"]}
    data = dmcm.FactorDataset.from_table(plants, **use)
    train, held = data.without(variety="P", year=1990), data.where(variety="P", year=1990)

    def pooled(name, label):
        carriers = train.where(**{name: label})
        return learner.adapt_pooled([carriers.task(i) for i in range(len(carriers))], shared=name)

    mix = dmcm.share(variety=pooled("variety", "P"), year=pooled("year", 1990))
    each = [learner.adapt(*train.task(i)) for i in range(len(train))]
    for i, name in enumerate(held.task_names):
        x, y = held.task(i)
        gaps = np.asarray(learner.predict(mix, x)) - y
        error = np.mean((gaps / np.asarray(learner.scaler.y_std)) ** 2)
        assert metrics["zero_shot"]["tasks"][name] == pytest.approx(error, rel=1e-3)
        mean = np.mean([learner.predict(own, x) for own in each], axis=0)
        error = np.mean(((mean - y) / np.asarray(learner.scaler.y_std)) ** 2)
        assert metrics["mean_curve"]["tasks"][name] == pytest.approx(error, rel=1e-3)


def test_fit_resumes_only_the_same_run(table_run, plants, capsys):
    same = [*FIT, *TINY, "--hold-out", "variety=P", "year=1990", "--steps", "40", "--out", table_run]
    assert "--resume" in fails(capsys, "fit", plants, *same)
    said = fails(capsys, "fit", plants, *same, "--resume", "--seed", "5")
    assert "fit.seed is 0 there and 5 here" in said
    before = load_learner(table_run / "model.safetensors").fingerprint()
    assert main([str(word) for word in ("fit", plants, *same, "--resume")]) == 0
    assert load_learner(table_run / "model.safetensors").fingerprint() == before


def test_fit_takes_one_factor_from_an_npz_file_with_validation(tmp_path, capsys):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(8, 6, 2))
    robot = np.array(["a", "b"] * 4)
    y = x @ np.array([[1.0, 0.5], [0.0, 2.0]]) * np.where(robot == "a", 1.0, -1.0)[:, None, None]
    np.savez(tmp_path / "runs.npz", x=x, y=y, label_robot=robot, label_day=np.arange(8))
    out = tmp_path / "run"
    wanted = ["--factors", "robot=2", "--validation-fraction", "0.25", "--patience", "1", "--steps", "5"]
    assert main(["fit", str(tmp_path / "runs.npz"), *wanted, *TINY, "--out", str(out)]) == 0
    metrics = json.loads((out / "metrics.json").read_text())
    assert len(metrics["few_shot"]["tasks"]) == 6
    assert "held_out" not in metrics
    assert "predicted against measured" in check_page(out / "report.html").lower()
    bank = tmp_path / "bank"
    assert main(["adapt", str(out), str(tmp_path / "runs.npz"), "--bank", str(bank), "--pool", "robot"]) == 0
    # Adapting asks neither for labels nor for samples to be tested on, but for the model's columns.
    np.savez(tmp_path / "one.npz", x=x[:2, :1], y=y[:2, :1])
    assert main(["adapt", str(out), str(tmp_path / "one.npz"), "--bank", str(tmp_path / "few")]) == 0
    assert "label" in fails(capsys, "adapt", out, tmp_path / "one.npz", "--bank", bank, "--pool", "robot")
    np.savez(tmp_path / "wide.npz", x=x, y=y[..., :1], label_robot=robot)
    assert "2 input and 1 output" in fails(capsys, "adapt", out, tmp_path / "wide.npz", "--bank", bank)
    assert "2 input and 1 output" in fails(capsys, "evaluate", out, tmp_path / "wide.npz")
    np.savez(tmp_path / "coarse.npz", x=1e9 + x, y=y)
    assert "single precision" in fails(capsys, "adapt", out, tmp_path / "coarse.npz", "--bank", bank)
    dmcm.write_table(tmp_path / "grid.csv", {"x0": np.zeros(15), "x1": np.linspace(0, 1, 15)})
    use = ["predict", str(out), "--bank", str(bank), "--mix", "robot=a"]
    assert main([*use, "--inputs", str(tmp_path / "grid.csv")]) == 0
    assert "3 more rows" in capsys.readouterr().out
    assert "one input" in fails(capsys, *use, "--range", "x0=0:1:1")
    assert "one input" in fails(capsys, *use, "--inputs", tmp_path / "grid.csv", "--plot", tmp_path / "p.png")


def test_adapt_stores_what_the_learner_finds(table_run, plants, bank):
    learner = load_learner(table_run / "model.safetensors")
    entries = ContextBank(bank).entries()
    assert len(entries) == 2 * 12 + len(VARIETIES) + len(YEARS)
    use = {"task": "plot", "factors": ["variety", "year"], "inputs": ["day"], "outputs": ["weight_g"]}
    data = dmcm.FactorDataset.from_table(plants, **use)
    one = learner.adapt(*data.task("1989F1"))
    stored = ContextBank(bank).mix(learner, variety="1989F1", year="1989F1")
    for name in learner.factors:
        np.testing.assert_allclose(stored[name], one[name], rtol=1e-4, atol=1e-5)
    carriers = data.where(variety="P")
    pooled = learner.adapt_pooled([carriers.task(i) for i in range(len(carriers))], shared="variety")
    kept = ContextBank(bank).load("variety", "P", learner)
    np.testing.assert_allclose(kept["variety"], pooled["variety"], rtol=1e-4, atol=1e-5)
    (entry,) = (own for own in entries if (own.factor, own.name) == ("variety", "P"))
    assert entry.samples == 36
    assert "6 of 6 tasks" in entry.source


def test_adapt_moves_only_what_it_is_told(table_run, plants, bank, tmp_path):
    """One situation without labels and task column, with the year held at an entry of the bank."""
    table = pl.read_csv(plants).filter(pl.col("plot") == "1988P0").select("day", "weight_g")
    table.write_csv(tmp_path / "new.csv")
    new = ["adapt", str(table_run), str(tmp_path / "new.csv"), "--bank", str(bank), "--name", "new"]
    assert main([*new, "--only", "variety", "--given", "year=1988"]) == 0
    learner = load_learner(table_run / "model.safetensors")
    given = ContextBank(bank).load("year", "1988", learner)
    expected = learner.adapt(
        table["day"].to_numpy()[:, None], table["weight_g"].to_numpy()[:, None], given=given
    )
    stored = ContextBank(bank).load("variety", "new", learner)
    np.testing.assert_allclose(stored["variety"], expected["variety"], rtol=1e-4, atol=1e-5)
    assert not (bank / "year" / "new.safetensors").exists()


def test_adapt_finds_tasks_without_labels(table_run, plants, tmp_path, capsys):
    """A table with the task column alone has one situation per task."""
    table = pl.read_csv(plants).filter(pl.col("year") == 1988).select("plot", "day", "weight_g")
    table.write_csv(tmp_path / "new.csv")
    one = ["adapt", str(table_run), str(tmp_path / "new.csv"), "--bank", str(tmp_path / "bank")]
    assert main([*one, "--task", "1988P1"]) == 0
    assert main(one) == 2  # 1988P1 is there already
    assert "Nothing was saved" in capsys.readouterr().err
    assert len(ContextBank(tmp_path / "bank").entries()) == 2
    assert main([*one, "--overwrite"]) == 0
    assert len(ContextBank(tmp_path / "bank").entries()) == 8


def test_adapt_errors(table_run, plants, bank, tmp_path, capsys):
    use = ("adapt", table_run, plants, "--bank", bank)
    assert "Did you mean 'variety'?" in fails(capsys, *use, "--only", "varety")
    assert "there is no task 'nobody'" in fails(capsys, *use, "--task", "nobody")
    assert "label of 'variety'" in fails(capsys, *use, "--where", "variety=Q")
    assert "--where variety=P" in fails(capsys, *use, "--where", "variety")
    assert "label column" in fails(capsys, *use, "--where", "colour=red")
    assert "one entry" in fails(capsys, *use, "--name", "x")
    assert "cannot be combined" in fails(capsys, *use, "--pool", "variety", "--only", "variety")
    held = ("--only", "variety", "--given", "variety=P")
    assert "--only adapts variety and --given holds it" in fails(capsys, *use, *held)
    assert "--where is given twice" in fails(capsys, *use, "--where", "variety=P", "--where", "year=1989")
    (tmp_path / "plain.csv").write_text("day,weight_g\n1,2\n2,3\n")
    unnamed = fails(capsys, "adapt", table_run, tmp_path / "plain.csv", "--bank", bank)
    assert "--name NAME" in unnamed
    (tmp_path / "other.csv").write_text("day,height\n1,2\n2,3\n")
    missing = fails(capsys, "adapt", table_run, tmp_path / "other.csv", "--bank", bank, "--name", "x")
    assert "there is no column 'weight_g'" in missing
    assert "there is no file" in fails(capsys, "adapt", table_run, tmp_path / "no.csv", "--bank", bank)


def test_contexts_lists_good_and_damaged_entries(table_run, plants, tmp_path, capsys):
    folder = tmp_path / "bank"
    assert main(["adapt", str(table_run), str(plants), "--bank", str(folder), "--task", "1988F0"]) == 0
    (folder / "year" / "1988F0.safetensors").write_bytes(b"damaged")
    capsys.readouterr()
    assert main(["contexts", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "plants.csv, 1988F0" in said
    assert "year/1988F0 cannot be used" in said
    assert "there is no context bank" in fails(capsys, "contexts", tmp_path / "nowhere")


def test_predict_writes_what_the_learner_predicts(table_run, bank, tmp_path, capsys):
    mix = ["--mix", "variety=P", "year=1990"]
    use = ["predict", str(table_run), "--bank", str(bank), *mix]
    out, plot = tmp_path / "predicted.csv", tmp_path / "predicted.png"
    assert main([*use, "--range", "day=0:4:0.5", "--out", str(out), "--plot", str(plot)]) == 0
    table = pl.read_csv(out)
    assert table["day"].to_list() == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0]
    learner = load_learner(table_run / "model.safetensors")
    contexts = ContextBank(bank).mix(learner, variety="P", year="1990")
    expected = learner.predict(contexts, table["day"].to_numpy()[:, None])
    np.testing.assert_allclose(table["weight_g"].to_numpy()[:, None], expected, rtol=1e-6)
    assert plot.read_bytes().startswith(b"\x89PNG")
    again, drawn = tmp_path / "again.parquet", tmp_path / "again.svg"
    assert main([*use, "--inputs", str(out), "--out", str(again), "--plot", str(drawn)]) == 0
    assert pl.read_parquet(again).equals(table)
    assert drawn.read_text().startswith("<svg")


def test_predict_errors(table_run, bank, plants, tmp_path, capsys):
    use = ("predict", table_run, "--bank", bank, "--mix", "variety=P")
    both = (*use, "year=1990")
    assert "names no context of 'year'" in fails(capsys, *use, "--range", "day=0:1:1")
    assert "there is no entry '2001'" in fails(capsys, *use, "year=2001", "--range", "day=0:1:1")
    assert "--inputs TABLE" in fails(capsys, *both)
    assert "three numbers" in fails(capsys, *both, "--range", "day=0:1")
    assert "no points" in fails(capsys, *both, "--range", "day=1:0:1")
    assert "another unit" in fails(capsys, *both, "--range", "day=1e12:2e12:1e12")
    assert "Valid: .png, .svg" in fails(capsys, *both, "--range", "day=0:1:1", "--plot", "x.gif")
    assert "suffix of a table" in fails(capsys, *both, "--range", "day=0:1:1", "--out", tmp_path / "x.txt")
    (tmp_path / "grid.csv").write_text("time\n1\n")
    assert "column 'day'" in fails(capsys, *both, "--inputs", tmp_path / "grid.csv")
    there = tmp_path / "a-folder.csv"
    there.mkdir()
    assert "cannot write" in fails(capsys, *both, "--range", "day=0:1:1", "--out", there)


def test_contexts_of_another_model_are_refused(plants, bank, tmp_path, capsys):
    out = tmp_path / "other"
    assert main(["fit", str(plants), *FIT, *TINY, "--steps", "1", "--seed", "1", "--out", str(out)]) == 0
    said = fails(
        capsys, "predict", out, "--bank", bank, "--mix", "variety=P", "year=1990", "--range", "day=0:1:1"
    )
    assert "was made by model" in said


def test_evaluate_and_report_on_a_table_run(table_run, plants, tmp_path, capsys):
    metrics, page = (table_run / "metrics.json").read_text(), (table_run / "report.html").read_bytes()
    assert main(["evaluate", str(table_run)]) == 0
    assert (table_run / "metrics.json").read_text() == metrics
    assert main(["report", str(table_run)]) == 0
    assert (table_run / "report.html").read_bytes() == page
    lonely = pl.read_csv(plants).filter((pl.col("variety") == "F") | (pl.col("plot") == "1988P0"))
    lonely.write_csv(tmp_path / "lonely.csv")
    capsys.readouterr()
    assert main(["evaluate", str(table_run), str(tmp_path / "lonely.csv")]) == 0
    said = capsys.readouterr().out
    assert "1 tasks were not swapped" in said
    assert "tasks of lonely.csv, few-shot" in said
    assert "training tasks" not in said
    assert (table_run / "metrics.json").read_text() == metrics


def test_a_table_that_has_changed_is_not_taken_for_the_run_s_own(plants, tmp_path, capsys):
    own, out = tmp_path / "own.csv", tmp_path / "run"
    own.write_bytes(plants.read_bytes())
    assert main(["fit", str(own), *FIT, *TINY, "--steps", "1", "--out", str(out)]) == 0
    metrics = (out / "metrics.json").read_bytes()
    scaled = pl.read_csv(own).with_columns(pl.col("weight_g") * 10)
    scaled.write_csv(own)
    for command in ("evaluate", "report"):
        assert "has changed since this run was trained on it" in fails(capsys, command, out)
    assert (out / "metrics.json").read_bytes() == metrics
    assert main(["evaluate", str(out), str(own)]) == 0
    own.write_bytes(plants.read_bytes())
    assert main(["evaluate", str(out)]) == 0


def test_a_run_knows_its_table_again_wherever_it_is(plants, tmp_path, capsys):
    own, out, moved = tmp_path / "own.csv", tmp_path / "run", tmp_path / "moved.csv"
    own.write_bytes(plants.read_bytes())
    use = [*FIT, *TINY, "--hold-out", "year=1990", "--steps", "1", "--out"]
    assert main(["fit", str(own), *use, str(out)]) == 0
    # The label that was held out alone has no context to mix.
    page = (out / "report.html").read_text()
    assert "A label outside training" in page
    assert "It predicts them from contexts" not in page
    metrics = (out / "metrics.json").read_bytes()
    (out / "metrics.json").unlink()
    assert "dmcm evaluate" in fails(capsys, "report", out)
    own.rename(moved)
    for command in ("evaluate", "report"):
        assert "If it was moved" in fails(capsys, command, out)
    assert main(["evaluate", str(out), str(moved)]) == 0
    assert "training tasks, few-shot" in capsys.readouterr().out
    assert (out / "metrics.json").read_bytes() == metrics
    assert main(["report", str(out)]) == 0
    assert (out / "report.html").read_text().count("A label outside training") == 1
    moved.rename(own)
    assert main(["fit", str(own), *use, str(out), "--resume"]) == 0
    assert json.loads((out / "config.json").read_text())["table"] == str(own.resolve())
    assert "Give a table with them" in fails(capsys, "evaluate", out, tmp_path / "other.npz")


def test_inputs_are_shown_with_as_many_digits_as_tell_them_apart(table_run, bank, capsys):
    use = ["predict", str(table_run), "--bank", str(bank), "--mix", "variety=P", "year=1990", "--range"]
    for text, shown in (("day=2:2.01:0.005", "2.005"), ("day=1990.1:1990.3:0.1", "1990.2")):
        capsys.readouterr()
        assert main([*use, text]) == 0
        assert shown in capsys.readouterr().out


def test_predictions_are_shown_whole_and_told_apart(monkeypatch, tmp_path, capsys):
    """As many columns as fit, and digits enough to see that two values differ."""
    monkeypatch.setenv("COLUMNS", "200")
    y = np.tile([[1.0, 2.0]], (3, 20)) + np.arange(3)[:, None] * 1e-6
    factors, outputs = dmcm.Factors(variety=1), tuple(f"channel_{j}" for j in range(40))
    network = dmcm.TensorProductNetwork(factors, 1, 40, key=jax.random.key(0), width=4, depth=1)
    learner = dmcm.Learner(network, dmcm.LevenbergMarquardt(), factors)
    opened = Run(RunFolder(tmp_path), {}, learner, ("day",), outputs, None)
    bank = types.SimpleNamespace(mix=lambda learner, **pairs: None)
    monkeypatch.setattr(dmcm.Learner, "predict", lambda self, contexts, x: y)
    monkeypatch.setattr("dmcm.cli.predict.load_run", lambda path: opened)
    monkeypatch.setattr("dmcm.cli.predict.ContextBank", lambda path: bank)
    assert main(["predict", "run", "--bank", "bank", "--mix", "variety=P", "--range", "day=0:2:1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    heading, *rows = [line.split() for line in lines if line.strip() and "─" not in line][:4]
    assert rows[1] == ["1", *["1.000001", "2.000001"] * 10][: len(heading)]
    assert f"… and {41 - len(heading)} more columns; --out FILE.csv keeps them" in lines
    assert max(map(len, lines)) <= 120


def test_tasks_are_counted_by_what_they_are_for(plants, tmp_path, capsys):
    some = ["--hold-out", "variety=P", "year=1990", "--validation-fraction", "0.3", "--steps", "1"]
    assert main(["fit", str(plants), *FIT, *TINY, *some, "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert said.count("1 trained on, 1 choose the model") == 3
    assert len(json.loads((tmp_path / "run" / "metrics.json").read_text())["few_shot"]["tasks"]) == 7


def test_a_run_that_came_to_nothing_is_begun_anew(plants, tmp_path, capsys):
    out = tmp_path / "run"
    use = ("fit", plants, *FIT, *TINY, "--steps", "40", "--out", out)
    assert "learning rate" in fails(capsys, *use, "--learning-rate", "1e30").lower()
    assert (out / "config.json").exists()
    assert main([str(word) for word in use]) == 0
    assert "already holds a run" in fails(capsys, *use)


def test_files_of_something_else_are_not_replaced(plants, tmp_path, capsys):
    out = tmp_path / "run"
    out.mkdir()
    (out / "report.html").write_text("mine")
    use = ("fit", plants, *FIT, *TINY, "--steps", "1", "--out", out)
    for more in ((), ("--resume",)):
        assert "holds files that a run would replace (report.html)" in fails(capsys, *use, *more)
    assert [path.name for path in out.iterdir()] == ["report.html"]
    (out / "report.html").rename(out / "environment.json")
    assert "(environment.json)" in fails(capsys, *use)


@pytest.mark.parametrize("config", ['{"name": "my web app"}', "[1]", "// mine", '{"kind": "table"}'])
def test_a_config_of_something_else_is_not_taken_for_a_run_s(plants, tmp_path, capsys, config):
    out = tmp_path / "project"
    out.mkdir()
    mine = {"config.json": config, "training.json": "mine", "metrics.jsonl": "mine", "metrics.json": "mine"}
    for name, text in mine.items():
        (out / name).write_text(text)
    use = ("fit", plants, *FIT, *TINY, "--steps", "1", "--out", out)
    for more in ((), ("--resume",)):
        assert "holds files that a run would replace" in fails(capsys, *use, *more)
    assert {path.name: path.read_text() for path in out.iterdir()} == mine


def test_fit_errors(plants, tmp_path, capsys):
    out = tmp_path / "run"
    use = ("fit", plants, "--task", "plot", "--inputs", "day", "--outputs", "weight_g", "--out", out)
    good = (*use, "--factors", "variety=2", "year=2")
    assert "--factors variety=2 year=2" in fails(capsys, *use, "--factors", "variety")
    assert "whole number" in fails(capsys, *use, "--factors", "variety=two")
    assert "twice" in fails(capsys, *use, "--factors", "variety=2", "variety=3")
    assert "Did you mean 'variety'?" in fails(capsys, *use, "--factors", "varity=2")
    assert "--inputs day" in fails(capsys, "fit", plants, "--factors", "variety=2", "--out", out)
    assert "there is no file" in fails(capsys, "fit", tmp_path / "no.csv", *good[2:])
    assert "there is no network 'tensor'" in fails(capsys, *good, "--network", "tensor")
    assert "there is no solver 'newton'" in fails(capsys, *good, "--solver", "newton")
    assert "learning_rate=-1.0" in fails(capsys, *good, "--learning-rate", "-1")
    assert "--validation-fraction" in fails(capsys, *good, "--patience", "3")
    assert "is no task" in fails(capsys, *good, "--validation-fraction", "0.01")
    assert "leaves none to learn from" in fails(capsys, *good, "--validation-fraction", "0.99")
    assert "--steps is given twice" in fails(capsys, *good, "--steps", "2", "--steps=3")
    assert "label of 'year'" in fails(capsys, *good, "--hold-out", "year=2020")
    assert "only one label" in fails(capsys, *good, "--hold-out", "variety=P")
    assert "Lower `shots`" in fails(capsys, *good, "--shots", "6")
    assert "seed=-1" in fails(capsys, *good, "--seed", "-1")
    assert "width=0" in fails(capsys, *good, "--width", "0")
    assert not out.exists()
    (tmp_path / "bad.csv").write_text("plot,variety,year,day,weight_g\na,F,1,1,x\n")
    assert "not a finite number" in fails(capsys, "fit", tmp_path / "bad.csv", *good[2:])
    pl.read_csv(plants).with_columns(weight_g=pl.lit(7.0)).write_csv(tmp_path / "flat.csv")
    assert "output weight_g never varies" in fails(capsys, "fit", tmp_path / "flat.csv", *good[2:])
    pl.read_csv(plants).with_columns(variety=pl.lit("N/A")).write_csv(tmp_path / "gone.csv")
    assert "the label is missing" in fails(capsys, "fit", tmp_path / "gone.csv", *good[2:])
    (tmp_path / "file").write_text("")
    assert "cannot make the run folder" in fails(capsys, *good[:-4], tmp_path / "file" / "run", *good[-3:])


# --- the sinusoid commands ------------------------------------------------------------------------


def test_demo_tells_measures_and_reports(demo_run, capsys):
    for folder in (demo_run, demo_run / "control"):
        metrics = json.loads((folder / "metrics.json").read_text())
        assert set(metrics["protocol"]["zero_shot"]) == set(protocol.SPLITS)
    page = check_page(demo_run / "report.html")
    assert "no data from here" not in page  # text of the picture, which is encoded
    assert "The model saw no point of it" in page
    assert "single context" in page
    assert "on a slope of 24%" in check_page(demo_run / "go1" / "report.html")
    names = {path.name for path in (demo_run / "plots").iterdir()}
    assert "two-situations-mixed-into-a-third.svg" in names
    assert "no data from here" in (demo_run / "plots" / "two-situations-mixed-into-a-third.svg").read_text()


def test_demo_shows_a_finished_run_again(demo_run, capsys):
    model, page = demo_run / "model.safetensors", demo_run / "report.html"
    before = (load_learner(model).fingerprint(), page.read_bytes())
    page.unlink()
    assert main(["demo", "--steps", "2", "--out", str(demo_run)]) == 0
    said = capsys.readouterr().out
    assert "read from the finished run" in said
    assert "predicts a sinusoid it has no data from" in said
    (mixed,) = (line for line in said.splitlines() if line.strip().startswith("both, mixed"))
    assert len(re.findall(r"\d\S*", mixed)) == 5
    assert "Adapting to 3 s of data took" in said
    assert said.strip().endswith(f"report: {page}\nGo1 report: {demo_run / 'go1' / 'report.html'}")
    assert (load_learner(model).fingerprint(), page.read_bytes()) == before


def test_demo_without_the_extra_says_how_to_get_it(demo_run, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("dmcm.quadruped")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "mujoco.batch", None)
    assert main(["demo", "--steps", "2", "--out", str(demo_run)]) == 0
    said = capsys.readouterr().out
    assert "pip install 'dmcm[quadruped]'" in said
    assert said.strip().endswith(f"report: {demo_run / 'report.html'}")
    assert "Go1 report" not in said


def test_demo_leaves_other_runs_alone(demo_run, table_run, tmp_path):
    same = DemoConfig(demo_run, steps=2)
    assert choose_folder(same) == demo_run
    other = DemoConfig(demo_run, steps=3)
    assert choose_folder(other) == demo_run.with_name("demo-2")
    assert choose_folder(DemoConfig(table_run)) == table_run.with_name("plants-2")
    (tmp_path / "notes").mkdir()
    assert choose_folder(DemoConfig(tmp_path / "notes")) == tmp_path / "notes"
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    assert choose_folder(DemoConfig(tmp_path / "notes")) == tmp_path / "notes-2"
    (tmp_path / "file").write_text("mine")
    assert choose_folder(DemoConfig(tmp_path / "file")) == tmp_path / "file-2"


def test_demo_model_adapts_and_mixes_from_tables(demo_run, tmp_path, capsys):
    x = np.linspace(-4, 4, 10)
    for name, amplitude, phase in (("A", 4.0, 0.0), ("B", 1.0, 2.0)):
        dmcm.write_table(tmp_path / f"{name}.csv", {"x": x, "y": amplitude * np.sin(x - phase)})
        use = ["adapt", str(demo_run), str(tmp_path / f"{name}.csv"), "--bank", str(tmp_path / "bank")]
        assert main([*use, "--name", name]) == 0
    mix = ["--mix", "amplitude=A", "phase=B", "--range", "x=-1:1:1"]
    assert main(["predict", str(demo_run), "--bank", str(tmp_path / "bank"), *mix]) == 0
    assert "needs no table" in fails(capsys, "evaluate", demo_run, tmp_path / "A.csv")


def test_sinusoid_train_evaluates_and_reports_a_control(tmp_path, capsys):
    out = tmp_path / "none"
    assert main(["sinusoid", "train", "--method", "none", "--steps", "3", "--out", str(out)]) == 0
    first = (out / "metrics.json").read_text()
    check_page(out / "report.html")
    assert main(["evaluate", str(out)]) == 0
    assert json.loads((out / "metrics.json").read_text())["protocol"] == json.loads(first)["protocol"]
    assert main(["report", str(out)]) == 0
    assert "--resume" in fails(capsys, "sinusoid", "train", "--method", "none", "--steps", "3", "--out", out)


def test_studies_print_their_tables(tmp_path, monkeypatch, capsys):
    cells = {"mean": 0.25, "ci95": 0.05, "median": 0.2}
    measured = {
        measure: dict.fromkeys(("seen", "unseen_pair"), cells) for measure in ("few_shot", "zero_shot")
    }
    tables = {
        "sinusoid_compare.compare": {"methods": {"dmcm": {"title": "A method", "seeds": 2, **measured}}},
        "sinusoid_sizes.context_size_study": {"sizes": {"3": measured}},
        "sinusoid_support.run_support": {"methods": {"dmcm": {"spread": {"50%": measured}}}},
        "pendulum_compare.run_pendulum": {"methods": {"dmcm": {"title": "A method", **measured}}},
    }
    for target, table in tables.items():
        module, function = target.split(".")
        command = module.split("_")
        monkeypatch.setattr(f"dmcm.cli.{module}.{function}", lambda config, table=table: table)
        assert main([*command, "--seeds", "2", "--results", "r.json"]) == 0
        said = capsys.readouterr().out
        assert "0.25 ± 0.050" in said
        assert "unseen pair" in said
        assert "r.json" in said


def test_tuning_prints_the_scores_and_the_best(monkeypatch, capsys):
    scores = {"plain 0.001": 0.5, "robust 0.006": 0.25}
    table = {"methods": {"maml": {"scores": scores, "best": "robust 0.006"}}}
    monkeypatch.setattr("dmcm.cli.sinusoid_tune.tune", lambda config: table)
    assert main(["sinusoid", "tune", "--methods", "maml", "--results", "r.json"]) == 0
    said = capsys.readouterr().out
    assert all(text in said for text in ("maml", "0.50", "0.25", "robust 0.006", "r.json"))


def test_unknown_methods_list_the_known_ones(tmp_path, capsys):
    said = fails(capsys, "sinusoid", "train", "--method", "dmmc", "--out", tmp_path / "run")
    assert "Did you mean 'dmcm'?" in said
    assert not (tmp_path / "run").exists()
    assert "there is no method" in fails(capsys, "sinusoid", "compare", "--methods", "magic")


# --- what all commands share ----------------------------------------------------------------------


@pytest.mark.parametrize("name", app.COMMANDS)
def test_every_command_teaches_with_examples(name, capsys):
    assert main([*name.split(), "--help"]) == 0
    said = capsys.readouterr().out
    assert f"usage: dmcm {name}" in said
    assert f"\n  dmcm {name}" in said.partition("examples:")[2]
    assert re.search(r"--[a-z]|positional", said.partition("examples:")[2])


def test_help_and_version(capsys):
    assert main(["--help"]) == 0
    said = capsys.readouterr().out
    assert "usage: dmcm" in said
    assert all(name in said for name in app.COMMANDS)
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"dmcm {dmcm.__version__}"
    assert main([]) == 2
    assert "usage: dmcm" in capsys.readouterr().err
    assert main(["sinusoid", "--help"]) == 0
    assert "sinusoid train" in capsys.readouterr().out


def test_wrong_command_lines(capsys):
    assert "Did you mean 'demo'?" in fails(capsys, "dmo")
    assert "Did you mean 'train'?" in fails(capsys, "sinusoid", "trian")
    assert "before any command" in fails(capsys, "--steps", "demo")
    assert "--steps" in fails(capsys, "demo", "--stps", "3")
    assert "many" in fails(capsys, "demo", "--steps", "many")
    assert fails(capsys, "report")


def test_missing_and_broken_runs(table_run, tmp_path, capsys):
    for command in ("report", "evaluate"):
        assert "no such folder" in fails(capsys, command, tmp_path / "nowhere")
    assert "no config.json" in fails(capsys, "report", tmp_path)
    broken = tmp_path / "broken"
    broken.mkdir()
    config = table_run / "config.json"
    (broken / "config.json").write_text(config.read_text())
    assert "no trained model" in fails(capsys, "report", broken)
    whole = (table_run / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "damaged" in fails(capsys, "evaluate", broken)
    (broken / "model.safetensors").write_bytes(whole)
    assert "metrics.json" in fails(capsys, "report", broken)
    (broken / "metrics.json").write_text("{}")
    assert "lack 'few_shot'" in fails(capsys, "report", broken)
    about = json.loads(config.read_text())
    for text, wanted in (
        ("{", "not readable JSON"),
        ("[]", "what kind of run"),
        ('{"kind": "quilt"}', "there is no kind of run 'quilt'"),
        ('{"kind": "table"}', "is not that of a table run"),
        ('{"kind": "sinusoid"}', "there is no method 'None'"),
        ('{"kind": "sinusoid", "method": "dmcm"}', "no whole number of steps"),
        (json.dumps({**about, "table": str(tmp_path / "gone.csv")}), "gone.csv"),
    ):
        (broken / "config.json").write_text(text)
        assert wanted in fails(capsys, "evaluate", broken)


def test_interrupts_and_system_errors_end_in_a_line(monkeypatch, capsys, tmp_path):
    def raising(error):
        def run(config):
            raise error

        return run

    for error, code, words in (
        (KeyboardInterrupt(), 130, "stopped:"),
        (training.InterruptedRun("step 3 is saved."), 130, "step 3 is saved"),
        (OSError(28, "No space left on device", "x.json"), 2, "x.json: No space left on device"),
        (MemoryError(), 2, "out of memory"),
        (ConfigError("with [bold]brackets[/bold]"), 2, "error: with [bold]brackets[/bold]"),
    ):
        monkeypatch.setattr("dmcm.cli.contexts.run", raising(error))
        assert words in fails(capsys, "contexts", tmp_path, code=code)


def test_the_module_runs_and_help_is_light():
    code = "import sys, dmcm.cli; dmcm.cli.main(['--help']); print('jax' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.stdout.strip().endswith("False")
    done = subprocess.run(
        [sys.executable, "-m", "dmcm", "no-such"], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")


def test_help_into_a_pipe_that_closes_is_no_error():
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "dmcm", "--help"],
        env=environment,
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("everything", [False, True])
def test_a_command_whose_output_is_closed_says_that_it_stopped(everything):
    """Its exit code, too, must tell that it did not come to its end."""
    code = (
        "import sys, dmcm.cli.contexts as command; from dmcm.cli import main; "
        "command.run = lambda config: print('x', flush=True); sys.exit(main(['contexts', 'bank']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=writer,
        stderr=writer if everything else subprocess.PIPE,
        text=True,
    )
    os.close(writer)
    assert done.returncode == app.CLOSED
    if not everything:
        assert done.stderr == (
            "stopped: the output was closed. If a training had begun, --resume continues it.\n"
        )


def test_streams_that_were_closed_before_the_start_are_no_error(monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    assert main(["--help"]) == 0
    assert main(["no-such"]) == 2
    for stream in (sys.stdout, sys.stderr):
        stream.close()


def test_public_names_are_where_the_package_says():
    tree = ast.parse(Path(dmcm.__file__).read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {(f"dmcm.{home}", name) for home, names in dmcm._HOMES.items() for name in names}
    imported = {(node.module, alias.name) for node in checked.body for alias in node.names}
    assert imported == typed
    assert sorted(name for _, name in typed) == sorted(dmcm.__all__)
    assert all(getattr(dmcm, name) is not None for name in dmcm.__all__)
    assert set(dmcm.__all__) <= set(dir(dmcm))
    with pytest.raises(AttributeError):
        _ = dmcm.no_such_name


# --- arguments ------------------------------------------------------------------------------------


def test_pairs_and_sizes():
    assert parse_pairs(["a=b=c", "x y=1"], "--mix", "a=b") == {"a": "b=c", "x y": "1"}
    assert parse_sizes(["robot=4"], "--factors") == {"robot": 4}
    for text in ("a", "=b", "a=", ""):
        with pytest.raises(ConfigError, match="name=value"):
            parse_pairs([text], "--mix", "a=b")
    for text in ("a=0", "a=-1", "a=1.5", "a=²"):
        with pytest.raises(ConfigError, match="whole number"):
            parse_sizes([text], "--factors")


def test_ranges():
    assert parse_range("x=0:1:0.1", ["x"])[:, 0] == pytest.approx(np.arange(11) / 10)
    assert parse_range("x=3:1:-1", ["x"])[:, 0].tolist() == [3, 2, 1]
    assert parse_range("x=0:1:0.4", ["x"])[:, 0] == pytest.approx([0, 0.4, 0.8])
    assert parse_range("x=2:2:1", ["x"]).tolist() == [[2.0]]
    for text in ("x=0:1", "y=0:1:1", "x=a:1:1", "x=0:1:0", "x=0:nan:1", "x=0:1e9:1e-3", ""):
        with pytest.raises(ConfigError, match="--range"):
            parse_range(text, ["x"])


def test_adapt_saves_all_entries_or_none(table_run, plants, tmp_path, capsys):
    rows = "".join(f"{plot},{day},{day}\n" for plot in ("p1", "P1", "q") for day in range(4))
    bank = tmp_path / "bank"
    for old, new, says in (("q,", "q,", "lower case"), ("P1,", "bad/name,", "cannot name an entry")):
        (tmp_path / "new.csv").write_text("plot,day,weight_g\n" + rows.replace(old, new))
        said = fails(capsys, "adapt", table_run, tmp_path / "new.csv", "--bank", bank)
        assert says in said
        assert "othing was" in said
        assert not bank.exists()
    whole = ("adapt", table_run, plants, "--bank", bank)
    held = ("--given", "variety=1988F0", "year=1988F0")
    assert main([str(word) for word in whole]) == 0
    assert "nothing to adapt" in fails(capsys, *whole, *held)
    assert "cannot hold it" in fails(capsys, *whole, "--pool", "variety", "--given", "variety=1988F0")


def test_a_single_sample_is_a_situation_too(table_run, tmp_path):
    (tmp_path / "new.csv").write_text("plot,day,weight_g\none,1,2\nother,1,2\nother,1.000001,2\n")
    bank = tmp_path / "bank"
    assert main(["adapt", str(table_run), str(tmp_path / "new.csv"), "--bank", str(bank)]) == 0
    learner = load_learner(table_run / "model.safetensors")
    stored = ContextBank(bank).mix(learner, variety="one", year="one")
    expected = learner.adapt(np.array([[1.0]]), np.array([[2.0]]))
    for name in learner.factors:
        np.testing.assert_allclose(stored[name], expected[name], rtol=1e-4, atol=1e-5)
    assert {entry.samples for entry in ContextBank(bank).entries()} == {1, 2}


def test_tasks_without_names_are_kept_by_their_labels(plants, tmp_path):
    out, bank = tmp_path / "run", tmp_path / "bank"
    bare = [word for word in FIT if word not in ("--task", "plot")]
    assert main(["fit", str(plants), *bare, *TINY, "--steps", "2", "--out", str(out)]) == 0
    assert main(["adapt", str(out), str(plants), "--bank", str(bank)]) == 0
    names = {entry.name for entry in ContextBank(bank).entries()}
    assert names == {f"variety={variety}, year={year}" for variety in VARIETIES for year in YEARS}


def test_fit_errors_are_told_for_the_smallest_units(tmp_path):
    days = np.linspace(0, 3, 8)
    with (tmp_path / "small.csv").open("w") as handle:
        handle.write("plot,variety,year,day,weight_g\n")
        for variety in VARIETIES:
            for year in YEARS[:2]:
                for day in days:
                    handle.write(
                        f"{variety}{year},{variety},{year},{day},{1e-23 * growth(variety, year, day)}\n"
                    )
    run, bank = tmp_path / "run", tmp_path / "bank"
    assert main(["fit", str(tmp_path / "small.csv"), *FIT, *TINY, "--steps", "2", "--out", str(run)]) == 0
    shown = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dmcm.cli.adapt.show_table", lambda table, *_: shown.append(table))
        assert main(["adapt", str(run), str(tmp_path / "small.csv"), "--bank", str(bank)]) == 0
    assert all(1e-26 < row[-1] < 1e-21 for row in shown[0].rows)


def test_predict_replaces_predictions_alone(table_run, bank, plants, tmp_path, capsys):
    mix = ("predict", table_run, "--bank", bank, "--mix", "variety=P", "year=1990")
    for table in ("mine.csv", "grid.csv"):
        (tmp_path / table).write_bytes(plants.read_bytes() if table == "mine.csv" else b"day\n1\n2\n")
    before = (tmp_path / "mine.csv").read_bytes()
    said = fails(capsys, *mix, "--range", "day=0:2:1", "--out", tmp_path / "mine.csv")
    assert "already exists, with columns plot, variety" in said
    assert (tmp_path / "mine.csv").read_bytes() == before
    said = fails(capsys, *mix, "--inputs", tmp_path / "grid.csv", "--out", tmp_path / "grid.csv")
    assert "would replace the inputs" in said
    out, plot = tmp_path / "out.csv", tmp_path / "plot.svg"
    use = (*mix, "--inputs", tmp_path / "grid.csv", "--out", out, "--plot", plot)
    assert main([str(word) for word in use]) == 0
    first = out.read_bytes()
    assert "--overwrite" in fails(capsys, *use)
    for option, path in (("--out", out), ("--plot", plot)):
        path.write_text("day,weight_g\nmine,mine\n")
        assert "--overwrite" in fails(capsys, *mix, "--inputs", tmp_path / "grid.csv", option, path)
        assert "mine" in path.read_text()
    # Predictions of before are replaced when asked, through a link too.
    link = tmp_path / "link.csv"
    link.symlink_to(out)
    assert main([str(word) for word in (*use[:-3], link, *use[-2:], "--overwrite")]) == 0
    assert link.is_symlink()
    assert out.read_bytes() == first


def test_npz_files_name_no_columns(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x=np.zeros((4, 6, 1)), y=np.zeros((4, 6, 1)), label_robot=list("abab"))
    use = ("fit", tmp_path / "a.npz", "--factors", "robot=2", "--out", tmp_path / "run")
    for more in (("--inputs", "u"), ("--outputs", "v"), ("--task", "w")):
        assert "NPZ file, which has no column names" in fails(capsys, *use, *more)
    run = TableConfig(tmp_path / "a.npz", {"robot": 2})
    with pytest.raises(ConfigError, match="Give an NPZ file"):
        run.read(tmp_path / "b.csv")


def test_what_nobody_expected_ends_in_a_line_too(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("dmcm.cli.contexts.ContextBank", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main(["contexts", str(tmp_path)])
    monkeypatch.delenv(app.TRACEBACK)
    said = fails(capsys, "contexts", tmp_path)
    assert "ZeroDivisionError" in said
    assert "DMCM_TRACEBACK=1" in said


def test_a_terminal_without_every_letter_is_enough():
    done = subprocess.run(
        [sys.executable, "-m", "dmcm", "--help"],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert b"usage: dmcm COMMAND ?" in done.stdout
