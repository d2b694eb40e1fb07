"""Runs on a labelled table: settings, which tasks are held out, training."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from dmcm.contexts import Factors
from dmcm.data import FactorDataset
from dmcm.errors import ConfigError, DataError, StorageError, unknown_name
from dmcm.fit_config import FitConfig
from dmcm.learner import Learner
from dmcm.models import build_network, build_solver
from dmcm.run_config import claim_run
from dmcm.runs import RunFolder
from dmcm.storage import digest, sole_writer
from dmcm.training import FitResult, fit

NETWORKS = ("tensor_product", "film", "concat")
SOLVERS = ("levenberg_marquardt", "gradient_descent", "set_encoder")
"""Inner loops that a table can be learned with."""
KIND = "table"
"""Value of "kind" in the `config.json` of these runs."""


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """What to learn from which columns, and how."""

    table: Path
    """Table with one sample a row, or an NPZ file (see `FactorDataset.from_npz`)."""
    factors: Mapping[str, int]
    """Label columns and their context sizes."""
    inputs: tuple[str, ...] = ()
    """Input columns; not for NPZ files."""
    outputs: tuple[str, ...] = ()
    """Output columns; not for NPZ files."""
    task: str | None = None
    """Column that names the task of a row; None makes one task of each combination of labels."""
    hold_out: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Labels whose tasks are kept out of training and predicted with swapped contexts."""
    shots: int | None = None
    """Support samples a task."""
    network: str = "tensor_product"
    """Kind of network."""
    solver: str = "levenberg_marquardt"
    """Kind of inner loop."""
    width: int = 64
    """Units of each hidden layer."""
    depth: int = 2
    """Hidden layers."""
    validation_fraction: float = 0.0
    """Share of the training tasks that are used only to choose the best parameters."""
    fit: FitConfig = dataclasses.field(default_factory=FitConfig)
    """Settings of the outer loop."""

    def about(self) -> dict[str, Any]:
        """The content of `config.json`."""
        values = dataclasses.asdict(self) | {"kind": KIND, "table": str(self.table.resolve())}
        return json.loads(json.dumps(values, default=str))

    @classmethod
    def from_about(cls, about: Mapping[str, Any]) -> TableConfig:
        """Rebuild a configuration from what `about` returned.

        Raises:
            ConfigError: it is incomplete, or of another kind of run.
        """
        try:
            values = {field.name: about[field.name] for field in dataclasses.fields(cls)}
            for name in ("inputs", "outputs"):
                values[name] = tuple(values[name])
            return cls(**values | {"table": Path(values["table"]), "fit": FitConfig(**values["fit"])})
        except (KeyError, TypeError) as error:
            raise ConfigError(
                f"the run's config.json is not that of a table run: {error} is missing or wrong."
            ) from error

    def read(self, table: Path | None = None) -> FactorDataset:
        """The tasks of the run's table, or of another one with the same columns.

        Raises:
            ConfigError: no input or output column was named, or columns were named for an NPZ file; a table
                for a run on an NPZ file, or the reverse.
            DmcmError: as for `FactorDataset.from_table` and `FactorDataset.from_npz`.
        """
        path = self.table if table is None else table
        if path.suffix.lower() == ".npz":
            if table is not None and self.inputs:
                raise ConfigError(
                    f"{path.name} is an NPZ file, which names no columns, but this run was trained on a "
                    f"table with columns {', '.join((*self.inputs, *self.outputs))}. Give a table with them."
                )
            if self.inputs or self.outputs or self.task is not None:
                raise ConfigError(
                    f"{path.name} is an NPZ file, which has no column names: leave out --inputs, --outputs "
                    "and --task."
                )
            data = FactorDataset.from_npz(path, shots=self.shots)
            missing = [name for name in self.factors if name not in data.factor_names]
            if missing:
                labelled = ", ".join(data.factor_names)
                raise DataError(f"{path.name} has no array label_{missing[0]}; it has labels of {labelled}.")
            return dataclasses.replace(
                data,
                labels={name: data.labels[name] for name in self.factors},
                levels={name: data.levels[name] for name in self.factors},
            )
        if table is not None and not self.inputs:
            raise ConfigError(
                f"{path.name} is a table, but this run was trained on an NPZ file, which names no columns. "
                "Give an NPZ file."
            )
        if not self.inputs or not self.outputs:
            raise ConfigError("name the columns: --inputs day --outputs weight_g (one or more each).")
        return FactorDataset.from_table(
            path,
            task=self.task,
            factors=tuple(self.factors),
            inputs=self.inputs,
            outputs=self.outputs,
            shots=self.shots,
        )


@dataclasses.dataclass(frozen=True)
class TableSplit:
    """The tasks of a run by their use.

    Attributes:
        train: tasks to learn from.
        validation: tasks for choosing the best parameters, or None.
        held_out: tasks kept out of both, or None.
    """

    train: FactorDataset
    validation: FactorDataset | None
    held_out: FactorDataset | None


def data_digest(data: FactorDataset) -> str:
    """Hash of samples, labels and names."""
    leaves = jax.tree.leaves(data.query)
    arrays = {"x": data.x, "y": data.y, "weight": data.weight}
    arrays |= {f"label {name}": codes for name, codes in data.labels.items()}
    arrays |= {f"query {i}": np.asarray(leaf) for i, leaf in enumerate(leaves)}
    names = [data.task_names, data.input_names, data.output_names, data.levels]
    return digest(arrays, json.dumps(names, default=str))


def read_own(config: TableConfig, about: Mapping[str, Any]) -> FactorDataset:
    """The tasks of a run's own table, as they were when it was trained.

    Args:
        config: configuration of the run.
        about: content of its `config.json`.

    Raises:
        StorageError: the table is not where it was.
        DataError: the table has changed since.
        DmcmError: as for `TableConfig.read`.
    """
    if not config.table.exists():
        raise StorageError(
            f"there is no file {config.table}, which this run was trained on. If it was moved, say where it "
            f"is now with `dmcm evaluate RUN FOLDER/{config.table.name}`; the run then knows it again."
        )
    data = config.read()
    if about.get("data") not in (None, data_digest(data)):
        raise DataError(
            f"{config.table} has changed since this run was trained on it, so the figures would not be those "
            f"of this run. Restore the table or train again; `dmcm evaluate RUN {config.table.name}` "
            "measures the run on the changed table as on any other."
        )
    return data


def split_tasks(config: TableConfig, data: FactorDataset) -> TableSplit:
    """Set the held-out combination and the validation tasks aside, the same ones each time.

    Raises:
        DataError: an unknown label, or nothing left to learn from.
        ConfigError: training settings out of range, or a fraction outside [0, 1) or too small for one task.
    """
    config.fit.check()
    if not 0 <= config.validation_fraction < 1:
        raise ConfigError(f"validation_fraction={config.validation_fraction} must be at least 0 and below 1.")
    held_out = data.where(**config.hold_out) if config.hold_out else None
    train = data.without(**config.hold_out) if config.hold_out else data
    if config.validation_fraction == 0:
        return TableSplit(train, None, held_out)
    count = round(config.validation_fraction * len(train))
    if count == len(train):
        raise ConfigError(
            f"validation_fraction={config.validation_fraction} of {len(train)} tasks leaves none to learn "
            "from."
        )
    if count == 0:
        raise ConfigError(
            f"validation_fraction={config.validation_fraction} of {len(train)} tasks is no task; use at "
            f"least {1 / len(train):.2g} for one task."
        )
    # Taken from the combinations with the most tasks left, so that each keeps one in training if possible.
    rng = np.random.default_rng(config.fit.seed)
    turn = np.zeros(len(train), int)
    seen: dict[tuple[int, ...], int] = {}
    order = rng.permutation(len(train))
    for i in order:
        labels = tuple(int(codes[i]) for codes in train.labels.values())
        turn[i] = seen[labels] = seen.get(labels, -1) + 1
    last = order[np.argsort(-turn[order], kind="stable")][:count]
    chosen = np.isin(np.arange(len(train)), last)
    return TableSplit(
        train.subset(np.flatnonzero(~chosen).tolist()),
        train.subset(np.flatnonzero(chosen).tolist()),
        held_out,
    )


def train_table(
    config: TableConfig,
    data: FactorDataset,
    split: TableSplit,
    out: Path,
    *,
    resume: bool = False,
) -> FitResult:
    """Train on a table in a run folder.

    Args:
        config: what to learn, and how.
        data: all tasks of the table; the run recognises the table by their hash.
        split: the same tasks by their use.
        out: the run folder.
        resume: continue from the newest checkpoint there.

    Raises:
        ConfigError: settings out of range or unknown kinds.
        CheckpointError: the folder holds another run.
        DmcmError: as for `fit`.
    """
    if config.network not in NETWORKS:
        raise ConfigError(unknown_name("network", config.network, NETWORKS))
    if config.solver not in SOLVERS:
        raise ConfigError(unknown_name("solver", config.solver, SOLVERS))
    factors = Factors(**config.factors)
    network_key, solver_key = jax.random.split(jax.random.key(config.fit.seed))
    sizes: dict[str, Any] = {"factors": factors, "inputs": split.train.inputs, "outputs": split.train.outputs}
    network = build_network(config.network, key=network_key, width=config.width, depth=config.depth, **sizes)
    learner = Learner(network, build_solver(config.solver, key=solver_key, **sizes), factors)
    if config.fit.patience and split.validation is None:
        raise ConfigError("patience needs validation tasks to stop on: add e.g. --validation-fraction 0.2.")
    # Data that cannot be learned from are refused before the folder is claimed.
    flat = np.concatenate([split.train.task(i)[1] for i in range(len(split.train))])
    if constant := [n for n, s in zip(split.train.output_names, np.ptp(flat, axis=0), strict=True) if s == 0]:
        raise DataError(
            f"output {constant[0]} never varies in training, so there is nothing to learn: leave it out."
        )
    split.train.sampler()
    if split.validation is not None:
        try:
            split.validation.sampler()
        except DataError as error:
            raise DataError(
                f"among the validation tasks, {error} Use a larger --validation-fraction."
            ) from error
    folder = RunFolder(out)
    with sole_writer(folder.path):
        claim_run(folder, {**config.about(), "data": data_digest(data)}, resume=resume)
    return fit(
        learner,
        split.train,
        config.fit,
        validation=split.validation,
        run_dir=out,
        resume=resume,
    )
