"""Another implementation of Arrow, to judge what the relay reads and writes.

    arrow.py describe FILE...           schema and rows of messages, as JSON
    arrow.py same FILE FILE NAME...     columns of two messages that differ, as JSON
    arrow.py rewrite FILE OUT           the same record, written by pyarrow
"""

import json
import sys

import pyarrow as pa


def read(path):
    with open(path, "rb") as file:
        reader = pa.ipc.open_stream(file.read())
    batches = list(reader)
    assert len(batches) == 1, len(batches)
    batches[0].validate(full=True)
    return batches[0]


def shape(name, kind, nullable, depth=0):
    """A line for each field, those within a field indented."""
    null = "" if nullable else " not null"
    lead = "  " * depth + name + ": "
    if isinstance(kind, pa.BaseExtensionType):
        return [lead + kind.extension_name + null]
    if pa.types.is_dictionary(kind):
        return [lead + f"dictionary {kind.index_type}" + null] + shape(
            "values", kind.value_type, True, depth + 1
        )
    if pa.types.is_run_end_encoded(kind):
        return [lead + f"runs {kind.run_end_type}" + null] + shape(
            "values", kind.value_type, True, depth + 1
        )
    if pa.types.is_nested(kind):
        lines = [lead + str(kind).split("<")[0] + null]
        for field in (kind.field(i) for i in range(kind.num_fields)):
            lines += shape(field.name, field.type, field.nullable, depth + 1)
        return lines
    return [lead + str(kind) + null]


def plain(column):
    """The values of a column, texts as texts and times as numbers."""
    if pa.types.is_timestamp(column.type):
        column = column.cast(pa.int64())
    return [text(value) for value in column.to_pylist()]


def text(value):
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value.hex()
    if isinstance(value, list):
        return [text(item) for item in value]
    if isinstance(value, dict):
        return {key: text(item) for key, item in value.items()}
    if hasattr(value, "bytes"):
        return value.bytes.hex()
    return value


def describe(path):
    batch = read(path)
    lines = []
    for field in batch.schema:
        lines += shape(field.name, field.type, field.nullable)
    metadata = {k.decode(): v.decode() for k, v in (batch.schema.metadata or {}).items()}
    columns = {name: plain(batch.column(name)) for name in batch.schema.names}
    for name in ("stacktrace_id",):
        if name in batch.schema.names and not isinstance(
            batch.schema.field(name).type, pa.BaseExtensionType
        ):
            columns[name] = [value.hex() for value in batch.column(name).to_pylist()]
    return {"metadata": metadata, "schema": lines, "columns": columns}


def main():
    command, *args = sys.argv[1:]
    if command == "describe":
        print(json.dumps([describe(path) for path in args]))
    elif command == "same":
        one, other = read(args[0]), read(args[1])
        names = list(dict.fromkeys(one.schema.names + other.schema.names))
        differ = [
            name
            for name in names
            if name not in one.schema.names
            or name not in other.schema.names
            or one.schema.field(name) != other.schema.field(name)
            or not one.column(name).equals(other.column(name))
        ]
        print(json.dumps(differ))
    elif command == "rewrite":
        batch = read(args[0])
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with pa.OSFile(args[1], "wb") as sink:
            with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
                writer.write_batch(batch)
    else:
        sys.exit(__doc__)


main()
