"""Runs that are killed, stopped or out of disk space continue as if nothing had happened."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys
import time

import equinox as eqx
import numpy as np
import pytest
from tests.helpers import ROOT, learner, same_bits, sine, sines

from dmcm import FitConfig, fit
from dmcm.errors import CheckpointError, InterruptedRun, StorageError
from dmcm.runs import RunFolder
from dmcm.storage import sole_writer

CONFIG = FitConfig(steps=60, chunk=5, learning_rate=1e-2, checkpoint_seconds=0.0)

CHILD = """
import signal, sys, time
from dmcm.errors import InterruptedRun
from dmcm.runs import RunFolder
from tests.test_resume import train

# A shell may have started the tests with Ctrl-C ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
log = RunFolder.log

def slowly(self, step, metrics):
    log(self, step, metrics)
    time.sleep(0.25)

RunFolder.log = slowly
try:
    train(sys.argv[1])
except InterruptedRun as stop:
    print(stop)
    sys.exit(3)
"""


def train(folder=None, config=CONFIG, model=None, data=None, **options):
    """The run that all tests here begin, stop and take up again."""
    model = learner() if model is None else model
    return fit(model, data or sines(), config, run_dir=folder, progress=False, **options)


def numbers(model):
    return eqx.filter(model, eqx.is_array)


def steps_saved(folder):
    return sorted(int(path.stem[5:]) for path in (folder / "checkpoints").glob("step-*.safetensors"))


@pytest.fixture(scope="module")
def uninterrupted():
    return train()


def agrees(done, uninterrupted):
    assert done.steps == uninterrupted.steps
    assert done.history == uninterrupted.history
    assert same_bits(numbers(done.learner), numbers(uninterrupted.learner))


def start_child(folder):
    """Train in another process; return once it is in the middle of it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), *sys.path]))}
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(folder)], env=environment, stdout=subprocess.PIPE, text=True
    )
    patience = time.monotonic() + 300
    while not (folder / "checkpoints").is_dir() or not steps_saved(folder):
        assert child.poll() is None, "the child ended before it could be stopped"
        assert time.monotonic() < patience, "the child does not get to its first checkpoint"
        time.sleep(0.01)
    return child


def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, uninterrupted):
    child = start_child(tmp_path)
    child.kill()
    child.communicate()
    assert child.returncode == -signal.SIGKILL
    reached = steps_saved(tmp_path)
    assert 0 < reached[-1] < CONFIG.steps
    # What a kill in the middle of writing leaves behind.
    (tmp_path / "checkpoints" / ".step-000000030.safetensors.1a2b3c4d").write_bytes(b"half")
    with (tmp_path / "metrics.jsonl").open("a") as handle:
        handle.write('{"step": 55, "own": 0.1')
    agrees(train(tmp_path, resume=True), uninterrupted)
    assert RunFolder(tmp_path).history() == uninterrupted.history


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path, uninterrupted):
    child = start_child(tmp_path)
    child.send_signal(signal.SIGINT)
    output, _ = child.communicate(timeout=120)
    assert child.returncode == 3, output
    reached = steps_saved(tmp_path)[-1]
    assert f"Step {reached} is saved; continue with resume=True" in output
    assert reached < CONFIG.steps
    agrees(train(tmp_path, resume=True), uninterrupted)


def test_ctrl_c_while_events_are_written_comes_after_them(tmp_path, monkeypatch):
    seen, folder = [], RunFolder(tmp_path)
    folder.log(1, {"own": 1.0})

    def interrupted(name, value, step):
        signal.raise_signal(signal.SIGINT)
        seen.append((name, step))

    monkeypatch.setattr(folder._events, "add_scalar", interrupted)
    usual = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            folder.log(2, {"own": 1.0, "gradient": 2.0})
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, usual)
        folder.close()
    assert seen == [("own", 2), ("gradient", 2)]


def stopping_at(monkeypatch, step, error=KeyboardInterrupt):
    log = RunFolder.log

    def stop(self, done, metrics):
        log(self, done, metrics)
        if done == step:
            raise error

    monkeypatch.setattr(RunFolder, "log", stop)


@pytest.fixture
def halfway(tmp_path, monkeypatch):
    """A folder whose run was stopped after 30 of 60 steps."""
    with monkeypatch.context() as patch:
        stopping_at(patch, 30)
        with pytest.raises(InterruptedRun, match="Step 30 is saved"):
            train(tmp_path)
    assert steps_saved(tmp_path) == [25, 30]
    return tmp_path


def test_a_run_by_muon_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    config = dataclasses.replace(CONFIG, optimiser="muon")
    with monkeypatch.context() as patch:
        stopping_at(patch, 30)
        with pytest.raises(InterruptedRun):
            train(tmp_path, config)
    agrees(train(tmp_path, config, resume=True), train(config=config))
    with pytest.raises(CheckpointError, match="with other settings"):
        train(tmp_path, resume=True)


def test_a_checkpoint_cut_while_it_was_written_falls_back(halfway, uninterrupted):
    newest = halfway / "checkpoints" / "step-000000030.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match=f"{newest.name} is damaged.*continues from step-000000025"):
        result = train(halfway, resume=True)
    agrees(result, uninterrupted)


def test_without_a_usable_checkpoint_there_is_no_resuming(halfway):
    for path in (halfway / "checkpoints").iterdir():
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="Start again in another run folder"):
        train(halfway, resume=True)


def test_a_full_disk_stops_the_run_and_costs_nothing(tmp_path, monkeypatch, uninterrupted):
    with monkeypatch.context() as patch:
        fsync = os.fsync

        def filling_up(handle):
            if (tmp_path / "checkpoints" / "step-000000020.safetensors").exists():
                raise OSError(errno.ENOSPC, "No space left on device")
            fsync(handle)

        patch.setattr(os, "fsync", filling_up)
        with pytest.raises(StorageError, match="No space left on device"):
            train(tmp_path)
    assert steps_saved(tmp_path) == [15, 20]
    agrees(train(tmp_path, resume=True), uninterrupted)


def test_a_run_is_not_taken_up_by_accident_or_with_other_settings(halfway, uninterrupted):
    with pytest.raises(CheckpointError, match=r"already holds a run. Continue with resume=True"):
        train(halfway)
    others = [
        {"config": dataclasses.replace(CONFIG, learning_rate=2e-2)},
        {"config": dataclasses.replace(CONFIG, steps=80)},
        {"config": dataclasses.replace(CONFIG, seed=1)},
        {"model": learner(seed=1)},
        {"data": sines(shots=4).subset(range(8))},
        {"validation": sines()},
    ]
    for other in others:
        with pytest.raises(CheckpointError, match="with other settings, another starting point"):
            train(halfway, resume=True, **other)
    assert steps_saved(halfway) == [25, 30]
    # How often it is saved is no part of the result.
    seldom = dataclasses.replace(CONFIG, checkpoint_seconds=1e6)
    agrees(train(halfway, seldom, resume=True), uninterrupted)
    assert steps_saved(halfway) == [30, 60]


def test_resuming_what_never_began_or_is_finished(tmp_path, uninterrupted):
    agrees(train(tmp_path, resume=True), uninterrupted)
    (tmp_path / "model.safetensors").unlink()
    agrees(train(tmp_path, resume=True), uninterrupted)
    assert (tmp_path / "model.safetensors").exists()
    assert RunFolder(tmp_path).history() == uninterrupted.history


def test_ctrl_c_without_a_folder_keeps_nothing_and_says_so(monkeypatch):
    import dmcm.training

    def pressed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(dmcm.training, "_compile_chunk", lambda *_: pressed)
    with pytest.raises(InterruptedRun, match="Nothing was kept: no run_dir"):
        train()


def test_folders_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make the run folder"):
        train(tmp_path / "file" / "run")
    assert sine()[0].shape == (10, 1)


def test_two_do_not_train_in_one_folder(tmp_path):
    train(tmp_path / "run")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with sole_writer(tmp_path / "run"), pytest.raises(StorageError, match="another process"):
        train(tmp_path / "run", resume=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_run_goes_on_with_its_own_data_only(tmp_path):
    """The same numbers under other labels are other data."""
    short = dataclasses.replace(CONFIG, steps=10)
    train(tmp_path, short)
    same = train(tmp_path, short, resume=True)
    data = sines()
    name = data.factor_names[0]
    moved = dataclasses.replace(data, labels={**data.labels, name: np.roll(data.labels[name], 1)})
    for other in (moved, dataclasses.replace(data, shots=data.shots - 1)):
        with pytest.raises(CheckpointError, match="other data"):
            train(tmp_path, short, data=other, resume=True)
    assert same_bits(numbers(train(tmp_path, short, resume=True).learner), numbers(same.learner))


@pytest.mark.parametrize("name", ["model.safetensors", "report.html", "metrics.json"])
def test_files_that_a_run_would_replace_stay(tmp_path, name):
    (tmp_path / name).write_bytes(b"mine")
    with pytest.raises(CheckpointError, match=rf"would replace \({name}\)"):
        train(tmp_path)
    assert (tmp_path / name).read_bytes() == b"mine"


def test_damaged_lines_of_metrics_are_left_out(tmp_path):
    folder = RunFolder(tmp_path)
    lines = [
        b'{"step": 5, "own": 1.0}',
        b"5",
        b'{"own": 2.0}',
        b"\xff\xfe",
        b'{"step": 10, "own": 0.5}',
        b'{"st',
    ]
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join(lines))
    assert [line["step"] for line in folder.history()] == [5, 10]
    folder.rewind(5)
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 5, "own": 1.0}\n'
    # JSON has no NaN.
    folder.log(6, {"own": float("nan")})
    folder.close()
    assert (tmp_path / "metrics.jsonl").read_text().endswith('{"step": 6, "own": null}\n')
    assert np.isnan(folder.history()[-1]["own"])
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(StorageError, match="cannot be read"):
        folder.history()
    (tmp_path / "metrics.json").write_text("[]")
    with pytest.raises(StorageError, match="holds no metrics"):
        folder.read_metrics()
