"""OTLP profiles as opentelemetry-proto and protobuf's own runtime have them."""

import base64
import json
import time

from google.protobuf import json_format
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service
from opentelemetry.proto.common.v1 import common_pb2 as common
from opentelemetry.proto.profiles.v1development import profiles_pb2 as profiles

PATH = "/v1development/profiles"
PROTOBUF = "application/x-protobuf"
JSON = "application/json"

# Bytes that OTLP/JSON has as hex and protobuf's own JSON as base64.
IDS = ("traceId", "spanId", "profileId")

# What a made-up program does: its stacks, leaf first, and their values.
STACKS = [
    (("leaf", "mid", "main"), 700),
    (("mid", "main"), 50),
    (("main",), 3),
    (("leaf", "main"), 1),
]


class Dictionary:
    """Tables without an entry twice, each beginning with its zero value."""

    def __init__(self, message):
        self.message = message
        self.known = {}
        for table, zero in (
            (message.mapping_table, profiles.Mapping()),
            (message.location_table, profiles.Location()),
            (message.function_table, profiles.Function()),
            (message.link_table, profiles.Link(trace_id=bytes(16), span_id=bytes(8))),
            (message.attribute_table, profiles.KeyValueAndUnit()),
            (message.stack_table, profiles.Stack()),
        ):
            table.append(zero)
        message.string_table.append("")
        self.known["string", ""] = 0

    def string(self, text):
        return self.entry("string", text, self.message.string_table, lambda: text)

    def function(self, name):
        def make():
            text = self.string(name)
            return profiles.Function(
                name_strindex=text,
                system_name_strindex=text,
                filename_strindex=self.string(f"/src/{name}.c"),
                start_line=1,
            )

        return self.entry("function", name, self.message.function_table, make)

    def mapping(self, path):
        def make():
            build_id = self.attribute("process.executable.build_id.gnu", "abcdef0123456789")
            return profiles.Mapping(
                memory_start=0x1000,
                memory_limit=0x9000,
                filename_strindex=self.string(path),
                attribute_indices=[build_id],
            )

        return self.entry("mapping", path, self.message.mapping_table, make)

    def location(self, name):
        def make():
            table = self.message.location_table
            return profiles.Location(
                mapping_index=self.mapping("/usr/bin/made-up"),
                address=0x1000 + 16 * len(table),
                lines=[profiles.Line(function_index=self.function(name), line=10 + len(table))],
            )

        return self.entry("location", name, self.message.location_table, make)

    def stack(self, names):
        def make():
            return profiles.Stack(location_indices=[self.location(name) for name in names])

        return self.entry("stack", names, self.message.stack_table, make)

    def attribute(self, key, value, unit=""):
        def make():
            return profiles.KeyValueAndUnit(
                key_strindex=self.string(key),
                value=any_value(value),
                unit_strindex=self.string(unit),
            )

        return self.entry("attribute", (key, value, unit), self.message.attribute_table, make)

    def entry(self, kind, key, table, make):
        at = self.known.get((kind, key))
        if at is None:
            made = make()
            table.append(made)
            at = self.known[kind, key] = len(table) - 1
        return at


def any_value(value):
    if isinstance(value, bool):
        return common.AnyValue(bool_value=value)
    if isinstance(value, int):
        return common.AnyValue(int_value=value)
    return common.AnyValue(string_value=value)


def request(services, per_service=1, indexed=False):
    """A request with CPU profiles of a made-up program for each service; with
    `indexed` its resource attributes are in the dictionary."""
    message = service.ExportProfilesServiceRequest()
    dictionary = Dictionary(message.dictionary)
    for name in services:
        resource = message.resource_profiles.add()
        for key, value in (("service.name", name), ("process.pid", 7)):
            attribute = resource.resource.attributes.add()
            if indexed and isinstance(value, str):
                attribute.key_strindex = dictionary.string(key)
                attribute.value.string_value_strindex = dictionary.string(value)
            else:
                attribute.key = key
                attribute.value.CopyFrom(any_value(value))
        scope = resource.scope_profiles.add()
        scope.scope.name = "process_cpu"
        for place in range(per_service):
            add_profile(scope.profiles.add(), dictionary, place)
    return message


def add_profile(profile, dictionary, place):
    now = time.time_ns()
    profile.sample_type.type_strindex = dictionary.string("cpu")
    profile.sample_type.unit_strindex = dictionary.string("nanoseconds")
    profile.period_type.CopyFrom(profile.sample_type)
    profile.period = 10_000_000
    profile.time_unix_nano = now - 10_000_000_000
    profile.duration_nano = 10_000_000_000
    profile.profile_id = bytes([place % 256]) + bytes(range(1, 16))
    thread = dictionary.attribute("thread.name", "worker")
    for names, value in STACKS:
        profile.samples.add(
            stack_index=dictionary.stack(names),
            attribute_indices=[thread],
            values=[value],
        )


def totals(message):
    """Of a request: by service and sample type, what each function has itself."""
    dictionary = message.dictionary
    text = dictionary.string_table
    sums = {}
    for resource in message.resource_profiles:
        attributes = dict(text_attributes(resource.resource, text))
        by_type = sums.setdefault(attributes.get("service.name", ""), {})
        for profile in profiles_of(resource):
            kind = profile.sample_type
            name = f"{text[kind.type_strindex]}/{text[kind.unit_strindex]}"
            by_function = by_type.setdefault(name, {})
            for sample in profile.samples:
                leaf = leaf_of(dictionary, sample.stack_index)
                value = sum(sample.values) if sample.values else len(sample.timestamps_unix_nano)
                by_function[leaf] = by_function.get(leaf, 0) + value
    return sums


def profiles_of(resource):
    return [profile for scope in resource.scope_profiles for profile in scope.profiles]


def leaf_of(dictionary, stack):
    locations = dictionary.stack_table[stack].location_indices
    if not locations:
        return ""
    lines = dictionary.location_table[locations[0]].lines
    if not lines:
        return ""
    function = dictionary.function_table[lines[0].function_index]
    return dictionary.string_table[function.name_strindex]


def text_attributes(resource, text):
    for attribute in resource.attributes:
        key = attribute.key or text[attribute.key_strindex]
        if attribute.value.HasField("string_value"):
            yield key, attribute.value.string_value
        elif attribute.value.HasField("string_value_strindex"):
            yield key, text[attribute.value.string_value_strindex]


def to_json(message, hex_ids=True):
    """OTLP/JSON; with `hex_ids` off it is protobuf's own JSON."""
    tree = json_format.MessageToDict(message)
    if hex_ids:
        change_ids(tree, lambda text: base64.b64decode(text).hex())
    return json.dumps(tree).encode()


def from_json(text, message):
    tree = json.loads(text)
    change_ids(tree, lambda text: base64.b64encode(bytes.fromhex(text)).decode())
    return json_format.ParseDict(tree, message)


def change_ids(tree, change):
    if isinstance(tree, list):
        for item in tree:
            change_ids(item, change)
    elif isinstance(tree, dict):
        for key, value in tree.items():
            if key in IDS and isinstance(value, str):
                tree[key] = change(value)
            else:
                change_ids(value, change)
