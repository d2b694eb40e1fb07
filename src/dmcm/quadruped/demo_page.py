"""The page of the Go1 demonstration: errors with and without vectors, and what they look like."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from dmcm.plots import ORANGE, POINTS, PURPLE, TRUTH, house_style, panels, set_title, shared_legend
from dmcm.quadruped.body.robot_table import JOINT_NAMES, load_robot
from dmcm.quadruped.conditioned.suite import ENOUGH
from dmcm.quadruped.demo import QUANTITIES, ROBOT_NAME, SLOPE, UNSEEN, WAYS, Demo
from dmcm.quadruped.demo_walk import EPISODE_S, SOFT, STAIRS, TOLD, WalkDemo
from dmcm.quadruped.walking.gait import SETTINGS, Gait
from dmcm.quadruped.world.rendering import standing_images
from dmcm.quadruped.world.simulation import CONTROL_PERIOD_S
from dmcm.quadruped.world.terrain import Terrain
from dmcm.report import Block, Facts, Film, Headline, Page, Picture, Section, Table, show_number

_DRAWN = {"none": ORANGE, "mixed": PURPLE}


def error_table(demo: Demo, *, relative: bool = False) -> Table:
    """Errors of all shown outputs, one row per way of `WAYS`.

    Args:
        demo: what was measured.
        relative: in standard deviations of the truth instead of each output's unit.
    """
    error = demo.relative_error if relative else demo.error
    units = ("" if relative else f" ({quantity.unit})" for quantity in QUANTITIES.values())
    columns = ("vectors", *(q.title + unit for q, unit in zip(QUANTITIES.values(), units, strict=True)))
    rows = [[title, *(error(way, name) for name in QUANTITIES)] for way, title in WAYS.items()]
    caption = (
        "The same in units of the standard deviation of the truth: 1 is as bad as a constant."
        if relative
        else "Root mean squared errors. Torque is that at the end of the next control step; the others are "
        "of the coming second: mean size of the torques, mean distance of the joints from their targets, "
        "climb and mean pitch of the trunk."
    )
    return Table(columns, rows, caption)


def walk_table(walk: WalkDemo) -> Table:
    """Outcomes of the episodes on the stairs, one row per way of `TOLD`."""
    count = len(next(iter(walk.walks.values())).fell)
    columns = ("policy", f"climbed (of {count})", "fell", "path (m)")
    rows = [
        [title, walk.climbed(way), int(walk.walks[way].fell.sum()), float(walk.walks[way].path_m.mean())]
        for way, title in TOLD.items()
    ]
    caption = (
        f"Episodes of {EPISODE_S:g} s by the mean action, the same starts and commands for all. Climbed: no "
        f"fall, and at least {ENOUGH:.0%} of the commanded distance. One robot on one ground shows what the "
        "vectors do, not which policy is best: that takes the suite of `dmcm quadruped evaluate-policy`."
    )
    return Table(columns, rows, caption)


def build_page(demo: Demo, walk: WalkDemo) -> Page:
    """The page."""
    duration = f"{demo.seconds:g} s"
    return Page(
        "A robot on a slope it never walked",
        f"A Go1 that training never saw was recorded for {duration} on flat ground, the published Go1 for "
        f"{duration} on a slope of {SLOPE.size:.0%}. The robot vector of the first and the terrain vector of "
        "the second, mixed, predict the first robot on the slope; none of its samples from there were used.",
        (_headline(demo),),
        (
            Section("Robot and grounds", (*_view(), _body())),
            Section(
                "What the vectors are worth",
                (
                    f"Errors on the unseen robot on the slope, {len(demo.step)} samples of {duration}. The "
                    "last row is a bound, not a competitor: its vectors come from this robot on this slope, "
                    f"from the {duration} before.",
                    error_table(demo),
                    error_table(demo, relative=True),
                ),
            ),
            Section(
                "What it looks like",
                (
                    Picture.of(
                        torque_picture(demo),
                        "Mean size of each joint's torque over the coming second, averaged over the "
                        f"recording's second half. Root mean squared error of single samples: "
                        f"{_both(demo, 'mean_torque_1s')}. The closer to the pale truth, the better.",
                        "Torques of the joints",
                    ),
                    Picture.of(
                        pitch_picture(demo),
                        "Mean pitch over the coming second, along the recording; positive with the nose up. "
                        f"Root mean squared error: {_both(demo, 'pitch_1s')}. Without a terrain vector the "
                        "model must guess the slope from what the robot senses at the moment.",
                        "Pitch along the recording",
                    ),
                ),
            ),
            Section("Walking by the vectors", _walked(walk)),
        ),
    )


def torque_picture(demo: Demo) -> Figure:
    """Mean torque of each joint: measured, without vectors, and with both mixed."""
    at = np.arange(len(JOINT_NAMES))
    with house_style():
        figure, axes = panels(1, 1, height=3.4)
        axis = axes[0, 0]
        truth = demo.values("truth", "mean_torque_1s").mean(axis=0)
        axis.hlines(truth, at - 0.35, at + 0.35, label="truth", **_as_bars(TRUTH))
        for way, colour in _DRAWN.items():
            axis.plot(
                at, demo.values(way, "mean_torque_1s").mean(axis=0), color=colour, label=WAYS[way], **POINTS
            )
        axis.set_xticks(at, [name.replace("_", "\n") for name in JOINT_NAMES])
        axis.grid(visible=False, axis="x")
        axis.set_ylabel("mean torque (N m)")
        shared_legend(figure, [axis])
    return figure


def pitch_picture(demo: Demo) -> Figure:
    """Pitch over the coming second along the recording: measured, without vectors, with both mixed."""
    with house_style():
        figure, axes = panels(1, 1, height=3.2)
        axis = axes[0, 0]
        time, truth = _unbroken(demo, demo.values("truth", "pitch_1s")[:, 0])
        axis.plot(time, truth, label="truth", **TRUTH)
        for way, colour in _DRAWN.items():
            values = demo.values(way, "pitch_1s")[:, 0]
            axis.plot(*_unbroken(demo, values), color=colour, label=WAYS[way])
        axis.set_xlabel("seconds since the recording began")
        axis.set_ylabel("mean pitch (°)")
        shared_legend(figure, [axis])
    return figure


def _unbroken(demo: Demo, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Time (s) and values at every stride; NaN where a fall left no sample, so that no line bridges it."""
    step = np.arange(demo.step[0], demo.step[-1] + 1, demo.stride)
    filled = np.full(len(step), np.nan)
    filled[(demo.step - step[0]) // demo.stride] = values
    return step * CONTROL_PERIOD_S, filled


def _view() -> Sequence[Block]:
    """The robot on both grounds, where this machine can draw it."""
    grounds = {"flat": Terrain(), f"slope of {SLOPE.size:.0%}": SLOPE}
    images = standing_images(load_robot(ROBOT_NAME), list(grounds.values()))
    if images is None:
        return ()
    with house_style():
        figure, axes = panels(1, len(grounds), height=2.9)
        for axis, image, title in zip(axes[0], images, grounds, strict=True):
            axis.set_axis_off()
            axis.imshow(image)
            set_title(axis, title)
    caption = "The robot at rest on both grounds, seen from its right. It walks to the right."
    return (Picture.of(figure, caption, "The robot on both grounds"),)


def _walked(walk: WalkDemo) -> tuple[Block, ...]:
    """What the vectors of a robot and of a ground are worth to a policy."""
    soft, (stiffness, damping) = SOFT, walk.gains
    lift, usual = (
        100 * settings[SETTINGS.index("swing_height_m")] for settings in (walk.gait, Gait().settings)
    )
    robot = (
        f"Another robot, from outside training: a P gain of {soft.p_gain_nm_per_rad:g} N m/rad where the "
        f"published one is 35 and training covered 25 to 45, and {soft.payload_kg:g} kg on its back. It "
        f"walked {walk.seconds:g} s on flat ground, falls included. Its vector gives a P gain of "
        f"{stiffness:.0f} N m/rad and a D gain of {damping:.2f} N m s/rad (true: "
        f"{soft.d_gain_nms_per_rad:g}), and joint targets compensate for both. Then it meets stairs of "
        f"{100 * STAIRS.size:g} cm, where it was never recorded. All rows use the same actor."
    )
    stairs = (
        f"The vector of the stairs is from {walk.seconds:g} s of the published robot there. In the last row "
        f"it chooses the gait: feet are lifted by {lift:.0f} cm instead of {usual:.0f}."
    )
    if walk.gif is None:
        return (robot, stairs, walk_table(walk))
    caption = "One episode with the same seed, not hand-picked. A pane stops where its robot falls."
    return (robot, stairs, walk_table(walk), Film(walk.gif, caption, "A soft robot on stairs"))


def _body() -> Facts:
    return Facts(dataclasses.asdict(UNSEEN), "Body of the unseen robot")


def _headline(demo: Demo) -> Headline:
    items = [
        (
            f"{show_number(demo.error('none', name))} → {show_number(demo.error('mixed', name))} "
            f"{QUANTITIES[name].unit}",
            f"error of the {QUANTITIES[name].title} over the coming second: no vectors → both, mixed",
        )
        for name in ("mean_torque_1s", "pitch_1s")
    ]
    items.append((f"{demo.adapt_ms:.0f} ms", f"from {demo.seconds:g} s of data to vectors, once compiled"))
    return Headline(tuple(items))


def _both(demo: Demo, name: str) -> str:
    unit = QUANTITIES[name].unit
    return " and ".join(
        f"{show_number(demo.error(way, name))} {unit} with {WAYS[way]}".replace("both, mixed", "both mixed")
        for way in _DRAWN
    )


def _as_bars(style: dict) -> dict:
    """A line's style as `hlines` takes it."""
    return {"color": style["color"], "linewidth": style["linewidth"], "alpha": style["alpha"]}
