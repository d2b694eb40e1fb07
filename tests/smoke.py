"""Use an installed DMCM as a stranger would: adapt to two situations, mix, predict a third."""

import contextlib
import importlib.util
import io

import jax
import jax.numpy as jnp

import dmcm
from dmcm.cli import main

factors = dmcm.Factors(amplitude=2, phase=2)
network = dmcm.TensorProductNetwork(factors, inputs=1, outputs=1, width=16, depth=2, key=jax.random.key(0))
learner = dmcm.Learner(network, dmcm.LevenbergMarquardt(steps=6), factors)
x = jnp.linspace(-3.0, 3.0, 10)[:, None]
a = learner.adapt(x, jnp.sin(x))
b = learner.adapt(x, 2.0 * jnp.sin(x - 1.0))
prediction = learner.predict(dmcm.share(amplitude=a, phase=b), x)

if prediction.shape != (10, 1) or not jnp.isfinite(prediction).all():
    raise SystemExit(f"predict gave shape {prediction.shape}, values {prediction}.")
print(f"dmcm from {dmcm.__path__[0]}: adapted, mixed, predicted.")

if importlib.util.find_spec("mujoco") is None:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(["quadruped", "collect"])
    if code != 2 or "dmcm[quadruped]" not in said.getvalue().replace("\n", ""):
        raise SystemExit(f"without mujoco, `dmcm quadruped` must say what to install: {said.getvalue()!r}.")
