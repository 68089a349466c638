"""The binary event stream in which AWS answers streaming operations.

A message is: total length, headers length, CRC32 of those two, headers, payload, CRC32 of all that
stands before it; integers are big-endian. Source: Smithy specification, "Amazon event stream", and
botocore's decoder (`botocore.eventstream`).
"""

import base64
import json
import struct
from binascii import crc32
from collections.abc import Mapping
from typing import Any

MEDIA_TYPE = "application/vnd.amazon.eventstream"

_STRING = 7  # the type tag of a string header


def event(name: str, body: Mapping[str, Any]) -> bytes:
    """The message of one event; bytes in `body` go out as base64."""
    return _message(
        {
            ":event-type": name,
            ":content-type": "application/json",
            ":message-type": "event",
        },
        body,
    )


def exception(name: str, message: str) -> bytes:
    """The message that ends a stream with a modelled error, such as `throttlingException`."""
    return _message(
        {
            ":exception-type": name,
            ":content-type": "application/json",
            ":message-type": "exception",
        },
        {"message": message},
    )


def _message(headers: Mapping[str, str], body: Mapping[str, Any]) -> bytes:
    head = b"".join(_header(name, value) for name, value in headers.items())
    payload = json.dumps(body, default=_base64).encode()
    prelude = struct.pack("!II", 12 + len(head) + len(payload) + 4, len(head))
    message = prelude + struct.pack("!I", crc32(prelude)) + head + payload
    return message + struct.pack("!I", crc32(message))


def _header(name: str, value: str) -> bytes:
    key, text = name.encode(), value.encode()
    return struct.pack(f"!B{len(key)}sBH", len(key), key, _STRING, len(text)) + text


def _base64(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form in an event stream")
