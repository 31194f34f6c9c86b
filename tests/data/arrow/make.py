#!/usr/bin/env python3
"""Makes the Arrow messages in this folder, in the schemas of parca-agent, with
pyarrow (26 or newer). Three rows, two stacks; the values are made up.

    python3 make.py
"""

import pyarrow as pa
from pyarrow import ipc

TIME = 1_760_000_000_000_000_000
PERIOD, DURATION = 52_631_578, 1_000_000_000
STACKS = [bytes([1] * 16), bytes([2] * 16)]
ROWS = [0, 1, 0]  # the stack of each row
VALUES = [1, 1, 3]
LABELS = {"comm": ["api"] * 3, "node": ["n1"] * 3, "thread_id": ["7", "8", "7"]}
U32 = pa.uint32()


def dictionary(values, kind):
    encoded = pa.array(values, kind).dictionary_encode()
    return pa.DictionaryArray.from_arrays(encoded.indices.cast(U32), encoded.dictionary)


def runs(values, make):
    ends, first = [], []
    for at, value in enumerate(values):
        if at and value == values[at - 1]:
            ends[-1] = at + 1
        else:
            ends.append(at + 1)
            first.append(value)
    return pa.RunEndEncodedArray.from_arrays(pa.array(ends, pa.int32()), make(first))


def texts(values, kind=pa.binary()):
    return runs(values, lambda first: dictionary(first, kind))


def plain(values, kind):
    return runs(values, lambda first: pa.array(first, kind))


def record(columns, version, nullable=()):
    fields = [pa.field(name, array.type, name in nullable) for name, array in columns]
    schema = pa.schema(fields, {"parca_write_schema_version": version})
    return pa.RecordBatch.from_arrays([array for _, array in columns], schema=schema)


def write(name, batch, compression=None):
    options = ipc.IpcWriteOptions(compression=compression)
    with ipc.new_stream(name, batch.schema, options=options) as stream:
        stream.write_batch(batch)


def samples():
    labels = [("labels." + name, texts(values)) for name, values in LABELS.items()]
    constant = {
        "producer": "parca_agent",
        "sample_type": "samples",
        "sample_unit": "count",
        "period_type": "cpu",
        "period_unit": "nanoseconds",
        "temporality": "delta",
    }
    columns = labels + [
        ("stacktrace_id", texts([STACKS[row] for row in ROWS])),
        ("value", pa.array(VALUES, pa.int64())),
        *((name, texts([text] * 3)) for name, text in constant.items()),
        ("period", plain([PERIOD] * 3, pa.int64())),
        ("duration", plain([DURATION] * 3, pa.int64())),
        ("timestamp", plain([TIME, TIME + 1, TIME + 2], pa.int64())),
    ]
    return record(columns, "v1", [name for name, _ in labels])


# (frame type, address, mapping file, build id, function, file, line)
LEAF = ("native", 0x1234, "api", "abcd", None, None, 0)
MAIN = ("cpython", 0, None, None, "main", "main.py", 12)
IDLE = ("kernel", 0xFF, "[kernel.kallsyms]", None, "do_idle", "vmlinux", 0)
FRAMES = [[LEAF, MAIN], [IDLE, MAIN]]


def struct(columns):
    fields = [pa.field(name, array.type, False) for name, array in columns]
    return pa.StructArray.from_arrays([array for _, array in columns], fields=fields)


def stacks():
    frames = [frame for stack in FRAMES for frame in stack]
    lined = [frame for frame in frames if frame[4]]
    zeros = [0] * len(frames)
    lines = struct(
        [
            ("line", pa.array([frame[6] for frame in lined], pa.int64())),
            ("column", pa.array([0] * len(lined), pa.uint64())),
            ("function_name", dictionary([frame[4] for frame in lined], pa.binary())),
            ("function_system_name", dictionary([""] * len(lined), pa.binary())),
            ("function_filename", texts([frame[5] for frame in lined])),
            ("function_start_line", pa.array([0] * len(lined), pa.int64())),
        ]
    )
    ends = [0]
    for frame in frames:
        ends.append(ends[-1] + bool(frame[4]))
    locations = struct(
        [
            ("address", pa.array([frame[1] for frame in frames], pa.uint64())),
            ("frame_type", texts([frame[0] for frame in frames])),
            ("mapping_start", plain(zeros, pa.uint64())),
            ("mapping_limit", plain(zeros, pa.uint64())),
            ("mapping_offset", plain(zeros, pa.uint64())),
            ("mapping_file", texts([frame[2] for frame in frames])),
            ("mapping_build_id", texts([frame[3] for frame in frames])),
            ("lines", pa.ListArray.from_arrays(pa.array(ends, pa.int32()), lines)),
        ]
    )
    columns = [
        ("stacktrace_id", pa.array(STACKS, pa.binary())),
        ("is_complete", pa.array([True, True])),
        ("locations", pa.ListArray.from_arrays(pa.array([0, 2, 4], pa.int32()), locations)),
    ]
    return record(columns, "v1")


def ids(stacks):
    return record([("stacktrace_id", pa.array(stacks, pa.binary()))], "v1")


def nullable(columns):
    fields = [pa.field(name, array.type, null) for name, array, null in columns]
    return pa.StructArray.from_arrays([array for _, array, _ in columns], fields=fields)


def whole():
    text = pa.utf8()
    labels = nullable([(name, texts(values, text), True) for name, values in LABELS.items()])
    frames = [LEAF, MAIN, IDLE]
    lined = [frame for frame in frames if frame[4]]
    functions = nullable(
        [
            ("system_name", pa.array([f[4] for f in lined], pa.string_view()), True),
            ("filename", dictionary([f[5] for f in lined], text), True),
            ("start_line", pa.array([0] * len(lined), pa.uint64()), False),
        ]
    )
    numbers = pa.array(range(len(lined)), U32)
    lines = nullable(
        [
            ("line", pa.array([f[6] for f in lined], pa.uint64()), False),
            ("column", pa.array([0] * len(lined), pa.uint64()), False),
            ("function", pa.DictionaryArray.from_arrays(numbers, functions), False),
        ]
    )
    # The first frame has none: the store is to find its symbol.
    lines = pa.ListViewArray.from_arrays(
        pa.array([0, 0, 1], pa.int32()),
        pa.array([0, 1, 1], pa.int32()),
        lines,
        mask=pa.array([True, False, False]),
    )
    locations = nullable(
        [
            ("address", pa.array([f[1] for f in frames], pa.uint64()), False),
            ("frame_type", dictionary([f[0] for f in frames], text), True),
            ("mapping_file", dictionary([f[2] for f in frames], text), True),
            ("mapping_build_id", dictionary([f[3] for f in frames], text), True),
            ("lines", lines, True),
        ]
    )
    places = pa.array([0, 1, 2, 1], U32)
    stacktrace = pa.ListViewArray.from_arrays(
        pa.array([0, 2, 0], pa.int32()),
        pa.array([2, 2, 2], pa.int32()),
        pa.DictionaryArray.from_arrays(places, locations),
    )
    uuids = pa.array([STACKS[row] for row in ROWS], pa.binary(16))
    columns = [
        ("labels", labels),
        ("stacktrace", stacktrace),
        ("stacktrace_id", pa.ExtensionArray.from_storage(pa.uuid(), uuids)),
        ("value", pa.array(VALUES, pa.int64())),
        ("producer", plain(["parca_agent"] * 3, text)),
        ("sample_type", plain(["samples"] * 3, text)),
        ("sample_unit", plain(["count"] * 3, text)),
        ("period_type", plain(["cpu"] * 3, text)),
        ("period_unit", plain(["nanoseconds"] * 3, text)),
        ("temporality", plain(["delta"] * 3, text)),
        ("period", plain([PERIOD] * 3, pa.int64())),
        ("duration", plain([DURATION] * 3, pa.uint64())),
        ("timestamp", pa.array([TIME, TIME + 1, TIME + 2], pa.timestamp("ns", "UTC"))),
    ]
    return record(columns, "v2", ["stacktrace", "temporality"])


write("v1_samples.arrows", samples())
write("v1_ids.arrows", ids(STACKS))
write("v1_second_id.arrows", ids(STACKS[1:]))
write("v1_stacks.arrows", stacks())
write("v2.arrows", whole(), "lz4")
