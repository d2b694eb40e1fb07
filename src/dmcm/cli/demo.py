"""`dmcm demo`: the whole idea in a few minutes."""

from __future__ import annotations

from pathlib import Path

from dmcm.cli.show import say, show_path, show_table
from dmcm.errors import ConfigError
from dmcm.report import Table, write_page
from dmcm.run_config import open_run
from dmcm.runs import RunFolder
from dmcm.sinusoid import page, pictures, protocol
from dmcm.sinusoid.demo import DemoConfig, choose_folder
from dmcm.sinusoid.single import measure, train

CONFIG = DemoConfig
EXAMPLES = """
dmcm demo
dmcm demo --steps 3000 --out runs/quick
"""


def run(config: DemoConfig) -> None:
    """Train, mix, measure, report; then the same for a robot with a model that is already trained."""
    folder = choose_folder(config)
    if folder != config.out:
        say(f"{config.out} holds another run; this one goes to {folder}.", "dim")
    say("The task: y = A·sin(x − φ). Amplitude A and phase φ differ from task to task.", "bold")
    say(
        "Training shows all amplitudes from 0.1 to 5 and all phases from 0 to π, but never a large amplitude "
        "(above 2.5) together with a late phase (above π/2).\n"
    )
    finished = (folder / "metrics.json").exists()
    again = "read from the finished run" if finished else f"{config.steps:,} steps"
    say(f"DMCM: one context for the amplitude, one for the phase ({again}).")
    learner = train(config.run(folder), progress=not finished)
    _explain(pictures.swap_example(learner))
    say(f"\nThe control: the same network and solver with a single context for both ({again}).")
    train(config.control(folder), progress=not finished)
    main, control = RunFolder(folder), RunFolder(folder / page.CONTROL)
    if not finished:
        say("Measuring both on 2,000 test tasks a split …", "dim")
        measure(control, contexts=False, inner_steps=False)
        measure(main, inner_steps=False)
    about = open_run(folder)[1]
    show_table(page.error_table(about, main.read_metrics(), page.read_control(main)), "Mean squared error")
    for table in page.expected_tables(about):
        show_table(table)
    page.write_report(main, about)
    robot_report = _show_robot(folder / "go1")
    say("\nThe report shows what each context carries, where it errs, how it learned. Open it in a browser:")
    show_path("report", main.report)
    if robot_report is not None:
        show_path("Go1 report", robot_report)


def _explain(example: pictures.SwapExample) -> None:
    """Explain the swap in plain words and numbers."""
    a, b = example.a, example.b
    say(f"\nSituation A: 10 points of a sinusoid with a large amplitude (A = {a.amplitude}, φ = {a.phase}).")
    say(f"Situation B: 10 points of one with a late phase (A = {b.amplitude}, φ = {b.phase}).")
    say("share(amplitude=A's context, phase=B's context) predicts a sinusoid it has no data from:", "bold")
    grid, truth = protocol.grid()[:, 0], example.mixed_truth()
    chosen = range(4, len(grid), 15)
    columns = ("x", *(f"{grid[i]:.1f}" for i in chosen))
    rows = [
        ["truth", *(f"{truth[i]:.2f}" for i in chosen)],
        ["predicted", *(f"{example.curves['mixed'][i]:.2f}" for i in chosen)],
    ]
    error, spread = example.error("mixed"), float(truth.var())
    caption = f"Mean squared error {error:.2g}; the sinusoid itself varies by {spread:.2g}."
    show_table(Table(columns, rows, caption))


def _show_robot(folder: Path) -> Path | None:
    """Show the robot and write a page to `folder`; returns the page's file, or None without the extra."""
    say("\nThe same for a walking robot, the Unitree Go1.", "bold")
    try:
        from dmcm.quadruped import demo as go1
        from dmcm.quadruped.demo_page import build_page, error_table, walk_table
        from dmcm.quadruped.demo_walk import SOFT, STAIRS, run_walk_demo
        from dmcm.quadruped.dynamics.model import load_dynamics_model
        from dmcm.quadruped.walking.policy import POLICY, load_policy
    except ConfigError as error:
        say(f"Left out: {error}")
        return None
    slope = f"a slope of {go1.SLOPE.size:.0%}"
    say(
        "Its dynamics model is already trained: one vector for the robot (gains, payload, motors, delay), "
        "one for the terrain. A Go1 that training never saw walks on flat ground, the published Go1 on "
        f"{slope}. Each gives a vector; mixed, they predict the first on {slope}, where there are no data."
    )
    say(f"Simulating three recordings of {go1.SECONDS:g} s, adapting to the first half of each …", "dim")
    model, policy = load_dynamics_model(), load_policy(POLICY)[0]
    shown = go1.run_demo(model, policy, seconds=go1.SECONDS)
    show_table(error_table(shown), f"The unseen robot on {slope}: errors")
    say(f"Adapting to {shown.seconds:g} s of data took {shown.adapt_ms:.0f} ms.")
    stairs = f"stairs of {100 * STAIRS.size:g} cm"
    say(
        f"\nVectors in a policy: a robot softer ({SOFT.p_gain_nm_per_rad:g} N m/rad) and heavier "
        f"({SOFT.payload_kg:g} kg of load) than any in training walks on flat ground, then meets {stairs} …",
        "dim",
    )
    walk = run_walk_demo(model, policy)
    say(
        f"From {walk.seconds:g} s of its log, its vector gives a P gain of {walk.gains[0]:.0f} N m/rad. "
        "The vector of the stairs, from the published robot, chooses the gait."
    )
    show_table(walk_table(walk), f"The soft robot on {stairs}")
    return write_page(RunFolder(folder), build_page(shown, walk))
