"""Sends one OTLP request and prints the answer as a line of JSON.

    {"code": "OK", "message": "", "retry_delay": null, "rejected": 0,
     "warning": "", "totals": {SERVICE: {TYPE: {FUNCTION: VALUE}}}}

Over HTTP `status` is there too. `totals` are those of what was sent.
"""

import argparse
import gzip
import http.client
import json
import pathlib
import sys
import urllib.parse

import grpc
import otlp
from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service
from opentelemetry.proto.collector.profiles.v1development import (
    profiles_service_pb2_grpc as service_grpc,
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("endpoint", help="host:port for gRPC, a URL for HTTP")
    parser.add_argument("--protocol", choices=["grpc", "http", "json"], default="grpc")
    parser.add_argument("--service", action="append", help="may be repeated")
    parser.add_argument("--profiles", type=int, default=1, help="of each service")
    parser.add_argument("--indexed", action="store_true", help="resource attributes as indices")
    parser.add_argument("--file", type=pathlib.Path, help="an encoded request instead")
    parser.add_argument("--gzip", action="store_true")
    parser.add_argument("--base64-ids", action="store_true", help="in JSON")
    parser.add_argument("--header", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--timeout", type=float, default=30)
    return parser.parse_args()


def main():
    args = arguments()
    if args.file:
        request = service.ExportProfilesServiceRequest.FromString(args.file.read_bytes())
    else:
        request = otlp.request(args.service or ["api"], args.profiles, args.indexed)
    headers = dict(header.split("=", 1) for header in args.header)
    send = send_grpc if args.protocol == "grpc" else send_http
    answer = send(args, request, headers)
    answer["totals"] = otlp.totals(request)
    print(json.dumps(answer), flush=True)


def send_grpc(args, request, headers):
    compression = grpc.Compression.Gzip if args.gzip else grpc.Compression.NoCompression
    with grpc.insecure_channel(args.endpoint) as channel:
        stub = service_grpc.ProfilesServiceStub(channel)
        try:
            response = stub.Export(
                request,
                timeout=args.timeout,
                compression=compression,
                metadata=[(name.lower(), value) for name, value in headers.items()],
            )
        except grpc.RpcError as error:
            return refused_grpc(error)
    return accepted(response)


def refused_grpc(error):
    details = [v for k, v in error.trailing_metadata() or () if k == "grpc-status-details-bin"]
    status = status_pb2.Status.FromString(details[0]) if details else status_pb2.Status()
    return refused(error.code().name, error.details(), status)


def send_http(args, request, headers):
    as_json = args.protocol == "json"
    kind = otlp.JSON if as_json else otlp.PROTOBUF
    body = request.SerializeToString()
    if as_json:
        body = otlp.to_json(request, hex_ids=not args.base64_ids)
    headers["content-type"] = kind
    if args.gzip:
        body = gzip.compress(body)
        headers["content-encoding"] = "gzip"
    url = urllib.parse.urlsplit(args.endpoint)
    connection = http.client.HTTPConnection(url.netloc, timeout=args.timeout)
    connection.request("POST", url.path if len(url.path) > 1 else otlp.PATH, body, headers)
    told = connection.getresponse()
    content = told.read()
    if told.getheader("content-type", "").split(";")[0] != kind:
        sys.exit(f"{told.status} in {told.getheader('content-type')}: {content!r}")
    if told.status == 200:
        message = service.ExportProfilesServiceResponse()
        answer = accepted(parsed(content, message, as_json))
    else:
        status = parsed(content, status_pb2.Status(), as_json)
        answer = refused(code_pb2.Code.Name(status.code), status.message, status)
    answer["status"] = told.status
    answer["retry_after"] = told.getheader("retry-after")
    return answer


def parsed(content, message, as_json):
    if as_json:
        return json_format.Parse(content, message)
    message.ParseFromString(content)
    return message


def accepted(response):
    partial = response.partial_success
    return {
        "code": "OK",
        "message": "",
        "retry_delay": None,
        "rejected": partial.rejected_profiles,
        "warning": partial.error_message,
    }


def refused(code, message, status):
    delay = None
    for detail in status.details:
        info = error_details_pb2.RetryInfo()
        if detail.Unpack(info):
            delay = info.retry_delay.ToNanoseconds() / 1e9
    return {"code": code, "message": message, "retry_delay": delay, "rejected": 0, "warning": ""}


if __name__ == "__main__":
    main()
