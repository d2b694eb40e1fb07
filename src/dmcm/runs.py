"""Run folders: configuration, versions and git state, metrics as JSON lines, events, checkpoints, model."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import json
import math
import platform
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import Any

from tensorboardX import SummaryWriter

from dmcm.errors import StorageError
from dmcm.storage import make_folder, read_json, write_atomic, write_json

_TRAINED = ("model.safetensors", "training.json", "metrics.jsonl", "metrics.json", "report.html")
"""Files of a run that training and the steps after it write."""
_PACKAGES = ("dmcm", "jax", "jaxlib", "equinox", "optax", "numpy")


class RunFolder:
    """One folder per run.

    Holds `config.json`, `environment.json`, `training.json`, `metrics.jsonl` and a final `metrics.json`,
    `events/` for TensorBoard, `checkpoints/`, `model.safetensors`, `plots/` and `report.html`.
    """

    def __init__(self, path: Path | str):
        """Open or create the folder.

        Raises:
            StorageError: it cannot be created.
        """
        self.path = Path(path)
        make_folder(self.path, "run folder")
        self._events: SummaryWriter | None = None

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def model(self) -> Path:
        """File of the trained learner."""
        return self.path / "model.safetensors"

    @property
    def report(self) -> Path:
        """File of the report page."""
        return self.path / "report.html"

    @property
    def plots(self) -> Path:
        """Folder of the plots."""
        return self.path / "plots"

    def traces(self) -> list[str]:
        """Names in the folder that training would replace or continue from."""
        files = [name for name in _TRAINED if (self.path / name).exists()]
        held = self.checkpoints.is_dir() and any(self.checkpoints.iterdir())
        return [*files, *([self.checkpoints.name] if held else [])]

    def begun(self) -> bool:
        """Whether training has produced anything: a checkpoint, a model or a policy."""
        return self.checkpoints.name in self.traces() or any(self.path.glob("*.safetensors"))

    def write_config(self, config: Any) -> None:
        """Write the full configuration and the environment of the run."""
        value = dataclasses.asdict(config) if dataclasses.is_dataclass(config) else config  # type: ignore[arg-type]
        write_json(self.path / "config.json", value)
        write_json(self.path / "environment.json", environment())

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Append one line of metrics, and the same as TensorBoard events.

        Raises:
            StorageError: the disk is full or the folder is gone.
        """
        line = _as_line({"step": step, **{name: float(value) for name, value in metrics.items()}})
        try:
            with (self.path / "metrics.jsonl").open("a", encoding="utf-8") as handle:
                handle.write(line)
            # Ctrl-C while events are written would leave their queue locked and `close` waiting forever.
            with ctrl_c_waits():
                if self._events is None:
                    self._events = SummaryWriter(str(self.path / "events"), flush_secs=5)
                for name, value in metrics.items():
                    self._events.add_scalar(name, float(value), step)
        except OSError as error:
            raise StorageError(f"cannot write metrics to {self.path}: {error.strerror or error}.") from error

    def history(self) -> list[dict[str, float | int]]:
        """All complete lines of metrics so far; damaged lines, or lines cut off by a crash, are left out.

        Raises:
            StorageError: the file cannot be read.
        """
        file = self.path / "metrics.jsonl"
        try:
            text = file.read_bytes().decode(errors="replace") if file.exists() else ""
        except OSError as error:
            raise StorageError(f"{file} cannot be read: {error.strerror or error}.") from error
        lines: list[dict[str, float | int]] = []
        for line in text.splitlines():
            with contextlib.suppress(json.JSONDecodeError):
                found = json.loads(line)
                if isinstance(found, dict) and isinstance(found.get("step"), int):
                    lines.append(
                        {name: math.nan if value is None else value for name, value in found.items()}
                    )
        return lines

    def rewind(self, step: int) -> None:
        """Drop metrics after a step, because a resumed run writes them again."""
        kept = [_as_line(line) for line in self.history() if line["step"] <= step]
        write_atomic(self.path / "metrics.jsonl", "".join(kept).encode())

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write the final metrics."""
        write_json(self.path / "metrics.json", metrics)

    def read_metrics(self) -> dict[str, Any]:
        """The final metrics.

        Raises:
            StorageError: the run has none, or they are damaged.
        """
        file = self.path / "metrics.json"
        if not file.exists():
            raise StorageError(f"{self.path} has no metrics.json yet. `dmcm evaluate {self.path}` writes it.")
        found = read_json(file)
        if not isinstance(found, dict):
            raise StorageError(f"{file} holds no metrics: it was damaged or replaced.")
        return found

    def close(self) -> None:
        """Flush the events. Any that do not fit on a full disk are lost; they only copy the metrics."""
        if self._events is not None:
            with contextlib.suppress(OSError):
                self._events.close()
            self._events = None


@contextlib.contextmanager
def ctrl_c_waits() -> Iterator[None]:
    """Delay Ctrl-C until the end of the `with` block; does nothing outside the main thread."""
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    came: list[tuple[int, FrameType | None]] = []
    signal.signal(signal.SIGINT, lambda number, frame: came.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if came:
        usual(*came[0])


def environment() -> dict[str, Any]:
    """Versions, platform and git state, for the record."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": versions,
        "git": git_state(),
    }


def git_state() -> dict[str, Any]:
    """The commit, and whether the working tree differs from it; empty outside a repository."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", *arguments],
                cwd=Path(__file__).parent,
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    # A package installed into someone's repository is not tracked by that repository.
    ours = git("ls-files", "--error-unmatch", Path(__file__).name) is not None
    commit = git("rev-parse", "HEAD") if ours else None
    if commit is None:
        return {}
    return {"commit": commit, "dirty": bool(git("status", "--porcelain"))}


def _as_line(metrics: Mapping[str, Any]) -> str:
    """A line of JSON, with null for values that are not finite, because JSON has no NaN."""

    def known(value: Any) -> Any:
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps({name: known(value) for name, value in metrics.items()}) + "\n"
