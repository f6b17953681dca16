"""Raw Cloud Map requests, whose bytes a test controls exactly."""

import http.client
import json
from dataclasses import dataclass

import cbor2

TARGET_PREFIX = "Route53AutoNaming_v20170314"
PROTOCOLS = ("json", "cbor")
JSON_TYPE = "application/x-amz-json-1.1"
CBOR_TYPE = "application/cbor"
TIMEOUT_SECONDS = 20.0


class Epoch(float):
    """A CBOR timestamp (tag 1) in epoch seconds. Any other tag remains a CBORTag and fails the checks of the model."""


def decode_cbor(body):
    return cbor2.loads(body, semantic_decoders={1: lambda value, _immutable: Epoch(value)})


@dataclass
class Reply:
    """A raw response."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body) if self.body else {}

    def cbor(self):
        return decode_cbor(self.body) if self.body else {}

    def data(self):
        content_type = self.headers.get("Content-Type", "")
        if content_type.startswith(CBOR_TYPE):
            return self.cbor()
        assert content_type.startswith("application/") or not self.body, f"{self.status} {content_type}: {self.body[:200]!r}"
        return self.json()

    @property
    def code(self):
        """The error's code in the body, which is where botocore reads it."""
        return self.data()["__type"].partition("#")[2] or self.data()["__type"]

    @property
    def message(self):
        return self.data().get("Message")


def target(operation):
    return f"{TARGET_PREFIX}.{operation}"


def cbor_path(operation):
    return f"/service/{TARGET_PREFIX}/operation/{operation}"


class Connection:
    """A persistent connection to the API, for use by a single thread."""

    def __init__(self, address):
        self._http = http.client.HTTPConnection(*address, timeout=TIMEOUT_SECONDS)

    def request(self, method, path, body=b"", headers=None):
        try:
            return self._exchange(method, path, body, headers or {})
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            # The server may close an idle connection at any time: try once more on a new one.
            self._http.close()
            return self._exchange(method, path, body, headers or {})

    def request_once(self, method, path, body=b"", headers=None):
        """Like `request`, but never sent twice, for callers that must know what was acknowledged."""
        return self._exchange(method, path, body, headers or {})

    def _exchange(self, method, path, body, headers):
        self._http.request(method, path, body=body, headers=headers)
        response = self._http.getresponse()
        return Reply(response.status, response.headers, response.read())

    def close(self):
        self._http.close()

    # -- protocols ----------------------------------------------------------------------------------------------------

    def json(self, operation, params=None, **headers):
        return self.json_bytes(operation, json.dumps({} if params is None else params).encode(), **headers)

    def json_bytes(self, operation, body, path="/", **headers):
        return self.request("POST", path, body, json_headers(operation) | named(headers))

    def cbor(self, operation, params=None, **headers):
        return self.cbor_bytes(operation, cbor2.dumps({} if params is None else params), **headers)

    def cbor_bytes(self, operation, body, **headers):
        return self.request("POST", cbor_path(operation), body, cbor_headers() | named(headers))

    def call(self, protocol, operation, params=None):
        return {"json": self.json, "cbor": self.cbor}[protocol](operation, params)

    def call_once(self, operation, params):
        """A JSON call that is never repeated."""
        return self.request_once("POST", "/", json.dumps(params).encode(), json_headers(operation))


def json_headers(operation):
    return {"Content-Type": JSON_TYPE, "X-Amz-Target": target(operation)}


def cbor_headers():
    return {"Content-Type": CBOR_TYPE, "Accept": CBOR_TYPE, "smithy-protocol": "rpc-v2-cbor"}


def named(headers):
    """Converts keyword arguments to header names."""
    return {name.replace("_", "-"): value for name, value in headers.items()}
