"""Files that hold arrays and JSON, written whole or not at all; loading one runs no code."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import struct
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from dmcm.errors import StorageError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

_FORMAT = "dmcm-1"
_NUMBERS = re.compile(r"\[\n(?: *[^][{}\"\s][^][{}\"\n]*\n)+ *\]")


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file atomically: whenever the process dies, the file holds its old or new content, never half.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
    """
    # Opened like any other file, so that only the umask decides who may read it.
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex[:8]}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as handle:
                handle.write(content)
                handle.flush()
                os.fsync(handle.fileno())
            temporary.replace(path)
        except BaseException:  # also Ctrl-C
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror or error}. The previous content is untouched; free some "
            "space or choose another folder, then run again."
        ) from error


def make_folder(path: Path, name: str = "folder") -> None:
    """Create a folder and its parents if they do not exist.

    Args:
        path: path of the folder.
        name: name of the folder in error messages.

    Raises:
        StorageError: it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"cannot make the {name} {path}: {error.strerror or error}.") from error


def check_writable(path: Path) -> None:
    """Check that a file can be written before the work that produces it begins.

    Raises:
        StorageError: its folder cannot be created or written, or the path is a folder.
    """
    make_folder(path.parent)
    if path.is_dir():
        raise StorageError(f"cannot write {path}: it is a folder. Name a file.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise StorageError(f"cannot write {path}: you may not write to {path.parent}. Choose another folder.")


@contextlib.contextmanager
def sole_writer(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Refuse a folder that another process is writing to, and keep others out within the `with` block.

    Two processes that write the same run would silently mix their metrics and checkpoints. The lock belongs
    to the system and ends with the process, however it dies; Windows and some file systems have none.

    Args:
        folder: the folder; created if it does not exist.
        wait: wait until the other process is done instead of raising an error.

    Raises:
        StorageError: another process is writing there, or the folder cannot be created or read.
    """
    make_folder(folder)
    if fcntl is None:
        yield
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise StorageError(f"cannot read the folder {folder}: {error.strerror or error}.") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError as error:
            raise StorageError(
                f"another process is writing to {folder}. Wait until it is done, or choose another folder."
            ) from error
        except OSError:
            pass
        yield
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, with each list of numbers on one line.

    NaN and infinities become null, so that every JSON parser can read the file.
    """
    text = json.dumps(_finite(value), indent=2, allow_nan=False)
    # Line breaks within strings are escaped, so only lists match.
    text = _NUMBERS.sub(lambda found: f"[{' '.join(found[0][1:-1].split())}]", text)
    write_atomic(path, (text + "\n").encode())


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        StorageError: no such file, or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise StorageError(f"there is no file {path}.") from error
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise StorageError(f"{path} is not readable JSON: {error}. It may be truncated.") from error


def save_arrays(path: Path, arrays: Mapping[str, Any], about: Mapping[str, Any]) -> None:
    """Write named arrays and JSON about them to one safetensors file with a digest.

    Numbers that NumPy has no type for, such as bfloat16, are kept, exactly, in single
    precision.

    Raises:
        StorageError: the file cannot be written.
    """
    # Not ascontiguousarray, which turns scalars into vectors.
    tensors = {name: _as_known(np.asarray(value, order="C")) for name, value in arrays.items()}
    try:
        text = json.dumps(about, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise StorageError(f"cannot write {path}: the description is not JSON, {error}.") from error
    metadata = {"format": _FORMAT, "about": text, "sha256": digest(tensors, text)}
    write_atomic(path, _in_order(save_tensors(tensors, metadata=metadata)))


def _as_known(array: np.ndarray) -> np.ndarray:
    foreign = jnp.issubdtype(array.dtype, jnp.floating) and not np.issubdtype(array.dtype, np.floating)
    return array.astype(np.float32) if foreign else array


def _in_order(content: bytes) -> bytes:
    """The file with a sorted header.

    safetensors does not fix the header's order; sorting it makes equal content byte-identical.
    """
    length = struct.unpack("<Q", content[:8])[0]
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def load_arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read what `save_arrays` wrote, checked against its digest.

    Raises:
        StorageError: no such file, or it is truncated, altered or not written by this library.
    """
    try:
        content = path.read_bytes()
        tensors = load_tensors(content)
        header = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])
        metadata = header.get("__metadata__", {})
    except FileNotFoundError as error:
        raise StorageError(f"there is no file {path}.") from error
    # KeyError: a number type that NumPy does not have, such as bfloat16.
    except (OSError, SafetensorError, ValueError, KeyError, struct.error) as error:
        raise StorageError(f"{path} is damaged or not a safetensors file: {error}.") from error
    if metadata.get("format") != _FORMAT or not {"about", "sha256"} <= metadata.keys():
        raise StorageError(f"{path} was not written by this library (no '{_FORMAT}' mark).")
    if metadata["sha256"] != digest(tensors, metadata["about"]):
        raise StorageError(f"{path} was altered or damaged: its digest does not match its content.")
    about = json.loads(metadata["about"])
    if not isinstance(about, dict):
        raise StorageError(f"{path} was not written by this library: no JSON object beside the arrays.")
    return tensors, about


def tree_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Array leaves of a pytree by their paths."""
    leaves = jax.tree_util.tree_leaves_with_path(eqx.filter(tree, eqx.is_array))
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def fill_tree(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """A copy of a pytree with its arrays replaced by stored ones of the same paths.

    Args:
        tree: a pytree with arrays, or with only their shapes as from `eqx.filter_eval_shape`, which saves
            computing arrays that are then replaced.
        arrays: stored arrays by path.

    Raises:
        StorageError: a leaf is missing or has another shape.
    """

    def stored(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if name not in arrays:
            raise StorageError(f"stored arrays lack '{name}': the file belongs to another model.")
        if arrays[name].shape != leaf.shape:
            raise StorageError(
                f"stored '{name}' has shape {arrays[name].shape}, the model's has {leaf.shape}."
            )
        return jnp.asarray(arrays[name], leaf.dtype)

    is_array = lambda leaf: eqx.is_array(leaf) or isinstance(leaf, jax.ShapeDtypeStruct)  # noqa: E731
    dynamic, static = eqx.partition(tree, is_array)
    return eqx.combine(jax.tree_util.tree_map_with_path(stored, dynamic), static)


def digest(arrays: Mapping[str, np.ndarray], text: str = "") -> str:
    """Hash of named arrays and of text about them, the same on every machine and for any order of names."""
    found = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = arrays[name]
        # Single precision is the default and is not named.
        kind = "" if array.dtype == np.float32 else array.dtype.str
        found.update(f"{name}{kind}{array.shape}".encode() + array.tobytes())
    return found.hexdigest()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, (bool, int, str)) or value is None:
        return value
    if hasattr(value, "tolist"):
        return _finite(value.tolist())
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return str(value)
