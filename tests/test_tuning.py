"""Tuning: which settings are tried, how they are judged, and that test tasks are not used."""

import dataclasses
import json
import math

import pytest

from dmcm.errors import ConfigError, StorageError
from dmcm.fit_config import OPTIMISERS
from dmcm.sinusoid import protocol, tuning
from dmcm.sinusoid.methods import METHODS
from dmcm.sinusoid.tuning import TuningConfig, score, settings, tune


def measured(few_seen, few_pair, zero_seen, zero_pair):
    means = {
        "few_shot": {"seen": few_seen, "unseen_pair": few_pair, "range": 7.0},
        "zero_shot": {"seen": zero_seen, "unseen_pair": zero_pair, "range": 7.0},
    }
    return {kind: {s: {"mean": mean} for s, mean in splits.items()} for kind, splits in means.items()}


def test_score_is_the_geometric_mean_of_four_errors():
    assert score(measured(1e-4, 1e-2, 1.0, 100.0)) == pytest.approx(1e-1)
    assert score(measured(1.0, 1.0, 1.0, None)) == math.inf
    assert score(measured(0.0, 1.0, 1.0, 1.0)) == pytest.approx(1e-3)


def test_every_method_meets_every_setting():
    for method in (METHODS["dmcm"], METHODS["none"]):
        found = dict(settings(method))
        assert len(found) == len(OPTIMISERS) * len(tuning.LEARNING_RATES) * len(tuning.LOSSES)
        assert {(m.optimiser, m.learning_rate, m.outlier_scale, m.clip) for m in found.values()} == {
            (optimiser, rate, values["outlier_scale"], values["clip"])
            for optimiser in OPTIMISERS
            for rate in tuning.LEARNING_RATES
            for values in tuning.LOSSES.values()
        }
        assert all((m.network, m.solver, m.factors) == tuple(_structure(method)) for m in found.values())


def _structure(method):
    return method.network, method.solver, method.factors


def test_best_setting_is_found_on_validation_tasks_alone(monkeypatch, tmp_path):
    names = [name for name, _ in settings(METHODS["none"])]
    answers = iter([*[1.0] * 8, *[4.0] * 2, *[1.0] * 22])  # two seeds a setting; the fifth is worst

    def evaluate(learner, *, seed):
        assert seed == protocol.VALIDATION_SEED != protocol.TEST_SEED
        return measured(*[next(answers)] * 4)

    monkeypatch.setattr(protocol, "evaluate", evaluate)
    file = tmp_path / "table.json"
    config = TuningConfig(methods=("none",), seeds=2, steps=2, out=tmp_path / "runs", results=file)
    found = tune(config, progress=False)["methods"]["none"]
    assert found["scores"] == pytest.approx({name: 4.0 if i == 4 else 1.0 for i, name in enumerate(names)})
    assert found["best"] == names[0]
    assert json.loads(file.read_text())["methods"]["none"] == found
    # The method of before stays, with what made it; a table of other settings is not replaced.
    trained = {"measures": measured(1.0, 1.0, 1.0, 1.0)}
    monkeypatch.setattr(tuning, "run_cell", lambda *_, **__: trained)
    more = tune(dataclasses.replace(config, methods=("oracle",)), progress=False)
    assert more["methods"]["none"] == found
    assert set(more["earlier"]) == {"none"}
    with pytest.raises(StorageError, match="seeds: 2, not 1"):
        tune(dataclasses.replace(config, methods=("oracle",), seeds=1), progress=False)
    assert set(json.loads(file.read_text())["methods"]) == {"none", "oracle"}


def test_settings_out_of_range():
    for wrong in ({"seeds": 0}, {"steps": 0}, {"methods": ("dmmc",)}):
        with pytest.raises(ConfigError):
            TuningConfig(**wrong).names()
