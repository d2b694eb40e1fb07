"""A walking policy as an ONNX file, with its contract in the file's metadata."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from dmcm.errors import ConfigError, ShapeError, StorageError
from dmcm.quadruped.body.robot_table import load_robot
from dmcm.quadruped.conditioned.contract import EXPORT_AGAIN, Contract, make_contract, parse_contract
from dmcm.quadruped.walking.known_gains import D_SHARES, LOG_LIMIT, P_SHARES, GainReader
from dmcm.quadruped.walking.modulation import Modulation
from dmcm.quadruped.walking.policy import Policy, check_trained_for, load_policy
from dmcm.quadruped.walking.told_gait import HALF, MIDDLE, GaitReader
from dmcm.storage import write_atomic

try:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import helper, numpy_helper
except ImportError as error:
    raise ConfigError(f"export needs onnx ({error}). Install it: pip install 'dmcm[quadruped]'") from error

METADATA = "dmcm"
"""Name of the contract in a file's metadata."""
_OPSET, _IR_VERSION = 17, 8


def build_model(policy: Policy, contract: Contract) -> onnx.ModelProto:
    """The mean action of a policy as a checked ONNX graph, for any number of robots at once.

    Inputs are `contract.inputs`, shape (n, columns) each; outputs are `contract.outputs`: `action`, shape (n,
    12), not clipped; for policies that estimate gains `gain_shares`, shape (n, 2); and for policies that
    choose their gait `gait_settings`, shape (n, 4). All are single precision.

    Raises:
        ShapeError: the policy's input columns are not those of the contract.
    """
    inputs, reads = contract.inputs, policy.observation_scale.mean.size
    if sum(inputs.values()) != reads or inputs.get("past", 0) != policy.past:
        raise ShapeError(
            f"the policy reads {reads} columns, {policy.past} of them its past, but its contract says "
            f"{inputs}. Train it again with this version: dmcm quadruped train-policy."
        )
    # Standardising is affine and clipped: its slope at the mean and its largest value define it.
    scale = policy.observation_scale
    slope = np.asarray(jax.grad(lambda x: scale(x).sum())(scale.mean))
    limit = float(scale(jnp.full_like(scale.mean, jnp.inf))[0])
    graph, start, read = _Graph(), 0, "observation_scaled"
    heard = {name: name for name in inputs}
    if policy.modulation is not None:
        graph.cut("vectors", policy.modulation)
        heard["vectors"] = "vectors_cut"
    for name, size in inputs.items():
        columns = slice(start, start + size)
        graph.standardise(name, heard[name], np.asarray(scale.mean)[columns], slope[columns], limit)
        start += size
    if "vectors" in inputs and policy.modulation is None:
        graph.node("Concat", [read, "vectors_scaled"], "read", axis=1)
        read = "read"
    if policy.encoder is not None:
        graph.network("encoder", policy.encoder, "past_scaled", "summary")
        graph.node("Concat", [read, "summary"], "read", axis=1)
        read = "read"
    graph.network("actor", policy.actor, read, "action", policy.modulation)
    if policy.gains is not None:
        graph.gains(policy.gains, "vectors", "gain_shares")
    if policy.gait is not None and contract.gait_settings:
        graph.gait(policy.gait, "vectors", "gait_settings")

    def value(name: str, columns: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["n", columns])

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "policy",
            [value(name, size) for name, size in inputs.items()],
            [value(name, size) for name, size in contract.outputs.items()],
            graph.constants,
        ),
        producer_name="dmcm",
        ir_version=_IR_VERSION,
        opset_imports=[helper.make_opsetid("", _OPSET)],
    )
    helper.set_model_props(model, {METADATA: json.dumps(dataclasses.asdict(contract), allow_nan=False)})
    onnx.checker.check_model(model, full_check=True)
    return model


def export_policy(path: Path, out: Path, *, robot: str = "go1") -> Path:
    """Write a policy as an ONNX file with its contract.

    Args:
        path: file of the policy.
        out: file to write, *.onnx.
        robot: name of a robot that comes with the package, or path of its table.

    Returns:
        `out`.

    Raises:
        ConfigError: `out` does not end in .onnx, or the policy was trained with another robot.
        DataError: no such robot.
        ShapeError: the policy's input columns are not those of this version.
        StorageError: there is no policy, or the file cannot be written.
    """
    if out.suffix != ".onnx":
        raise ConfigError(f"out={out} must end in .onnx.")
    policy, about = load_policy(path)
    table = load_robot(robot)
    check_trained_for(path, about, robot, table)
    model = build_model(policy, make_contract(policy, about, table))
    write_atomic(out, model.SerializeToString(deterministic=True))
    return out


def read_contract(path: Path) -> Contract:
    """Read the contract of an exported file.

    Raises:
        ShapeError: the file's inputs or outputs have other sizes than its contract says.
        StorageError: no such file, not ONNX, no contract, or a contract of another format, order of joints or
            observation.
    """
    try:
        model = onnx.load_model_from_string(path.read_bytes())
        onnx.checker.check_model(model)
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror or error}. {EXPORT_AGAIN}") from error
    except (DecodeError, onnx.checker.ValidationError) as error:
        raise StorageError(f"{path} is damaged or not an ONNX file. {EXPORT_AGAIN}") from error
    texts = {entry.key: entry.value for entry in model.metadata_props}
    if METADATA not in texts:
        raise StorageError(f"{path} holds no contract: it is not from this library. {EXPORT_AGAIN}")
    contract = parse_contract(texts[METADATA])
    found = [
        (value.name, [size.dim_value for size in value.type.tensor_type.shape.dim])
        for value in (*model.graph.input, *model.graph.output)
    ]
    sizes = {**contract.inputs, **contract.outputs}
    if found != [(name, [0, size]) for name, size in sizes.items()]:
        raise ShapeError(
            f"{path} has inputs and outputs {found}, but its contract says {sizes}. {EXPORT_AGAIN}"
        )
    return contract


class _Graph:
    """Nodes and constants of a graph that is being built."""

    def __init__(self):
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        return name

    def cut(self, name: str, modulation: Modulation) -> None:
        self.node("Max", [name, self.constant(f"{name}_low", modulation.low)], f"{name}_raised")
        self.node("Min", [f"{name}_raised", self.constant(f"{name}_high", modulation.high)], f"{name}_cut")

    def standardise(self, name: str, heard: str, mean: np.ndarray, slope: np.ndarray, limit: float) -> None:
        self.node("Sub", [heard, self.constant(f"{name}_mean", mean)], f"{name}_centred")
        self.node("Mul", [f"{name}_centred", self.constant(f"{name}_slope", slope)], f"{name}_spread")
        ends = [self.constant(f"{name}_{end}", value) for end, value in (("least", -limit), ("most", limit))]
        self.node("Clip", [f"{name}_spread", *ends], f"{name}_scaled")

    def gains(self, reader: GainReader, read: str, output: str) -> None:
        slope, offset = self.constant("gain_slope", reader.slope), self.constant("gain_offset", reader.offset)
        self.node("Gemm", [read, slope, offset], "gains_said", transB=1)
        said = "gains_said"
        if reader.logarithmic:
            ends = [
                self.constant(f"gains_{end}", sign * LOG_LIMIT) for end, sign in (("least", -1), ("most", 1))
            ]
            self.node("Clip", ["gains_said", *ends], "gains_log")
            self.node("Exp", ["gains_log"], "gains_exp")
            said = "gains_exp"
        low, high = zip(P_SHARES, D_SHARES, strict=True)
        self.node("Max", [said, self.constant("gains_low", low)], "gains_raised")
        self.node("Min", ["gains_raised", self.constant("gains_high", high)], output)

    def gait(self, reader: GaitReader, read: str, output: str) -> None:
        self.node("Max", [read, self.constant("gait_low", reader.low)], "gait_raised")
        self.node("Min", ["gait_raised", self.constant("gait_high", reader.high)], "gait_read")
        slope, offset = self.constant("gait_slope", reader.slope), self.constant("gait_offset", reader.offset)
        self.node("Gemm", ["gait_read", slope, offset], "gait_said", transB=1)
        self.node("Tanh", ["gait_said"], "gait_bent")
        self.node("Mul", ["gait_bent", self.constant("gait_half", HALF)], "gait_spread")
        self.node("Add", ["gait_spread", self.constant("gait_middle", MIDDLE)], output)

    def network(
        self, name: str, mlp: eqx.nn.MLP, read: str, output: str, modulation: Modulation | None = None
    ) -> None:
        """A network, with its last hidden layer modulated by `vectors_scaled` or not."""
        for i, layer in enumerate(mlp.layers[:-1]):
            self.linear(f"{name}_{i}", layer, read, f"{name}_{i}")
            read = f"{name}_{i}_elu"
            self.node("Elu", [f"{name}_{i}"], read)
        if modulation is not None:
            self.linear("gain", modulation.gain, "vectors_scaled", "gain")
            self.linear("shift", modulation.shift, "vectors_scaled", "shift")
            self.node("Mul", [read, "gain"], "gained")
            self.node("Sum", [read, "gained", "shift"], "modulated")
            read = "modulated"
        self.linear(f"{name}_last", mlp.layers[-1], read, output)

    def linear(self, name: str, layer: eqx.nn.Linear, read: str, output: str) -> None:
        weights = [self.constant(f"{name}_weight", layer.weight)]
        if layer.bias is not None:
            weights.append(self.constant(f"{name}_bias", layer.bias))
        self.node("Gemm", [read, *weights], output, transB=1)
