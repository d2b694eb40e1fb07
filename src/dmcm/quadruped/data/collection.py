"""Data of robots on grounds: collected in shards, stored in a folder with a manifest, checked when read."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.errors import ConfigError, DataError, StorageError
from dmcm.progress import piece_bar
from dmcm.quadruped.body.properties import RobotProperties
from dmcm.quadruped.body.robot_table import JOINT_NAMES, RobotTable, load_robot
from dmcm.quadruped.data.distributed import collect_with_ray
from dmcm.quadruped.data.grid import Cell, Grid, make_grid
from dmcm.quadruped.data.recording import COLUMNS, column
from dmcm.quadruped.data.shards import SHARD_CELLS, CollectConfig, collect_shard, shard_cells
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.quadruped.world.terrain import Terrain
from dmcm.run_config import other_settings
from dmcm.storage import load_arrays, read_json, save_arrays, sole_writer, write_json

MANIFEST = "manifest.json"
KIND = "quadruped data"
_PARTS = {"config", "rate_hz", "joints", "columns", "robots", "terrains", "cells", "shards"}


def collect(
    config: CollectConfig,
    out: Path,
    *,
    ray_address: str | None = None,
    threads: int = 0,
    progress: bool = True,
) -> Collection:
    """Collect all cells, or those still missing, into a folder.

    Each shard is written whole or not at all, so calling this again continues an interrupted collection.

    Args:
        config: what to collect.
        out: folder for it.
        ray_address: of a Ray cluster to use ("auto" for the one this machine belongs to); None simulates
            here.
        threads: physics threads on this machine; 0 means one per core.
        progress: show a progress bar.

    Raises:
        ConfigError: settings out of range, or the folder holds data collected with other settings.
        StorageError: the manifest is damaged or describes something else, or another process is collecting
            into the folder.
        DmcmError: the robot or policy cannot be used, a file cannot be written, or Ray is not available.
    """
    config = config.check()
    about = json.loads(json.dumps(_describe(config)))  # as read back
    shards = shard_cells(config)
    with sole_writer(out):
        manifest_file = out / MANIFEST
        manifest = _read_manifest(manifest_file) if manifest_file.exists() else {**about, "shards": {}}
        if others := [key for key in about if manifest.get(key) != about[key]]:
            others = other_settings(manifest.get("config"), about["config"]) or others
            raise ConfigError(
                f"{out} holds data collected with other settings: {'; '.join(others[:4])}. Choose another "
                "folder."
            )
        missing = [number for number in range(len(shards)) if not _intact(out, number, manifest)]
        if ray_address is None:
            done: Iterator[tuple[int, np.ndarray]] = (
                (number, collect_shard(config, number, threads=threads)) for number in missing
            )
        else:
            done = collect_with_ray(config, missing, ray_address)
        with piece_bar(show=progress) as bar:
            task = bar.add_task("collecting shards", total=len(shards), completed=len(shards) - len(missing))
            for number, data in done:
                path = out / _file(number)
                save_arrays(path, {"data": data}, {"kind": KIND, "shard": number})
                manifest["shards"][str(number)] = {
                    "file": path.name,
                    "sha256": _digest(path),
                    "cells": len(data),
                    "falls": int(data[..., column("falls")].sum()),
                    "divergences": int(data[..., column("diverges")].sum()),
                }
                manifest["shards"] = dict(sorted(manifest["shards"].items(), key=lambda item: int(item[0])))
                write_json(manifest_file, manifest)
                bar.advance(task)
    return read_collection(out)


@dataclasses.dataclass(frozen=True, eq=False)
class Collection:
    """Collected data, checked."""

    config: dict[str, Any]
    """How it was collected."""
    grid: Grid
    """Robots, grounds and cells."""
    data: np.ndarray
    """Shape (cells, steps, columns), single precision, cells in the grid's order."""
    robot_table: dict[str, Any] | None = None
    """Facts of the robot as collected; None if they are not known."""

    def table(self) -> RobotTable:
        """The robot that was collected.

        Raises:
            DataError: its table cannot be read, or has been edited since.
        """
        robot = self.config["robot"]
        table = load_robot(robot)
        here = json.loads(json.dumps(dataclasses.asdict(table)))
        if self.robot_table is not None and (other := other_settings(self.robot_table, here)):
            raise DataError(
                f"the table of the robot {robot} has been edited since the data were collected: "
                f"{'; '.join(other[:4])}. Undo that, or collect again into another folder."
            )
        return table

    @functools.cached_property
    def digest(self) -> str:
        """Hash of all recorded data; whatever is made from the data stores it."""
        return hashlib.sha256(np.ascontiguousarray(self.data).data).hexdigest()

    def __getitem__(self, name: str) -> np.ndarray:
        """One column of all cells, shape (cells, steps, size)."""
        return self.data[..., column(name)]

    def cells_of(self, split: str) -> np.ndarray:
        """Numbers of a split's cells."""
        return np.array([i for i, cell in enumerate(self.grid.cells) if cell.split == split], int)


def read_collection(folder: Path) -> Collection:
    """Read a collected folder.

    Raises:
        StorageError: no manifest, or a missing or damaged shard.
        DataError: the data are incomplete, have another rate or joint order, or contain non-finite values.
    """
    if not (folder / MANIFEST).exists():
        raise StorageError(
            f"there is no data in {folder}: it has no {MANIFEST}. Collect some: dmcm quadruped collect --out "
            f"{folder}"
        )
    manifest = _read_manifest(folder / MANIFEST)
    if manifest["joints"] != list(JOINT_NAMES):
        raise DataError(f"{folder}: joints are in the order {manifest['joints']}, not {list(JOINT_NAMES)}.")
    if abs(manifest["rate_hz"] * CONTROL_PERIOD_S - 1) > 1e-9:
        raise DataError(f"{folder}: data at {manifest['rate_hz']} Hz, not {1 / CONTROL_PERIOD_S:g} Hz.")
    if manifest["columns"] != dict(COLUMNS):
        raise DataError(f"{folder}: its columns are not those of this version: {manifest['columns']}.")
    grid = _grid_of(manifest)
    count = -(-len(grid.cells) // SHARD_CELLS)
    if lacking := [number for number in range(count) if str(number) not in manifest["shards"]]:
        raise DataError(
            f"{folder} is incomplete: shards {lacking[:5]} of {count} are missing. Collect again into the "
            "same folder to complete it."
        )
    steps = round(manifest["config"]["seconds"] / CONTROL_PERIOD_S)
    parts = []
    for number in range(count):
        path = folder / _file(number)
        if not path.exists():
            raise StorageError(f"{path} is missing. Collect again into the same folder to redo it.")
        if _digest(path) != manifest["shards"][str(number)]["sha256"]:
            raise StorageError(f"{path} was altered or damaged. Delete it and collect again to redo it.")
        part = load_arrays(path)[0]["data"]
        if part.shape[1:] != (steps, sum(COLUMNS.values())):
            raise DataError(f"{path}: shape {part.shape} has gaps; {steps} steps of every cell are needed.")
        if not np.all(np.isfinite(part)):
            raise DataError(f"{path} has values that are not finite. Delete it and collect again to redo it.")
        parts.append(part)
    data = np.concatenate(parts)
    if len(data) != len(grid.cells):
        raise DataError(f"{folder}: {len(data)} cells of data, {len(grid.cells)} in the manifest.")
    return Collection(manifest["config"], grid, data, manifest.get("robot_table"))


def _read_manifest(path: Path) -> dict[str, Any]:
    """A manifest with all its parts, each of the right kind."""
    manifest = read_json(path)
    kind = manifest.get("kind") if isinstance(manifest, dict) else None
    if kind != KIND:
        raise StorageError(f"{path} describes {kind!r}, not quadruped data.")
    if lacking := _PARTS - manifest.keys():
        raise StorageError(f"{path} lacks {', '.join(sorted(lacking))}: it is damaged or of another version.")
    config, shards = manifest["config"], manifest["shards"]
    numbers = (manifest["rate_hz"], config.get("seconds") if isinstance(config, dict) else None)
    sound = {
        "config, rate_hz": all(isinstance(number, int | float) for number in numbers),
        **{
            name: isinstance(manifest[name], list) and manifest[name]
            for name in ("robots", "terrains", "cells")
        },
        "shards": isinstance(shards, dict)
        and all(isinstance(shard, dict) and "sha256" in shard for shard in shards.values()),
    }
    if bad := [name for name, good in sound.items() if not good]:
        raise StorageError(
            f"{path} is damaged: {', '.join(bad)} is not what `dmcm quadruped collect` writes. Restore the "
            "file, or collect into another folder."
        )
    return manifest


def _describe(config: CollectConfig) -> dict[str, Any]:
    """The manifest without the shards."""
    grid = make_grid(config.grid)
    settings = dataclasses.asdict(config)
    settings["policy"] = config.policy.name
    return {
        "kind": KIND,
        "config": settings,
        "robot_table": dataclasses.asdict(load_robot(config.robot)),
        "policy_sha256": _digest(config.policy) if config.policy.exists() else None,
        "rate_hz": 1 / CONTROL_PERIOD_S,
        "joints": list(JOINT_NAMES),
        "columns": dict(COLUMNS),
        "robots": [dataclasses.asdict(robot) for robot in grid.robots],
        "terrains": [dataclasses.asdict(terrain) for terrain in grid.terrains],
        "cells": [dataclasses.asdict(cell) for cell in grid.cells],
    }


def _grid_of(manifest: dict[str, Any]) -> Grid:
    try:
        return Grid(
            tuple(RobotProperties(**robot) for robot in manifest["robots"]),
            tuple(Terrain(**terrain) for terrain in manifest["terrains"]),
            tuple(Cell(**cell) for cell in manifest["cells"]),
        )
    except (KeyError, TypeError) as error:
        raise StorageError(f"the manifest does not describe a grid of this version: {error}.") from error


def _file(number: int) -> str:
    return f"shard-{number:04d}.safetensors"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _intact(out: Path, number: int, manifest: dict[str, Any]) -> bool:
    path, known = out / _file(number), manifest["shards"].get(str(number))
    return known is not None and path.exists() and _digest(path) == known["sha256"]
