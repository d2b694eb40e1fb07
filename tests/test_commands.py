"""The command stored with results gives the same settings again."""

import dataclasses
import importlib
import shlex
from pathlib import Path

import pytest
import tyro

import dmcm
from dmcm.cli.app import _STYLE, COMMANDS
from dmcm.commands import command_of


def parsed(name, text):
    words = shlex.split(text)
    assert words[: 1 + len(name.split())] == ["dmcm", *name.split()]
    command = importlib.import_module(f"dmcm.cli.{COMMANDS[name].module}")
    return tyro.cli(command.CONFIG, args=words[1 + len(name.split()) :], config=_STYLE)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("sinusoid compare", {"methods": ("maml",), "details": True, "test_seed": 7}),
        ("sinusoid support", {"shares": (0.5, 1 / 3)}),
        ("sinusoid sizes", {"sizes": (2, 5)}),
        ("sinusoid tune", {}),
        ("pendulum compare", {"results": Path("my results/p.json")}),
        ("quadruped dynamics", {"windows": {"history": 2}}),
        ("quadruped evaluate-policy", {"robot": "a1", "suite": {"episodes": 7, "seed": 3}}),
        ("quadruped transfer", {"data_s": (), "gaps": (0.0, 2.5), "robots": 3}),
    ],
)
def test_a_command_is_its_settings(name, changes):
    usual = importlib.import_module(f"dmcm.cli.{COMMANDS[name].module}").CONFIG()
    for config in (usual, _changed(usual, changes)):
        assert parsed(name, command_of(name, config)) == config
        assert str(Path(dmcm.__file__).parent) not in command_of(name, config)
    assert _changed(usual, changes) != usual or not changes


def _changed(config, changes):
    own = {
        key: _changed(getattr(config, key), value) if isinstance(value, dict) else value
        for key, value in changes.items()
    }
    return dataclasses.replace(config, **own)
