"""Logs as MCAP files with ROS 2 messages, as rosbag2 records them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dmcm.errors import DataError, DmcmError, StorageError, unknown_name
from dmcm.quadruped.body.robot_table import JOINT_NAMES
from dmcm.quadruped.logs.channels import Channel, check_complete
from dmcm.quadruped.logs.findings import Finding
from dmcm.quadruped.logs.mapping import LogMapping, Source
from dmcm.quadruped.logs.quantities import MAPPED

_APART_WARNED_S, _APART_REFUSED_S = 0.01, 0.5
"""Difference between stamps of headers and of the recorder, if both are used: half a step, more than
transport takes."""


def read_mcap(path: Path, mapping: LogMapping) -> tuple[dict[str, Channel], list[Finding]]:
    """Read an MCAP file, or a folder that rosbag2 wrote with one or more of them.

    Args:
        path: a file or a folder.
        mapping: with topics and fields of each quantity.

    Returns:
        Channels by names of `MAPPED`, and what was found missing or strange. A message whose field is an
        empty list is not a sample: ROS marks missing values like that.

    Raises:
        StorageError: no such file, not MCAP, damaged, or no library that reads it.
        DataError: needed quantities are missing, or fields are missing or are not numbers.
    """
    files = _files(path)
    types = {topic: kind for file in files for topic, kind in _topics(file).items()}
    absent = {}
    for name, source in mapping.sources.items():
        if source.topic is None:
            absent[name] = f"the mapping has no topic for it ([{name}] only has columns)"
        elif source.topic not in types:
            absent[name] = unknown_name("topic", source.topic, types)
    readers = {
        name: _Reader(name, source, mapping) for name, source in mapping.sources.items() if name not in absent
    }
    topics = sorted({str(reader.topic) for reader in readers.values()})
    for file in files:
        for topic, log_ns, message in _messages(file, topics):
            for reader in readers.values():
                if reader.topic == topic:
                    reader.add(message, log_ns)
    for name, reader in readers.items():
        if not reader.rows:
            absent[name] = f"no message of {reader.topic} has numbers in {' and '.join(reader.source.fields)}"
    listing = [f"{topic} ({kind})" for topic, kind in types.items()]
    findings = check_complete(path.name, mapping, absent, listing, "topic")
    used = [reader for name, reader in readers.items() if name not in absent]
    return {reader.name: reader.channel() for reader in used}, findings + _clocks(used)


class _Reader:
    """Gathers the samples of one quantity."""

    def __init__(self, name: str, source: Source, mapping: LogMapping):
        self.name, self.source, self.topic = name, source, source.topic
        self.by_header = mapping.clock.stamp == "header"
        self.joints = [mapping.joint_names.get(joint, joint) for joint in JOINT_NAMES]
        self.rows: list[list[float]] = []
        self.times_ns: list[int] = []
        self.log_ns: list[int] = []

    def add(self, message: Any, log_ns: int) -> None:
        """Take one message."""
        numbers = [number for field in self.source.fields for number in self._numbers(message, field)]
        if not numbers:
            return
        if self.source.names is not None:
            numbers = self._by_name(message, numbers)
        elif len(numbers) != len(self.source.order):
            raise DataError(
                f"{self.topic}: {' and '.join(self.source.fields)} has {len(numbers)} numbers, but "
                f"[{self.name}] names {len(self.source.order)} ({', '.join(self.source.order)}). Say in "
                "order which each is, with '-' for those not wanted."
            )
        stamp = getattr(getattr(message, "header", None), "stamp", None) if self.by_header else None
        self.times_ns.append(log_ns if stamp is None else stamp.sec * 10**9 + stamp.nanosec)
        self.log_ns.append(log_ns)
        self.rows.append(numbers)

    def channel(self) -> Channel:
        """The gathered samples."""
        values = self.source.convert(np.array(self.rows, np.float64), MAPPED[self.name])
        return Channel(np.array(self.times_ns, np.int64), values, self.source.rate_hz, self.source.on_change)

    def lateness_s(self) -> float:
        """Median time from stamp to log."""
        return float(np.median(np.subtract(self.log_ns, self.times_ns))) * 1e-9

    def _by_name(self, message: Any, numbers: Sequence[float]) -> list[float]:
        """Numbers in the library's order of joints."""
        names = list(_follow(message, str(self.source.names), str(self.topic)))
        if len(names) != len(numbers):
            raise DataError(
                f"{self.topic}: {self.source.names} has {len(names)} names for {len(numbers)} numbers of "
                f"{' and '.join(self.source.fields)}."
            )
        for joint in self.joints:
            if names.count(joint) != 1:
                raise DataError(
                    f"{self.topic}, {self.source.names}: {unknown_name('joint', joint, map(str, names))} "
                    "Each joint must occur once; say in [joint_names] what the log calls them."
                )
        return [numbers[names.index(joint)] for joint in self.joints]

    def _numbers(self, message: Any, field: str) -> list[float]:
        value = _follow(message, field, str(self.topic))
        listed = value if _is_list(value) else [value]
        for number in listed:
            if not isinstance(number, int | float):
                inner = f" It has {', '.join(_fields(number))}." if _fields(number) else ""
                raise DataError(
                    f"{self.topic}: field '{field}' is not a number or a list of numbers.{inner} Give the "
                    "path of each number, such as angular_velocity.x."
                )
        return [float(number) for number in listed]


def _is_list(value: Any) -> bool:
    return hasattr(value, "__len__") and not isinstance(value, str | bytes)


def _fields(value: Any) -> tuple[str, ...]:
    """Names of a message's fields."""
    return tuple(getattr(type(value), "__slots__", ()))


def _follow(message: Any, path: str, topic: str) -> Any:
    """What a path such as "imu_state.gyroscope", "data.3" or "motor_state.q" leads to.

    A number picks from a list; a name applies to all items of a list.
    """
    value = message
    for part in path.split("."):
        try:
            if _is_list(value) and part.isdigit():
                value = value[int(part)]
            elif _is_list(value):
                value = [getattr(item, part) for item in value]
            else:
                value = getattr(value, part)
        except AttributeError as error:
            valid = _fields(value[0] if _is_list(value) else value)
            raise DataError(f"{topic}, path {path}: {unknown_name('field', part, valid)}") from error
        except IndexError as error:
            raise DataError(f"{topic}, path {path}: the list has {len(value)} entries.") from error
    return value


def _clocks(readers: Sequence[_Reader]) -> list[Finding]:
    """Whether stamps of headers and of the recorder, if both are used, come from one clock."""
    late = {reader.name: reader.lateness_s() for reader in readers}
    logged = [name for name, reader in zip(late, readers, strict=True) if reader.times_ns == reader.log_ns]
    apart = max((abs(value) for value in late.values()), default=0.0)
    if not logged or apart < _APART_WARNED_S:
        return []
    level = "refused" if apart > _APART_REFUSED_S else "warning"
    return [
        Finding(
            "clock",
            level,
            f"{', '.join(logged)} have the recorder's time, but the others' headers differ from it by "
            f'{apart:.3g} s. Set time = "log" in [clock] to take the recorder\'s time for all.',
        )
    ]


def _files(path: Path) -> list[Path]:
    """The file, or those of a folder in the order in which rosbag2 wrote them."""
    if not path.exists():
        raise StorageError(f"there is no file {path}.")
    if not path.is_dir():
        return [path]
    files = list(path.glob("*.mcap"))
    if not files:
        names = ", ".join(sorted(entry.name for entry in path.iterdir())) or "nothing"
        raise StorageError(f"the folder {path} holds no .mcap file, only {names}.")
    return sorted(files, key=lambda file: [int(n) for n in re.findall(r"\d+", file.stem)])


def _topics(file: Path) -> dict[str, str]:
    """Types of messages by topic."""
    with _opened(file) as reader:
        summary = reader.get_summary()
        if summary is not None:
            schemas = summary.schemas
            pairs = [(channel, schemas.get(channel.schema_id)) for channel in summary.channels.values()]
        else:
            pairs = [(channel, schema) for schema, channel, _ in reader.iter_messages(log_time_order=False)]
    return {channel.topic: schema.name if schema else "?" for channel, schema in pairs}


def _messages(file: Path, topics: list[str]) -> Iterator[tuple[str, int, Any]]:
    """Topic, time of logging and content of messages, in the order of the file."""
    from mcap_ros2.decoder import DecoderFactory

    factory, decoders = DecoderFactory(), {}
    for schema, channel, message in _records(file, topics):
        if channel.id not in decoders:
            try:
                decoders[channel.id] = factory.decoder_for(channel.message_encoding, schema)
            except Exception as error:  # the parser of definitions may raise anything
                raise StorageError(
                    f"{file}: the message definition of {channel.topic} is damaged: {error}"
                ) from error
            if decoders[channel.id] is None:
                raise DataError(
                    f"{file.name}: messages of {channel.topic} are '{channel.message_encoding}' with "
                    f"'{schema.encoding if schema else 'no'}' definitions; ROS 2 messages (cdr, ros2msg) can "
                    "be read."
                )
        try:
            content = decoders[channel.id](message.data)
        except Exception as error:  # of a parser of bytes: damage has many names
            raise StorageError(f"{file}: a message of {channel.topic} is damaged: {error}") from error
        yield channel.topic, message.log_time, content


def _records(file: Path, topics: list[str]) -> Iterator[tuple[Any, Any, Any]]:
    """Schema, channel and raw message of every message, in the order of the file."""
    with _opened(file) as reader:
        yield from reader.iter_messages(topics, log_time_order=False)


@contextlib.contextmanager
def _opened(file: Path) -> Iterator[Any]:
    """A reader of the file; whatever it cannot parse counts as damage."""
    try:
        import mcap_ros2  # noqa: F401
        from mcap.reader import make_reader
    except ImportError as error:
        raise DmcmError("MCAP files need more packages: pip install 'dmcm[quadruped]'.") from error
    try:
        with file.open("rb") as stream:
            yield make_reader(stream, validate_crcs=True)
    except OSError as error:
        raise StorageError(f"{file} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # of a parser of bytes: damage has many names
        raise StorageError(
            f"{file} is not an MCAP file, or it is damaged or was cut off ({error}). `mcap recover` saves "
            "what can be read of a recording that was not closed."
        ) from error
