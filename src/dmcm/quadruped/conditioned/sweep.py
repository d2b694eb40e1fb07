"""Methods × seeds of policies, one after the other on this machine or spread over a Ray cluster."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from dmcm.checks import chosen_names
from dmcm.errors import CheckpointError, ConfigError
from dmcm.quadruped.conditioned.methods import METHODS
from dmcm.quadruped.conditioned.training import PolicyTraining, train_policy, vectors_model
from dmcm.quadruped.data.collection import Collection, read_collection
from dmcm.quadruped.data.distributed import over_ray
from dmcm.quadruped.walking.policy import POLICY_FILE, load_policy
from dmcm.run_config import other_settings
from dmcm.storage import digest, tree_arrays

_SETTINGS = ("method", "seed", "iterations", "robots", "phase", "noise", "ppo")
"""Settings that a finished policy must share with the requested one, and beside them data, robot, start and
model."""


@dataclasses.dataclass(frozen=True)
class PolicySweep:
    """Which policies to train."""

    methods: tuple[str, ...] = ("all",)
    """What policies are given: vanilla, single, dmcm, history, oracle, dmcm_ground, vanilla_gait,
    single_gait, single_fixed, dmcm_gait, oracle_gait, single_told, ground_told, dmcm_told, oracle_told; `all`
    for every one. Some use the actor of another, as dmcm uses that of vanilla, so that one is trained too."""
    seeds: int = 3
    """Number of seeds (0, 1, …) of policies; each uses the dynamics models of its own seed."""
    training: PolicyTraining = dataclasses.field(default_factory=PolicyTraining)
    """How each is trained; the sweep sets its method and seed."""
    out: Path = Path("runs/quadruped-policies")
    """Folder with a run folder per method and seed. Finished runs are not repeated, interrupted ones are
    continued."""
    ray: str | None = None
    """Address of a Ray cluster to use, `auto` for the one this machine belongs to; its machines must see
    `out`, the data and the models under the same paths."""

    def check(self) -> PolicySweep:
        """Return self, or raise `ConfigError` for settings out of range."""
        self.names()
        if self.seeds < 1:
            raise ConfigError(f"seeds={self.seeds} must be at least 1.")
        self.training.check()
        return self

    def names(self) -> tuple[str, ...]:
        """Methods to train, or `ConfigError` for an unknown one or none."""
        return chosen_names("method", self.methods, METHODS)


def run_sweep(config: PolicySweep, *, progress: bool = True) -> list[Path]:
    """Train what is missing; returns the files of all policies.

    Raises:
        ConfigError: settings out of range.
        CheckpointError: a finished policy has other settings, data, robot, start or model.
        DmcmError: as `train_policy`, or a cluster that does not answer.
    """
    config = config.check()
    names = config.names()
    actors = (METHODS[name].actor for name in names)
    names = tuple(dict.fromkeys((*(actor for actor in actors if actor), *names)))
    seeds = range(config.seeds)
    learned = [(name, seed) for seed in seeds for name in names if METHODS[name].actor is None]
    matched = [(name, seed) for seed in seeds for name in names if METHODS[name].actor]
    jobs = [(_training(config, *one), _folder(config, *one)) for one in (*learned, *matched)]
    data = (
        read_collection(config.training.data)
        if any((out / POLICY_FILE).exists() for _, out in jobs)
        else None
    )
    # Methods that match targets need the trained actors of others.
    for some in (jobs[: len(learned)], jobs[len(learned) :]):
        missing = [job for job in some if data is None or not _is_finished(*job, data)]
        if config.ray is None:
            for training, out in missing:
                train_policy(training, out, resume=out.exists(), progress=progress)
        else:
            for _ in over_ray(_train, missing, config.ray):
                pass
    return [out / POLICY_FILE for _, out in jobs]


def _is_finished(training: PolicyTraining, out: Path, data: Collection) -> bool:
    """Whether the policy is finished; one that takes the actor of `start` is not if anything differs.

    Raises:
        CheckpointError: a policy that was trained with other settings, data, robot, start or model.
    """
    path = out / POLICY_FILE
    if not path.exists():
        return False
    held = load_policy(path)[1].get("training", {})
    start, about = load_policy(training.start)
    # A policy of an earlier version says less of where it comes from.
    made_from = {name: held[name] for name in ("digests", "told") if name in held}
    here = {
        "digests": {
            "data": data.digest,
            "robot": data.table().digest,
            "start": digest(tree_arrays(start)),
        },
        "told": {**held.get("told", {}), "model": vectors_model(training)},
    }
    other = other_settings(made_from, {name: here[name] for name in made_from})
    told = METHODS[training.method]
    asked = json.loads(json.dumps(dataclasses.asdict(training), default=str))
    if told.actor is None or told.gait is not None:
        other += other_settings(*({name: one.get(name) for name in _SETTINGS} for one in (held, asked)))
    if told.actor is not None:
        return held.get("actor") == about.get("training", {}) and not other
    if other:
        raise CheckpointError(
            f"{path} was trained with other settings: {'; '.join(other)}. Use those (data, start and models "
            "too), or choose another folder with --out."
        )
    return True


def _folder(config: PolicySweep, method: str, seed: int) -> Path:
    return config.out / method / f"seed-{seed}"


def _training(config: PolicySweep, method: str, seed: int) -> PolicyTraining:
    """How one policy is trained, or with which actor it is assembled."""
    training = dataclasses.replace(config.training, method=method, seed=seed)
    if (actor := METHODS[method].actor) is not None:
        return dataclasses.replace(training, start=_folder(config, actor, seed) / POLICY_FILE)
    return training


def _train(training: PolicyTraining, out: Path) -> None:
    train_policy(dataclasses.replace(training, threads=1), out, resume=out.exists(), progress=False)
