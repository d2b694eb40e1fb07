"""Command dispatch, help and error handling: a line on stderr and an exit code, no traceback."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import io
import itertools
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dmcm.errors import ConfigError, DmcmError, InterruptedRun, unknown_name

USAGE_ERROR = 2
"""Exit code of every error a user can cause."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""
CLOSED = 141
"""Exit code if the reader of the output has gone, as of a command that the system ended for it."""
TRACEBACK = "DMCM_TRACEBACK"
"""Environment variable that lets unexpected errors through, with their traceback."""


@dataclasses.dataclass(frozen=True)
class Command:
    """One command.

    Attributes:
        module: module with its `CONFIG` (a dataclass), `EXAMPLES` and `run(config)`; imported when called.
        summary: one line for the list of commands.
    """

    module: str
    summary: str


COMMANDS: dict[str, Command] = {
    "demo": Command("demo", "Learn, adapt, mix and predict: sinusoids, then a walking robot"),
    "fit": Command("fit", "Learn from a labelled table: one context per label column"),
    "adapt": Command("adapt", "Turn samples of a situation into contexts in a bank"),
    "contexts": Command("contexts", "List the contexts in a bank"),
    "predict": Command("predict", "Predict with mixed contexts: a situation without data"),
    "evaluate": Command("evaluate", "Measure the errors of a trained run again"),
    "report": Command("report", "Write a run's report page again"),
    "sinusoid train": Command("sinusoid_train", "Train one method of the sinusoid table"),
    "sinusoid compare": Command("sinusoid_compare", "Methods × seeds on the frozen sinusoid protocol"),
    "sinusoid tune": Command("sinusoid_tune", "Outer-loop settings of each method, on validation tasks"),
    "sinusoid support": Command("sinusoid_support", "Study: how many pairs training must see, and which"),
    "sinusoid sizes": Command("sinusoid_sizes", "Study: how large a context must be"),
    "quadruped train-walking": Command(
        "quadruped_train_walking", "Teach robots to walk on ever harder ground"
    ),
    "quadruped evaluate-walking": Command(
        "quadruped_evaluate_walking", "Measure how well a policy walks on every ground"
    ),
    "quadruped collect": Command("quadruped_collect", "Collect data from a grid of robots and grounds"),
    "quadruped dynamics": Command("quadruped_dynamics", "Methods × seeds of dynamics models on that data"),
    "quadruped train-policy": Command(
        "quadruped_train_policy", "Train policies conditioned on robot and ground, or on nothing"
    ),
    "quadruped evaluate-policy": Command(
        "quadruped_evaluate_policy", "Measure how well policies walk with bodies outside training"
    ),
    "quadruped adapt": Command("quadruped_adapt", "Turn a robot's log into its vector"),
    "quadruped ground-vectors": Command(
        "quadruped_ground_vectors", "Simulate grounds and keep their vectors"
    ),
    "quadruped simulate-log": Command(
        "quadruped_simulate_log", "Write a log of a simulated robot, to try things with"
    ),
    "quadruped transfer": Command("quadruped_transfer", "Evaluate conditioned policies in another engine"),
    "quadruped export-policy": Command("quadruped_export_policy", "Write a policy as ONNX with its contract"),
    "pendulum compare": Command("pendulum_compare", "Methods × seeds on driven pendulums, three factors"),
}
"""All commands by what the user types."""

_STYLE = (
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.DisallowNone,
    tyro.conf.PositionalMetavarFromFieldName,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows `dmcm`; default: the arguments of this process.

    Returns:
        The exit code: 0, 2 for user errors, 130 after Ctrl-C, 141 if the output was closed on the way.
    """
    _quiet_jax()
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed before the start, as by >&-
            setattr(sys, name, Path(os.devnull).open("w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show, say, an ellipsis shows a question mark; it must not end a training.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        return _dispatch(given)
    except SystemExit as stop:  # tyro has printed help, or what it could not parse
        if isinstance(stop.__context__, BrokenPipeError):  # Rich exits this way if its output was closed
            return _output_closed(given)
        return stop.code if isinstance(stop.code, int) else USAGE_ERROR
    except InterruptedRun as error:
        return _end("stopped", str(error).removeprefix("stopped "), "yellow", INTERRUPTED)
    except KeyboardInterrupt:
        return _end("stopped", "by the user; nothing was left half-written.", "yellow", INTERRUPTED)
    except DmcmError as error:
        return _end("error", str(error), "red", USAGE_ERROR)
    except BrokenPipeError:
        return _output_closed(given)
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        return _end("error", f"{what}{error.strerror or error}.", "red", USAGE_ERROR)
    except MemoryError:
        return _end(
            "error", "out of memory. Use fewer or smaller tasks, or a smaller network.", "red", USAGE_ERROR
        )
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise
        return _end(
            "error",
            f"dmcm did not expect this: {type(error).__name__}: {error}. Files already written are intact. "
            f"Check the input; if it is correct, this is a bug in dmcm: set {TRACEBACK}=1 to see where it "
            "comes from, and report it.",
            "red",
            USAGE_ERROR,
        )


def entry() -> NoReturn:
    """Entry point of `dmcm` and `python -m dmcm`: run the command, then exit."""
    code = main()
    if code == INTERRUPTED:
        # JAX's compiler threads do not stop, and shutting Python down around them crashes.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _dispatch(arguments: list[str]) -> int:
    if "--version" in arguments[:1]:
        from dmcm import __version__

        print(f"dmcm {__version__}")
        return 0
    words = list(itertools.takewhile(lambda word: not word.startswith("-"), arguments[:2]))
    name = next((n for n in (" ".join(words), *words[:1]) if n in COMMANDS), None)
    if name is None:
        return _help_or_error(arguments, words)
    command = importlib.import_module(f"dmcm.cli.{COMMANDS[name].module}")
    rest = arguments[len(name.split()) :]
    _check_once(rest)
    config = tyro.cli(
        command.CONFIG,
        prog=f"dmcm {name}",
        description=_description(command.CONFIG, command.EXAMPLES),
        args=rest,
        config=_STYLE,
    )
    command.run(config)
    return 0


def _check_once(arguments: Sequence[str]) -> None:
    """Refuse an option that is given twice: the parser would use the last and ignore the first."""
    options = [word.partition("=")[0].replace("_", "-") for word in arguments if word.startswith("--")]
    for option in options:
        if options.count(option) > 1:
            raise ConfigError(
                f"{option} is given twice. Give it once, followed by all its values: {option} ONE OTHER."
            )


def _help_or_error(arguments: list[str], words: list[str]) -> int:
    """Print all commands or those of a group; raise an error for any other name."""
    groups = {name.split()[0] for name in COMMANDS if " " in name}
    group = words[0] if words and words[0] in groups else ""
    rest = words[1:] if group else words
    if rest:
        valid = [name.removeprefix(f"{group} ") for name in COMMANDS if name.startswith(group)]
        raise ConfigError(unknown_name(f"{group} command".strip(), rest[0], valid))
    asked = any(argument in ("-h", "--help") for argument in arguments)
    odd = [argument for argument in arguments[len(words) :] if argument not in ("-h", "--help")]
    if odd:
        raise ConfigError(f"'{odd[0]}' comes before any command. See dmcm --help.")
    _print_help(group, error=not asked)
    return 0 if asked else USAGE_ERROR


def _print_help(group: str, *, error: bool) -> None:
    console = Console(stderr=error, highlight=False)
    console.print(f"usage: dmcm {group + ' ' if group else ''}COMMAND …", soft_wrap=True)
    if not group:
        console.print("\nDMCM: one context vector per known factor. Adapt to a few samples, mix, predict.\n")
    width = max(map(len, COMMANDS))
    for title, wanted in (("commands", ""), ("domains", " ")):
        names = [n for n in COMMANDS if (" " in n) == bool(wanted) and n.startswith(group)]
        if not names:
            continue
        table = Table(box=None, show_header=False, padding=(0, 3, 0, 0))
        for name in names:
            table.add_row(Text(f"  {name.ljust(width)}", "cyan"), COMMANDS[name].summary)
        console.print(Text(title, "bold"))
        console.print(table)
        console.print()
    if not group:
        console.print(Text("examples", "bold"))
        console.print(
            "  dmcm demo\n"
            "  dmcm fit plants.csv --task plot --factors variety=2 year=2 --inputs day --outputs weight_g\n"
            "  dmcm fit --help        help for one command\n"
            "  dmcm --version",
            soft_wrap=True,
        )


def _description(config: Any, examples: str) -> str:
    text = inspect.cleandoc(config.__doc__ or "")
    lines = "\n".join(f"  {line}" for line in inspect.cleandoc(examples).splitlines())
    return f"{text}\n\nexamples:\n{lines}"


def _end(title: str, message: str, style: str, code: int) -> int:
    line = Text.assemble((f"{title}: ", f"bold {style}"), message)
    Console(stderr=True).print(line, soft_wrap=True)
    return code


def _output_closed(arguments: list[str]) -> int:
    """End after the reader of the output has gone; Python must not complain about it on exit either."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    if {"-h", "--help", "--version"} & set(arguments):
        return 0
    message = "the output was closed. If a training had begun, --resume continues it."
    try:
        return _end("stopped", message, "yellow", CLOSED)
    except (BrokenPipeError, SystemExit):  # stderr goes where the output went
        os.dup2(nowhere, sys.stderr.fileno())
        return CLOSED


def _quiet_jax() -> None:
    """Suppress notes about missing accelerators. Changes nothing that affects results."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    logging.getLogger("jax._src.xla_bridge").setLevel(logging.ERROR)
