"""Files: whole or not at all, refused if altered, and never run."""

import errno
import os
import resource
import subprocess
import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.helpers import same_bits

from dmcm.checkpoints import load_checkpoint, save_checkpoint
from dmcm.errors import CheckpointError, StorageError
from dmcm.storage import (
    fill_tree,
    load_arrays,
    read_json,
    save_arrays,
    sole_writer,
    tree_arrays,
    write_atomic,
    write_json,
)

ARRAYS = {
    "weights": np.arange(6, dtype=np.float32).reshape(2, 3),
    "count": np.array(7, np.int32),
    "empty": np.zeros((0, 2), np.float32),
    "wide": np.array([1.5, -2.5]),
}


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("storage") / "a.safetensors"
    save_arrays(path, ARRAYS, {"step": 3, "name": "ü"})
    return path.read_bytes()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch") / "b.safetensors"


def test_arrays_come_back_bit_for_bit(content, scratch):
    scratch.write_bytes(content)
    arrays, about = load_arrays(scratch)
    assert same_bits(arrays, ARRAYS)
    assert about == {"step": 3, "name": "ü"}


def test_arrays_that_are_not_contiguous_come_back(tmp_path):
    turned = {"a": np.arange(6.0).reshape(2, 3).T, "b": np.arange(10)[::3]}
    save_arrays(tmp_path / "a", turned, {})
    for name, array in load_arrays(tmp_path / "a")[0].items():
        np.testing.assert_array_equal(array, turned[name])


@given(st.data())
def test_a_file_cut_anywhere_is_refused(content, scratch, data):
    scratch.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(StorageError):
        load_arrays(scratch)


@given(st.data())
def test_an_altered_byte_is_refused_or_means_the_same(content, scratch, data):
    position = data.draw(st.integers(0, len(content) - 1))
    altered = bytearray(content)
    altered[position] = data.draw(st.integers(0, 255).filter(lambda byte: byte != content[position]))
    scratch.write_bytes(bytes(altered))
    try:
        arrays, about = load_arrays(scratch)
    except StorageError:
        return
    assert same_bits(arrays, ARRAYS)
    assert about == {"step": 3, "name": "ü"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"F32"', b'"I32"'),
        (b'"I32"', b'"F32"'),
        (b'"F64"', b'"I64"'),
        (b'"shape":[2,3]', b'"shape":[3,2]'),
        (b'"weights"', b'"weighty"'),
        (b"step", b"stop"),
        (b"dmcm-1", b"dmcm-0"),
        (b'"sha256"', b'"sha255"'),
    ],
)
def test_a_header_that_tells_another_story_is_refused(content, scratch, old, new):
    assert old in content
    scratch.write_bytes(content.replace(old, new))
    with pytest.raises(StorageError, match=r"b\.safetensors"):
        load_arrays(scratch)


def test_files_of_others_are_refused(tmp_path):
    from safetensors.numpy import save_file

    foreign = tmp_path / "foreign"
    save_file({"a": np.ones(3)}, foreign)
    with pytest.raises(StorageError, match="not written by this library"):
        load_arrays(foreign)
    (tmp_path / "text").write_text("hello, I am no safetensors file at all")
    for name, message in (
        ("text", "damaged or not a safetensors"),
        ("missing", "there is no file"),
        (".", "damaged"),
    ):
        with pytest.raises(StorageError, match=message):
            load_arrays(tmp_path / name)


def test_what_is_kept_beside_arrays_must_be_json(tmp_path):
    for about in ({"a": {1, 2}}, {"a": float("nan")}, {"a": object()}):
        with pytest.raises(StorageError, match="JSON"):
            save_arrays(tmp_path / "a", {}, about)
    assert not list(tmp_path.iterdir())


def full_disk(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


def interrupted(*_):
    raise KeyboardInterrupt


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "folder" / "a.json"
    write_atomic(path, b"old")
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match=r"cannot write .*a\.json: No space left on device"):
        write_atomic(path, b"new")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new")
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
    assert path.read_bytes() == b"old"


@pytest.mark.skipif(sys.platform == "win32", reason="limits on file sizes are a Unix matter")
def test_a_disk_that_really_takes_no_more(tmp_path):
    path = tmp_path / "a.bin"
    write_atomic(path, b"old")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(StorageError, match="The previous content is untouched"):
            write_atomic(path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]
    assert path.read_bytes() == b"old"


def test_folders_that_cannot_be_written_are_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(tmp_path / "file" / "a", b"new")
    (tmp_path / "taken").mkdir()
    with pytest.raises(StorageError, match="cannot write"):
        write_atomic(tmp_path / "taken", b"new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "taken"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no umask")
def test_who_may_read_a_file_is_up_to_the_umask(tmp_path):
    write_atomic(tmp_path / "a", b"")
    (tmp_path / "b").write_bytes(b"")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_json_round_trip(tmp_path):
    path = tmp_path / "a.json"
    value = {
        "a": np.float32(1.5),
        "b": [np.int64(2), float("nan"), float("inf")],
        "c": np.eye(2),
        4: None,
        "p": path,
    }
    write_json(path, value)
    expected = {"a": 1.5, "b": [2, None, None], "c": [[1, 0], [0, 1]], "4": None, "p": str(path)}
    assert read_json(path) == expected
    assert '"c": [\n    [1.0, 0.0],\n    [0.0, 1.0]\n  ]' in path.read_text()
    texts = {"s": "[\n 1\n]", "t": ["[\n 1,\n2]", "b"], "m": [1, "[\n1"], "e": [], "n": [None, True, -1e-9]}
    write_json(path, texts)
    assert read_json(path) == texts
    # Numbers before a text or a table must not take longer with every one of them.
    mixed = {"k": {"m": [*range(200), "x"], "n": [*range(200), {}], "o": [*range(200), [1]]}}
    write_json(path, mixed)
    assert read_json(path) == mixed
    path.write_text('{"a": 1')
    with pytest.raises(StorageError, match="may be truncated"):
        read_json(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StorageError, match="not readable JSON"):
        read_json(path)
    with pytest.raises(StorageError, match="there is no file"):
        read_json(tmp_path / "missing")


class Tree(eqx.Module):
    a: dict
    b: tuple
    name: str = eqx.field(static=True, default="x")


def tree(fill=0.0):
    return Tree({"p": jnp.full((2, 2), fill), "q": jnp.asarray(int(fill))}, (jnp.full(3, fill), "text"))


def test_trees_are_filled_by_the_paths_of_their_leaves():
    arrays = tree_arrays(tree(5.0))
    assert sorted(arrays) == [".a['p']", ".a['q']", ".b[0]"]
    filled = fill_tree(tree(), arrays)
    assert same_bits([filled.a, filled.b[0]], [tree(5.0).a, tree(5.0).b[0]])
    assert filled.b[1] == "text"
    with pytest.raises(StorageError, match=r"lack '\.a\['p'\]'"):
        fill_tree(tree(), {name: array for name, array in arrays.items() if name != ".a['p']"})
    arrays[".b[0]"] = np.zeros(4)
    with pytest.raises(StorageError, match=r"shape \(4,\), the model's has \(3,\)"):
        fill_tree(tree(), arrays)


def test_numbers_that_numpy_does_not_know_come_back(tmp_path):
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16) if eqx.is_inexact_array(a) else a, tree(1 / 3))
    save_arrays(tmp_path / "m", tree_arrays(half), {})
    filled = fill_tree(half, load_arrays(tmp_path / "m")[0])
    assert filled.b[0].dtype == jnp.bfloat16
    assert same_bits([filled.a, filled.b[0]], [half.a, half.b[0]])


def test_the_two_newest_checkpoints_are_kept(tmp_path):
    assert load_checkpoint(tmp_path / "none", tree()) is None
    for step in (5, 10, 100_000):
        save_checkpoint(tmp_path, step, tree(float(step)), {"mark": "m"})
    (tmp_path / "step-000000100.safetensors.bak").write_text("not mine")
    assert sorted(p.name for p in tmp_path.glob("*.safetensors")) == [
        "step-000000010.safetensors",
        "step-000100000.safetensors",
    ]
    state, about = load_checkpoint(tmp_path, tree())
    assert same_bits(state.a, tree(100_000.0).a)
    assert about == {"step": 100_000, "mark": "m"}


def test_a_damaged_checkpoint_falls_back_to_the_one_before(tmp_path):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, tree(float(step)), {})
    older, newest = sorted(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes()[:-5])
    with pytest.warns(UserWarning, match=rf"{newest.name}.*continues from step-000000001") as told:
        state, about = load_checkpoint(tmp_path, tree())
    assert same_bits(state.a, tree(1.0).a)
    assert about["step"] == 1
    assert len(told) == 1
    older.write_bytes(b"")
    with pytest.raises(
        CheckpointError, match=r"no checkpoint can be used: .*Start again in another run folder"
    ):
        load_checkpoint(tmp_path, tree())


def test_a_full_disk_costs_no_older_checkpoint(tmp_path, monkeypatch):
    for step in (1, 2):
        save_checkpoint(tmp_path, step, tree(float(step)), {})
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(StorageError, match="No space left"):
        save_checkpoint(tmp_path, 3, tree(3.0), {})
    assert sorted(tmp_path.iterdir()) == before
    assert load_checkpoint(tmp_path, tree())[1]["step"] == 2


def test_equal_arrays_are_equal_bytes(tmp_path):
    arrays = {name: np.arange(3.0) for name in "abcdefgh"}
    for number in range(5):
        save_arrays(tmp_path / f"{number}.safetensors", arrays, {"z": 1, "a": [2]})
    assert len({(tmp_path / f"{number}.safetensors").read_bytes() for number in range(5)}) == 1


HOLD = """
import pathlib, sys, time
from dmcm.storage import sole_writer
with sole_writer(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_folder_has_one_writer_until_that_ends_or_is_killed(tmp_path):
    folder = tmp_path / "made" / "here"
    with sole_writer(folder):
        said = r"another process is writing to .*here.*another folder"
        with pytest.raises(StorageError, match=said), sole_writer(folder):
            pass
        with sole_writer(tmp_path / "made" / "there"):
            pass
    with sole_writer(folder), pytest.raises(KeyError), sole_writer(tmp_path):
        raise KeyError
    with subprocess.Popen([sys.executable, "-c", HOLD, folder], stdout=subprocess.PIPE) as child:
        assert child.stdout.readline() == b"held\n"
        with pytest.raises(StorageError, match="another process"), sole_writer(folder):
            pass
        child.kill()
        child.wait()
    with sole_writer(folder), sole_writer(tmp_path):
        assert list(folder.iterdir()) == []


def test_a_file_has_no_writer_of_its_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot make the folder"), sole_writer(tmp_path / "file"):
        pass


def test_a_folder_that_cannot_be_read_is_refused(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    said = "cannot read the folder .*: Permission denied"
    with pytest.raises(StorageError, match=said), sole_writer(tmp_path):
        pass
