"""A trained dynamics model in use: a base network for any robot, corrected by vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import equinox as eqx
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float

from dmcm.contexts import Contexts
from dmcm.errors import FactorError, ShapeError, StorageError
from dmcm.learner import Learner
from dmcm.models import load_learner
from dmcm.quadruped.data.windows import OUTPUTS, STATE_SIZE, WindowConfig, inputs_at
from dmcm.quadruped.dynamics.cells import ROBOT, TERRAIN
from dmcm.samples import as_samples
from dmcm.storage import read_json

_MODELS = Path(__file__).parent / "models"
BASE_MODEL = _MODELS / "go1-base.safetensors"
"""The base network that comes with the package."""
MODEL = _MODELS / "go1-dynamics.safetensors"
"""The learner that explains that network's errors, with a vector for the robot and one for the terrain."""
BASE_OF = "base"
"""Where `cell.json` of a comparison has the fingerprint of the base network that a learner corrects."""


class DynamicsModel(eqx.Module):
    """A base network that knows neither robot nor terrain, and a learner of what it gets wrong.

    Inputs and outputs are samples as `windows.cut` makes them, in raw units.

    Attributes:
        base: the base network.
        learner: corrects it; its prior mean of a factor stands for "unknown".
        windows: how recordings are cut into samples.
    """

    base: Learner
    learner: Learner
    windows: WindowConfig = eqx.field(static=True)

    def __init__(self, base: Learner, learner: Learner, windows: WindowConfig):
        """Put the parts together.

        Raises:
            ConfigError: windows out of range.
            ShapeError: numbers of input or output columns that do not fit the windows.
        """
        wanted = (_inputs(windows.check()), sum(OUTPUTS.values()))
        for name, part in (("base network", base), ("model", learner)):
            if (part.inputs, part.outputs) != wanted:
                raise ShapeError(
                    f"the {name} has {part.inputs} input and {part.outputs} output columns; windows of "
                    f"history={windows.history} have {wanted[0]} and {wanted[1]}. Give the WindowConfig that "
                    "it was trained with, or train it again with this version."
                )
        self.base, self.learner, self.windows = base, learner, windows

    def adapt(
        self,
        x: ArrayLike,
        y: ArrayLike,
        *,
        only: Iterable[str] | None = None,
        given: Contexts | Mapping[str, ArrayLike] | None = None,
    ) -> Contexts:
        """Vectors from samples of one robot on one terrain.

        Args:
            x: inputs, shape (n, inputs).
            y: outputs, shape (n, outputs).
            only: as in `Learner.adapt`.
            given: as in `Learner.adapt`.

        Raises:
            DmcmError: as `Learner.adapt`.
        """
        samples = as_samples(x, y, self.learner.inputs, self.learner.outputs)
        wrong = samples.y - self.base.predict(self.base.prior_contexts(), samples.x)
        return self.learner.adapt(samples.x, wrong, only=only, given=given)

    def predict(self, contexts: Contexts | None, x: ArrayLike) -> Float[Array, "n outputs"]:
        """Outputs for inputs.

        Args:
            contexts: a vector for each of the learner's factors; None is the base network alone.
            x: inputs, shape (n, inputs).

        Raises:
            DmcmError: as `Learner.predict`.
        """
        predicted = self.base.predict(self.base.prior_contexts(), x)
        return predicted if contexts is None else predicted + self.learner.predict(contexts, x)


def load_dynamics_model(*, base_path: Path | None = None, path: Path | None = None) -> DynamicsModel:
    """Read a model with the default windows, a vector for the robot and one for the terrain.

    Args:
        base_path: file of the base network; `BASE_MODEL` unless given.
        path: file of the learner of its errors; `MODEL` unless given.

    Raises:
        StorageError: a file is missing, damaged, or does not hold a learner.
        FactorError: the learner's factors are not robot and terrain.
        ShapeError: as `DynamicsModel`.
    """
    base, learner = load_learner(base_path or BASE_MODEL), load_learner(path or MODEL)
    if set(learner.factors) != {ROBOT, TERRAIN}:
        raise FactorError(
            f"the model has the factors {', '.join(learner.factors)}; {ROBOT} and {TERRAIN} are needed. "
            "Take the run dmcm/seed-… of `dmcm quadruped dynamics`."
        )
    return DynamicsModel(base, learner, WindowConfig())


def trained_model(folder: Path, method: str, seed: int) -> DynamicsModel:
    """A model of a comparison, with the default windows.

    Args:
        folder: of `dmcm quadruped dynamics`.
        method: name of the learner.
        seed: for the learner and its base network.

    Raises:
        StorageError: a model that is missing or damaged, or one that corrects another base network.
        ShapeError: as `DynamicsModel`.
    """
    base, learner = (load_learner(_trained(folder, name, seed)) for name in ("base", method))
    beside = folder / method / f"seed-{seed}" / "cell.json"
    told = read_json(beside) if beside.exists() else {}
    corrects = told.get(BASE_OF) if isinstance(told, dict) else None
    if corrects not in (None, base.fingerprint()):
        raise StorageError(
            f"{folder}: {method} of seed {seed} was trained to correct another base network than the one in "
            "this folder. Put its own back, or train both again in another folder."
        )
    return DynamicsModel(base, learner, WindowConfig())


def _trained(folder: Path, method: str, seed: int) -> Path:
    path = folder / method / f"seed-{seed}" / "model.safetensors"
    if not path.exists():
        raise StorageError(
            f"there is no model {path}. Train it: dmcm quadruped dynamics --seeds {seed + 1} --out {folder}"
        )
    return path


def _inputs(windows: WindowConfig) -> int:
    """Number of input columns."""
    past = np.zeros((windows.history, STATE_SIZE))
    return inputs_at(past, past[:, :12], np.zeros(3), np.zeros(1)).shape[-1]
