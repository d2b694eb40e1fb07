"""Use an installed DMCM as a new user would: adapt to two situations, mix, predict a third; fit a table."""

import contextlib
import importlib.util
import io
import pathlib
import tempfile

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


def run(command: str) -> None:
    """A command of `dmcm`, silent unless it fails."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(said):
        code = main(command.split())
    if code:
        raise SystemExit(f"dmcm {command}: exit code {code}.\n{said.getvalue()}")


with tempfile.TemporaryDirectory() as folder:
    names = ("table.csv", "run", "bank", "mixed.csv")
    table, run_dir, bank, mixed = (pathlib.Path(folder, name) for name in names)
    rows = [
        f"{plot},{soil},{seed},{day},{(1 + plot % 3) * day + plot // 3}"
        for plot, (soil, seed) in enumerate((s, v) for s in "abc" for v in "pqr")
        for day in range(8)
    ]
    table.write_text("\n".join(["plot,soil,variety,day,grams", *rows]))
    run(
        f"fit {table} --task plot --factors soil=1 variety=1 --inputs day --outputs grams"
        f" --hold-out soil=a variety=p --steps 20 --out {run_dir}"
    )
    run(f"adapt {run_dir} {table} --where soil=a variety=q --bank {bank} --name one")
    run(f"adapt {run_dir} {table} --where soil=b variety=p --bank {bank} --name two")
    run(f"predict {run_dir} --bank {bank} --mix soil=one variety=two --range day=0:7:1 --out {mixed}")
    if len(mixed.read_text().splitlines()) != 9:
        raise SystemExit(f"dmcm predict wrote:\n{mixed.read_text()}")
    if not (run_dir / "report.html").read_text().startswith("<!"):
        raise SystemExit("dmcm fit wrote no report.")
print("dmcm fit, adapt, predict: a table learned, two vectors mixed, a pair that was held out predicted.")

if importlib.util.find_spec("mujoco") is None:
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main(["quadruped", "collect"])
    if code != 2 or "dmcm[quadruped]" not in said.getvalue().replace("\n", ""):
        raise SystemExit(f"without mujoco, `dmcm quadruped` must say what to install: {said.getvalue()!r}.")
