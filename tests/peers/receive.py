"""Serves OTLP profiles over gRPC and HTTP on free ports of 127.0.0.1, until it is
ended or its standard input closes.

The first line it prints says where, each further one tells of a request:

    {"grpc": PORT, "http": PORT}
    {"protocol": "grpc", "compression": "gzip", "answer": "OK", "profiles": 1,
     "headers": {...}, "resources": [{ATTRIBUTE: VALUE}],
     "totals": {SERVICE: {TYPE: {FUNCTION: VALUE}}}}
"""

import argparse
import gzip
import http.server
import json
import os
import sys
import threading
from concurrent import futures

import grpc
import otlp
from google.protobuf import json_format
from google.rpc import code_pb2, error_details_pb2, status_pb2
from opentelemetry.proto.collector.profiles.v1development import profiles_service_pb2 as service
from opentelemetry.proto.collector.profiles.v1development import (
    profiles_service_pb2_grpc as service_grpc,
)

# OTLP's table of what is retryable, and its neighbours.
HTTP_STATUS = {"UNAVAILABLE": 503, "RESOURCE_EXHAUSTED": 429, "UNAUTHENTICATED": 401}


def arguments():
    parser = argparse.ArgumentParser(description="Receives OTLP profiles.")
    parser.add_argument("--refuse", type=int, default=0, help="the first so many requests")
    parser.add_argument("--code", default="UNAVAILABLE", help="what they are refused with")
    parser.add_argument("--retry-delay", type=float, help="RetryInfo and Retry-After, in seconds")
    parser.add_argument("--reject", type=int, default=0, help="profiles, as partial success")
    parser.add_argument("--message", default="as it was told", help="in refusals and rejections")
    return parser.parse_args()


class Backend:
    """Tells of each request and says what it is answered."""

    def __init__(self, args):
        self.args = args
        self.left = args.refuse
        self.lock = threading.Lock()

    def take(self, request, protocol, compression, headers):
        """The status to refuse it with, or nothing."""
        with self.lock:
            refused = self.left > 0
            self.left -= refused
            text = request.dictionary.string_table
            resources = request.resource_profiles
            told = {
                "protocol": protocol,
                "compression": compression,
                "answer": self.args.code if refused else "OK",
                "profiles": sum(len(otlp.profiles_of(resource)) for resource in resources),
                "headers": headers,
                "resources": [dict(otlp.text_attributes(r.resource, text)) for r in resources],
                "totals": otlp.totals(request),
            }
            print(json.dumps(told), flush=True)
        return self.status() if refused else None

    def status(self):
        code = code_pb2.Code.Value(self.args.code)
        status = status_pb2.Status(code=code, message=self.args.message)
        if self.args.retry_delay is not None:
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromNanoseconds(int(self.args.retry_delay * 1e9))
            status.details.add().Pack(info)
        return status

    def response(self):
        response = service.ExportProfilesServiceResponse()
        if self.args.reject:
            response.partial_success.rejected_profiles = self.args.reject
            response.partial_success.error_message = self.args.message
        return response


class OverGrpc(service_grpc.ProfilesServiceServicer):
    def __init__(self, backend):
        self.backend = backend

    def Export(self, request, context):
        headers = {k: v for k, v in context.invocation_metadata() if isinstance(v, str)}
        # The library inflates by itself, and does not say so.
        refused = self.backend.take(request, "grpc", None, headers)
        if refused:
            context.set_trailing_metadata(
                [("grpc-status-details-bin", refused.SerializeToString())]
            )
            context.abort(grpc.StatusCode[self.backend.args.code], refused.message)
        return self.backend.response()


class OverHttp(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    backend = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        compression = self.headers.get("content-encoding")
        if compression == "gzip":
            body = gzip.decompress(body)
        as_json = self.headers["content-type"] == otlp.JSON
        request = service.ExportProfilesServiceRequest()
        if self.path != otlp.PATH or compression not in (None, "gzip"):
            return self.answer(404, status_pb2.Status(message=self.path), as_json)
        if as_json:
            otlp.from_json(body, request)
        else:
            request.ParseFromString(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        protocol = "json" if as_json else "http"
        refused = self.backend.take(request, protocol, compression, headers)
        if refused:
            status = HTTP_STATUS.get(self.backend.args.code, 400)
            return self.answer(status, refused, as_json)
        return self.answer(200, self.backend.response(), as_json)

    def answer(self, status, message, as_json):
        body = message.SerializeToString()
        if as_json:
            body = json_format.MessageToJson(message).encode()
        self.send_response(status)
        self.send_header("content-type", otlp.JSON if as_json else otlp.PROTOBUF)
        self.send_header("content-length", str(len(body)))
        if status in (429, 503) and self.backend.args.retry_delay is not None:
            self.send_header("retry-after", str(round(self.backend.args.retry_delay)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def main():
    backend = Backend(arguments())
    over_grpc = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
    service_grpc.add_ProfilesServiceServicer_to_server(OverGrpc(backend), over_grpc)
    grpc_port = over_grpc.add_insecure_port("127.0.0.1:0")
    over_grpc.start()
    OverHttp.backend = backend
    over_http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), OverHttp)
    threading.Thread(target=over_http.serve_forever, daemon=True).start()
    print(json.dumps({"grpc": grpc_port, "http": over_http.server_port}), flush=True)
    # Whoever started it holds the other end.
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
