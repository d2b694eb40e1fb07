"""Arguments of a wrong type, as a user may give them, without the type checks of the other tests."""

import subprocess
import sys

from tests.helpers import ROOT

SCRIPT = """
import numpy as np
import jax
import dmcm
from dmcm.errors import DmcmError
from tests.helpers import learner, sine, sines

model, data, (x, y) = learner(), sines(), sine(1, 0)
contexts = model.prior_contexts()
bank = dmcm.ContextBank("nowhere")
save = {"source": "run", "samples": 3}
labels = {"place": ["a", "b"]}
one = dmcm.Factors(amplitude=2)
alone = dmcm.Learner(dmcm.ConcatNetwork(one, 1, 1, key=jax.random.key(0)), dmcm.LevenbergMarquardt(), one)
two = np.linspace(0, 1, 12).reshape(2, 6, 1)
CASES = [
    lambda: dmcm.FitConfig(steps="5").check(),
    lambda: dmcm.FitConfig(learning_rate=None).check(),
    lambda: dmcm.FitConfig(clip=[1.0]).check(),
    lambda: dmcm.fit("learner", data),
    lambda: dmcm.fit(model, data, {"steps": 4}),
    lambda: dmcm.fit(model, "data"),
    lambda: model.adapt(x, y, only=5),
    lambda: model.adapt(x, y, given=5),
    lambda: model.adapt(x, y, given={"amplitude": 10**400}),
    lambda: model.adapt([[10**400]], [[1.0]]),
    lambda: model.adapt("x", y),
    lambda: model.adapt(None, y),
    lambda: model.adapt_pooled([(x, y)], shared=5),
    lambda: model.adapt_pooled([5], shared="amplitude"),
    lambda: model.adapt_pooled([None, (x, y)], shared="amplitude"),
    lambda: model.predict("contexts", x),
    lambda: bank.save("c", contexts, model, source="run", samples=2.5),
    lambda: bank.save("c", contexts, model, source="run", samples="x"),
    lambda: bank.save("c", contexts, model, source="run", samples=None),
    lambda: bank.save("c", contexts, model, source="run", samples=float("nan")),
    lambda: bank.save("c", contexts, model, source=None, samples=3),
    lambda: bank.save(5, contexts, model, **save),
    lambda: bank.save("c", {"amplitude": [1.0]}, model, **save),
    lambda: dmcm.FactorDataset.from_arrays(two, two, ["a", "b"]),
    lambda: dmcm.FactorDataset.from_arrays(two, two, labels, shots="3"),
    lambda: dmcm.FactorDataset.from_arrays(two, two, labels, task_names=5),
    lambda: dmcm.FitConfig(steps=True).check(),
    lambda: dmcm.fit(alone, data, dmcm.FitConfig(steps=1, dependence=1.0)),
    lambda: dmcm.ContextFilter(model, noise=0.1, samples="5"),
    lambda: dmcm.ContextFilter(model, noise=0.1, samples=True),
    lambda: dmcm.ContextFilter(model, noise=0.1, samples=5).update(None, x[0], y[0]),
    lambda: dmcm.ContextFilter(model, noise="loud", samples=5),
    lambda: dmcm.ContextFilter(model, noise=0.1, samples=5, forgetting="much"),
    lambda: dmcm.Prior(model.factors, precision="1"),
    lambda: dmcm.GradientDescent(model.factors, rate="fast"),
    lambda: data.subset(3),
    lambda: data.task(1.0),
]
for number, case in enumerate(CASES):
    try:
        print(number, "accepted", case())
    except DmcmError as error:
        assert len(str(error)) > 20, (number, error)
    except Exception as error:
        print(number, type(error).__name__, error)
print("done")
"""


def test_wrong_types_end_in_errors_of_ours():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split("\n") == ["done", ""], done.stdout + done.stderr
