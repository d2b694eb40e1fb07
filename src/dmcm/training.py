"""fit: the compiled outer loop, with progress, checkpoints, resume and early stop."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dmcm.checkpoints import load_checkpoint, save_checkpoint
from dmcm.data import FactorDataset
from dmcm.errors import (
    CheckpointError,
    ConfigError,
    DivergenceError,
    InterruptedRun,
)
from dmcm.fit_config import FitConfig
from dmcm.learner import Learner
from dmcm.models import describe, save_learner
from dmcm.objective import outer_loss
from dmcm.optimiser import outer_optimiser
from dmcm.runs import RunFolder, ctrl_c_waits, environment
from dmcm.samplers import Sampler
from dmcm.samples import Batch
from dmcm.storage import digest, sole_writer, write_json
from dmcm.training_data import check_fits, check_same_columns


@dataclasses.dataclass(frozen=True)
class FitResult:
    """What `fit` returns.

    Attributes:
        learner: the trained learner; the best on validation data, if there were any.
        history: metrics of each chunk.
        steps: outer steps done.
        seconds: wall time of the training, including compilation; for a resumed run, also that of earlier
            calls up to the checkpoint.
    """

    learner: Learner
    history: list[dict[str, float | int]]
    steps: int
    seconds: float


class _State(eqx.Module):
    """Everything a checkpoint must hold."""

    trained: Any
    optimiser: Any
    best: Any
    best_loss: Float[Array, ""]
    waited: Array


def fit(
    learner: Learner,
    data: FactorDataset | Sampler,
    config: FitConfig | None = None,
    *,
    validation: FactorDataset | Sampler | None = None,
    run_dir: Path | str | None = None,
    resume: bool = False,
    progress: bool = True,
) -> FitResult:
    """Train a learner's weights, prior and step sizes by the outer loop.

    With equal arguments on the same machine, the result is bit-for-bit the same, even if the run was killed
    and resumed. A learner without a scaler gets one measured on `data`.

    Args:
        learner: the learner to start from.
        data: a dataset, or anything with `sample(key) -> Batch` and `scaler()`.
        config: settings; default `FitConfig()`.
        validation: data for early stopping and for choosing the best parameters.
        run_dir: folder for metrics, events, checkpoints and the trained model; by default nothing is written.
        resume: continue from the newest checkpoint in `run_dir`, or start if there is none.
        progress: show a progress bar with rate and time left.

    Raises:
        ConfigError: settings out of range, or early stopping without validation data.
        ShapeError: data that do not fit the learner, or validation data with other columns.
        DataError: data that cannot be learned from.
        CheckpointError: `run_dir` holds a run and `resume` is off, or a checkpoint with other settings.
        DivergenceError: most steps of a chunk had no finite gradient, or no validation loss was finite.
        InterruptedRun: Ctrl-C; the state reached is saved.
        StorageError: the disk is full (older checkpoints stay intact), or another process is writing to
            `run_dir`.
    """
    config = FitConfig() if config is None else config
    if not isinstance(config, FitConfig) or not isinstance(learner, Learner):
        raise ConfigError(
            f"fit takes a Learner, data and a FitConfig, not {type(learner).__name__} and "
            f"{type(config).__name__}."
        )
    config.check()
    if config.patience and validation is None:
        raise ConfigError("patience needs validation data to stop on: pass `validation`, or set patience=0.")
    if resume and run_dir is None:
        raise ConfigError("resume needs the run_dir to resume from.")
    sampler = data.sampler() if isinstance(data, FactorDataset) else data
    checker = validation.sampler(one_label=True) if isinstance(validation, FactorDataset) else validation
    for used in (sampler, checker) if checker is not None else (sampler,):
        check_fits(learner, used, config)
    if isinstance(data, FactorDataset) and isinstance(validation, FactorDataset):
        check_same_columns(data, validation)
    if learner.scaler is None:
        # Built anew, which checks the scaler's columns.
        learner = Learner(
            learner.network, learner.solver, learner.factors, prior=learner.prior, scaler=sampler.scaler()
        )
    if run_dir is None:
        return _train(learner, sampler, checker, config, None, resume=False, progress=progress)
    folder = RunFolder(run_dir)
    with sole_writer(folder.path):
        return _train(learner, sampler, checker, config, folder, resume=resume, progress=progress)


def _train(
    learner: Learner,
    sampler: Sampler,
    checker: Sampler | None,
    config: FitConfig,
    folder: RunFolder | None,
    *,
    resume: bool,
    progress: bool,
) -> FitResult:
    """The outer loop of `fit`."""
    began = time.monotonic()
    optimiser = outer_optimiser(config)
    trained, static = eqx.partition(learner, eqx.is_inexact_array)
    state = _State(trained, optimiser.init(trained), trained, jnp.asarray(jnp.inf), jnp.asarray(0))
    # With weakly typed leaves, the first chunk would be compiled twice.
    state = jax.tree.map(lambda leaf: jnp.asarray(leaf, leaf.dtype), state)
    done, mark = 0, _mark(learner, config, sampler, checker)
    earlier_s = 0.0
    if folder is not None:
        state, done, earlier_s = _open_run(folder, state, mark, resume)
        about = {"settings": dataclasses.asdict(config), "learner": describe(learner)}
        write_json(folder.path / "training.json", {**about, "environment": environment()})
    history = folder.history() if folder is not None else []
    run_chunk = _compile_chunk(static, optimiser, config)
    validate = _compile_validation(static, config)
    # Passed as an argument to the compiled chunk, so that all seeds share one program.
    base = jax.random.key(config.seed)
    saved_at, saved_step = time.monotonic(), done

    def save(step: int) -> None:
        nonlocal saved_at, saved_step
        if folder is not None and step != saved_step:
            spent = earlier_s + time.monotonic() - began
            save_checkpoint(folder.checkpoints, step, state, {"mark": mark, "seconds": spent})
            saved_at, saved_step = time.monotonic(), step

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[loss]}"),
    )
    with Progress(*columns, disable=not progress) as bar:
        task = bar.add_task("training", total=config.steps, completed=done, rate="compiling", loss="")
        try:
            while done < config.steps and not (config.patience and int(state.waited) >= config.patience):
                chunk_began = time.monotonic()
                steps = min(config.chunk, config.steps - done)
                new_state, parts = run_chunk(state, sampler, base, jnp.asarray(done), steps)
                metrics = {name: float(value) for name, value in parts.items()}
                if metrics["skipped"] > 0.5:
                    save(done)
                    raise DivergenceError(
                        f"between steps {done} and {done + steps} {metrics['skipped']:.0%} of the gradients "
                        "were not finite. Lower the learning rate, use the safeguarded LevenbergMarquardt "
                        "solver, or raise the prior's floor."
                    )
                if checker is not None:
                    new_state, loss = validate(new_state, checker)
                    metrics["validation"] = float(loss)
                # If stopped in between, the chunk would be saved but its metrics lost.
                with ctrl_c_waits():
                    state, done = new_state, done + steps
                    history.append({"step": done, **metrics})
                    if folder is not None:
                        folder.log(done, metrics)
                rate = steps / max(time.monotonic() - chunk_began, 1e-9)
                shown = " ".join(
                    f"{k} {metrics[k]:.2e}" for k in ("own", "recombined", "validation") if k in metrics
                )
                bar.update(task, completed=done, rate=f"{rate:,.0f} steps/s", loss=shown)
                if time.monotonic() - saved_at >= config.checkpoint_seconds:
                    save(done)
            save(done)
        except KeyboardInterrupt:
            save(done)
            if folder is None:
                where = "Nothing was kept: no run_dir."
            elif done:
                where = f"Step {done} is saved; continue with resume=True (--resume)."
            else:
                where = "No step was done; start again with resume=True (--resume)."
            raise InterruptedRun(f"stopped by the user. {where}") from None
        finally:
            if folder is not None:
                folder.close()
    if checker is not None and not jnp.isfinite(state.best_loss):
        raise DivergenceError(
            "the validation loss was never a finite number, so there is no best model to return. Check the "
            "validation data, or use the safeguarded LevenbergMarquardt solver."
        )
    final = eqx.combine(state.best if checker is not None else state.trained, static)
    if folder is not None:
        save_learner(folder.model, final)
    return FitResult(final, history, done, earlier_s + time.monotonic() - began)


def _compile_chunk(static: Any, optimiser: optax.GradientTransformation, config: FitConfig):
    """Many outer steps in one scan.

    Keys follow from the base key and the step's number, so a resumed run draws the same batches.
    """

    def loss(trained: Any, batch: Batch, key: PRNGKeyArray):
        return outer_loss(
            eqx.combine(trained, static),
            batch,
            key,
            recombination=config.recombination,
            dependence=config.dependence,
            omission=config.omission,
            outlier_scale=config.outlier_scale,
        )

    def step(carry: tuple[Any, Any], inputs: tuple[PRNGKeyArray, Sampler]):
        trained, moments = carry
        batch_key, donor_key = jax.random.split(inputs[0])
        batch = inputs[1].sample(batch_key)
        (value, parts), slopes = jax.value_and_grad(loss, has_aux=True)(trained, batch, donor_key)
        size = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(slopes)))
        finite = jnp.isfinite(value) & jnp.isfinite(size)
        updates, moved_moments = optimiser.update(slopes, moments, trained)
        moved = optax.apply_updates(trained, updates)
        # A batch without finite gradients changes nothing: one bad draw must not ruin the run.
        keep = lambda new, old: jnp.where(finite, new, old)  # noqa: E731
        carry = jax.tree.map(keep, (moved, moved_moments), carry)
        parts = {name: jnp.where(finite, part, 0.0) for name, part in parts.items()}
        return carry, {**parts, "gradient": jnp.where(finite, size, 0.0), "skipped": 1.0 - finite}

    @eqx.filter_jit
    def chunk(state: _State, sampler: Sampler, base: PRNGKeyArray, first: Array, steps: int):
        keys = jax.vmap(lambda i: jax.random.fold_in(base, i))(first + jnp.arange(steps))
        (trained, moments), parts = jax.lax.scan(
            lambda carry, key: step(carry, (key, sampler)), (state.trained, state.optimiser), keys
        )
        counted = jnp.maximum(steps - jnp.sum(parts["skipped"]), 1)
        means = {name: jnp.sum(part) / counted for name, part in parts.items() if name != "skipped"}
        means["skipped"] = jnp.mean(parts["skipped"])
        return _State(trained, moments, state.best, state.best_loss, state.waited), means

    return chunk


def _compile_validation(static: Any, config: FitConfig):
    """Loss on a fixed draw of validation batches; remembers the best parameters."""

    @eqx.filter_jit
    def validate(state: _State, checker: Sampler):
        def one(key: PRNGKeyArray) -> Float[Array, ""]:
            batch_key, donor_key = jax.random.split(key)
            _, parts = outer_loss(
                eqx.combine(state.trained, static),
                checker.sample(batch_key),
                donor_key,
                recombination=config.recombination,
                dependence=0.0,
                omission=config.omission,
            )
            return (
                parts["own"] + config.recombination * parts["recombined"] + config.omission * parts["omitted"]
            )

        loss = jnp.mean(jax.lax.map(one, jax.random.split(jax.random.key(2**31 + 1), 8)))
        better = loss < state.best_loss
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), state.trained, state.best)
        waited = jnp.where(better, 0, state.waited + 1)
        best_loss = jnp.where(better, loss, state.best_loss)
        return _State(state.trained, state.optimiser, best, best_loss, waited), loss

    return validate


def _mark(learner: Learner, config: FitConfig, sampler: Sampler, checker: Sampler | None) -> str:
    """Identifies runs that may resume each other: same start, data and settings except when to save."""
    settings = dataclasses.asdict(config)
    del settings["checkpoint_seconds"]
    data = [None if part is None else _content(part) for part in (sampler, checker)]
    text = json.dumps([settings, describe(learner), learner.fingerprint(), data], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(value: Any, within: tuple[int, ...] = ()) -> Any:
    """Everything a sampler holds, at any depth, as JSON values; functions and the like only by their kind."""
    if value is None or isinstance(value, (bool, int, float, str, np.generic)):
        return repr(value)
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    if isinstance(value, (jax.Array, np.ndarray)):
        return digest({"": np.asarray(value)})
    if id(value) in within:
        return "…"
    within = (*within, id(value))
    if isinstance(value, Mapping):
        return {str(key): _content(item, within) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_content(item, within) for item in value]
    inner = vars(value) if hasattr(value, "__dict__") and not isinstance(value, type) else {}
    if dataclasses.is_dataclass(value):  # cached attributes may or may not exist
        inner = {field.name: getattr(value, field.name, None) for field in dataclasses.fields(value)}
    return [type(value).__name__, {name: _content(item, within) for name, item in inner.items()}]


def _open_run(folder: RunFolder, state: _State, mark: str, resume: bool) -> tuple[_State, int, float]:
    """State to start from (fresh or from the newest checkpoint), its step and the seconds it took."""
    there = [] if resume else folder.traces()
    if folder.checkpoints.name in there:
        raise CheckpointError(
            f"{folder.path} already holds a run. Continue with resume=True (--resume), or choose another "
            "folder."
        )
    if there:
        raise CheckpointError(
            f"{folder.path} holds files that a run would replace ({', '.join(there)}). Choose another "
            "folder, or continue with resume=True (--resume) if they belong to this run."
        )

    def check(about: Mapping[str, Any]) -> None:
        if about.get("mark") != mark:
            raise CheckpointError(
                f"the checkpoint in {folder.path} was made with other settings, another starting point or "
                "other data. Resume with those in its training.json, or choose another folder."
            )

    found = load_checkpoint(folder.checkpoints, state, check) if resume else None
    if found is None:
        if folder.model.exists():
            raise CheckpointError(
                f"{folder.path} holds a trained model but no checkpoint to continue from; training would "
                "replace the model. Choose another folder, or move the model away."
            )
        folder.rewind(0)
        return state, 0, 0.0
    stored, about = found
    folder.rewind(about["step"])
    return stored, about["step"], about.get("seconds", 0.0)
