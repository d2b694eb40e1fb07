"""Distributed work on a Ray cluster: collecting shards, training policies."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dmcm.errors import ClusterError, ConfigError, DmcmError
from dmcm.quadruped.data.shards import CollectConfig, collect_shard

_RETRIES = 5
_CONNECT_S = 10.0


def collect_with_ray(
    config: CollectConfig, shards: Sequence[int], address: str
) -> Iterator[tuple[int, np.ndarray]]:
    """Simulate shards on the workers of a cluster, and yield them as they finish.

    Workers need this package installed, and the policy's file at the same path.

    Args:
        config: what to collect.
        shards: numbers of shards to simulate.
        address: as in `over_ray`.

    Raises:
        DmcmError: as `over_ray`.
    """
    yield from over_ray(_simulate, [(config, number) for number in shards], address)


def over_ray(function: Callable[..., Any], jobs: Sequence[tuple[Any, ...]], address: str) -> Iterator[Any]:
    """Call a function once for each job on the workers of a cluster, and yield results as they finish.

    A job whose worker or machine dies is retried on another, up to five times. A process that is already
    connected to Ray uses that cluster and stays connected.

    Args:
        function: what to call; uses one core.
        jobs: arguments of each call.
        address: of the cluster; "auto" for the one this machine belongs to, "local" to start one here.

    Raises:
        ConfigError: Ray is not installed, or no cluster answers.
        ClusterError: a job was lost at every attempt.
    """
    try:
        import ray
        from ray.exceptions import RayError
    except ImportError as error:
        raise ConfigError("--ray needs Ray. Install it with: pip install 'dmcm[ray]'") from error
    connected_before = ray.is_initialized()
    if not connected_before:
        try:
            _check_that_something_listens(address)
            ray.init(address=address, log_to_driver=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise ConfigError(
                f"no Ray cluster answers at '{address}': {error}. Start one with: ray start --head"
            ) from error
    try:
        remote = ray.remote(num_cpus=1, max_retries=_RETRIES)(function)
        pending = [remote.remote(*job) for job in jobs]
        while pending:
            ready, pending = ray.wait(pending, num_returns=1)
            yield ray.get(ready[0])
    except RayError as error:
        if isinstance(error, DmcmError):  # raised by a worker
            raise
        raise ClusterError(
            f"a job was lost at every attempt, {_RETRIES + 1} in all: {error}. Finished work is kept; find "
            "out why workers die (memory, for example), then run the same command again."
        ) from error
    finally:
        if not connected_before:
            ray.shutdown()


def _simulate(config: CollectConfig, number: int) -> tuple[int, np.ndarray]:
    return number, collect_shard(config, number, threads=1)


def _check_that_something_listens(address: str) -> None:
    """Raise an `OSError` at once where Ray would keep trying for a quarter of an hour."""
    if address in ("auto", "local"):
        return
    place = urlsplit(address if "//" in address else f"//{address}")
    if place.hostname and place.port:
        socket.create_connection((place.hostname, place.port), timeout=_CONNECT_S).close()
