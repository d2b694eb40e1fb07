"""Run a walking policy from an ONNX file, with only numpy and onnxruntime.

    dmcm quadruped export-policy --out policy.onnx
    python examples/run_policy.py policy.onnx

A policy that reads vectors needs their numbers after the file's name. On a robot, replace `read_sensors` and
send the joint targets to its joint controllers every `control_period_s`.
"""

import json
import pathlib
import sys

import numpy as np
import onnxruntime

COMMAND = np.array([0.5, 0.0, 0.2])  # forward and left, m/s; yaw rate, rad/s
STEPS = 5


def read_sensors(contract):
    """A standing robot: trunk frame x forward, y left, z up; joints and legs in the contract's order."""
    return {
        "gyro_rad_s": np.zeros(3),
        "gravity_direction": np.array([0.0, 0.0, -1.0]),
        "joint_angles_rad": np.array(contract["home_pose_rad"]),
        "joint_speeds_rad_s": np.zeros(12),
        "foot_forces_n": np.full(4, 30.0),
    }


def observe(sensors, previous_action, phase, contract):
    """Parts of an observation by name."""
    return {
        "gyro_rad_s": sensors["gyro_rad_s"],
        "gravity_direction": sensors["gravity_direction"],
        "command": COMMAND,
        "joint_offsets_rad": sensors["joint_angles_rad"] - contract["home_pose_rad"],
        "joint_speeds_rad_s": sensors["joint_speeds_rad_s"],
        "previous_action": previous_action,
        "gait_phase": np.array([np.sin(2 * np.pi * phase), np.cos(2 * np.pi * phase)]),
        "foot_contact": sensors["foot_forces_n"] > contract["contact_n"],
    }


def row(parts, names):
    """Parts as one row in single precision."""
    return np.concatenate([parts[name] for name in names]).astype(np.float32)[None]


def gait_joints(phase, gait, contract):
    """Joint angles of a trot, shape (12,), rad: a cycle of the feet, then inverse kinematics."""
    side = np.array(contract["side_offset_m"])
    thigh, calf = contract["thigh_length_m"], contract["calf_length_m"]
    hip_x, hip_y = np.array(contract["hip_position_m"]).T
    cycle = (phase + np.array(contract["gait_leg_offset"])) % 1.0
    swings = cycle < 0.5
    share = np.where(swings, cycle, cycle - 0.5) * 2.0
    along = np.where(swings, 0.5 - 0.5 * np.cos(np.pi * share), 1.0 - share) - 0.5
    stance_s = 0.5 / contract["gait_frequency_hz"]
    x = (
        along * (COMMAND[0] * gait["forward_share"] - COMMAND[2] * (hip_y + side)) * stance_s
        + gait["shift_m"]
    )
    y = along * (COMMAND[1] + COMMAND[2] * hip_x) * stance_s + side
    z = np.where(swings, gait["swing_height_m"] * np.sin(np.pi * share), 0.0) - gait["stance_height_m"]

    down = np.sqrt(np.maximum(y**2 + z**2 - side**2, 1e-6))
    hip = np.arctan2(z, y) - np.arctan2(-down, side)
    cosine = (x**2 + down**2 - thigh**2 - calf**2) / (2 * thigh * calf)
    knee = -np.arccos(np.clip(cosine, -1.0, 1.0))
    flexion = np.arctan2(-x, down) - np.arctan2(calf * np.sin(knee), thigh + calf * np.cos(knee))
    angles = np.stack([(hip + np.pi) % (2 * np.pi) - np.pi, flexion, knee], axis=1)
    return np.clip(angles.ravel(), *np.array(contract["joint_limits_rad"]).T)


def matched(targets, sensors, shares, contract):
    """Targets with which a robot's own P and D gains give the torques of nominal gains and `targets`."""
    stiffness, damping = shares
    speeds = sensors["joint_speeds_rad_s"]
    angles = sensors["joint_angles_rad"] + contract["gain_lead_s"] * speeds
    time_s = contract["d_gain_nms_per_rad"] / contract["p_gain_nm_per_rad"]
    return angles + (targets - angles) / stiffness + speeds * time_s * (damping - 1.0) / stiffness


def main(path, vectors):
    """Print the joint targets of a few control steps."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    contract = json.loads(session.get_modelmeta().custom_metadata_map["dmcm"])
    if contract["format"] != 5:
        sys.exit(f"{path} has a contract of format {contract['format']}; this example reads 5.")
    wanted = sum(size for _, size in contract["vectors"])
    if len(vectors) != wanted:
        sys.exit(
            f"{path} reads the vectors {contract['vectors']}: give {wanted} numbers, not {len(vectors)}."
        )
    names = [name for name, _ in contract["observation"]]
    stride = contract["past_stride_steps"]
    phase, action, past = 0.0, np.zeros(12), []
    gait = {name.removeprefix("gait_"): number for name, number in contract.items()}
    for step in range(STEPS):
        sensors = read_sensors(contract)
        parts = observe(sensors, action, phase, contract)
        inputs = {"observation": row(parts, names)}
        if vectors:
            inputs["vectors"] = np.array([vectors], np.float32)
        if contract["past_frames"]:
            frame, length = row(parts, contract["past_parts"]), contract["past_frames"] * stride
            past = [*past, frame][-length:] if past else [frame] * length
            inputs["past"] = np.concatenate(past[stride - 1 :: stride], axis=1)
        found = zip(session.get_outputs(), session.run(None, inputs), strict=True)
        given = {output.name: np.asarray(values)[0].astype(float) for output, values in found}
        action = np.clip(given["action"], -contract["action_limit"], contract["action_limit"])
        if "gait_settings" in given:
            gait = dict(zip(contract["gait_settings"], given["gait_settings"], strict=True))
        targets = gait_joints(phase, gait, contract) + contract["action_scale_rad"] * action
        targets = np.clip(targets, *np.array(contract["joint_limits_rad"]).T)
        if "gain_shares" in given:
            targets = matched(targets, sensors, given["gain_shares"], contract)
        # Here a robot sends the targets to its joint controllers and waits for the next control step.
        print(f"{step * contract['control_period_s']:.2f} s, joint targets in rad:")
        for name, target in zip(contract["joints"], targets, strict=True):
            print(f"  {name:<8} {target:9.6f}")
        phase = (phase + contract["gait_frequency_hz"] * contract["control_period_s"]) % 1.0


if __name__ == "__main__":
    if len(sys.argv) < 2 or not pathlib.Path(sys.argv[1]).is_file():
        sys.exit(__doc__)
    main(sys.argv[1], [float(number) for number in sys.argv[2:]])
