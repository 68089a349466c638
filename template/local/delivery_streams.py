"""Firehose: what is put into a deployed stream is in its bucket at once, in the stream's own role.

As on AWS the records are partitioned by what the stream's query finds in them, and those in which it finds nothing go
below the prefix for errors. Here they stay JSON: Firehose makes Parquet of them, here `local/analytics.py` does where
it is needed. What waits in buffers there is delivered at once here, one object for each call.
"""

import json
import re
import uuid
from collections import defaultdict
from typing import Any

from botocore.exceptions import ClientError
from moto.core.utils import utcnow

from .gate import Gate
from .operations import Call, ServiceError
from .service_roles import ServiceRoles

_PRINCIPAL = "firehose.amazonaws.com"
_LARGEST_BATCH = 500
_FAILED = "dynamic-partitioning-failed"
_QUERY = re.compile(r"\{(\w+):\.(\w+)\}")
_PARTITION = re.compile(r"!\{partitionKeyFromQuery:(\w+)\}")
_TIMESTAMP = re.compile(r"!\{timestamp:yyyy-MM-dd\}")


class DeliveryStreams:
    """The streams of one account and Region; moto keeps what they are."""

    def __init__(self, account: str, region: str, roles: ServiceRoles) -> None:
        self._account = account
        self._region = region
        self._roles = roles
        self._clients: dict[str, Any] = {}

    def register(self, gate: Gate) -> None:
        """Answer PutRecordBatch at the gate."""
        gate.handle("firehose", "PutRecordBatch", self._put)

    def _put(self, call: Call) -> dict[str, Any]:
        from moto.firehose.models import firehose_backends  # half a second, which only a stage with a stream needs

        name, records = call.params["DeliveryStreamName"], call.params["Records"]
        stream = firehose_backends[self._account][self._region].delivery_streams.get(name)
        if stream is None:
            raise ServiceError("ResourceNotFoundException", f"Firehose {name} under account {self._account} not found.")
        if len(records) > _LARGEST_BATCH:
            raise ServiceError("InvalidArgumentException", f"Records size {len(records)} exceeds {_LARGEST_BATCH}")
        try:
            self._deliver(
                stream.delivery_stream_arn, stream.destinations[0]["ExtendedS3"], [r["Data"] for r in records]
            )
        except ClientError as error:
            # Firehose would keep the records and log why; whoever puts them would not be told.
            raise ServiceError(error.response["Error"]["Code"], error.response["Error"]["Message"]) from None
        responses = [{"RecordId": uuid.uuid4().hex} for _ in records]
        return {"FailedPutCount": 0, "RequestResponses": responses}

    def _deliver(self, arn: str, destination: dict[str, Any], records: list[bytes]) -> None:
        objects: dict[str, list[bytes]] = defaultdict(list)
        for record in records:
            objects[_prefix(destination, record)].append(record)
        for prefix, content in objects.items():
            self._client(arn, destination["RoleARN"]).put_object(
                Bucket=destination["BucketARN"].rpartition(":")[2],
                Key=f"{prefix}{utcnow():%Y-%m-%d-%H-%M-%S}-{uuid.uuid4()}.json",
                Body=b"".join(content),
            )

    def _client(self, arn: str, role_arn: str) -> Any:
        if role_arn not in self._clients:
            session = self._roles.session(role_arn, service=_PRINCIPAL, source_arn=arn, name="firehose")
            self._clients[role_arn] = session.client("s3")
        return self._clients[role_arn]


def _prefix(destination: dict[str, Any], record: bytes) -> str:
    """Where a record belongs. Firehose developer guide, "Dynamic partitioning" and "Custom prefixes"."""
    keys: dict[str, str] = {}
    for processor in destination.get("ProcessingConfiguration", {}).get("Processors", []):
        if processor["Type"] == "MetadataExtraction":
            told = {entry["ParameterName"]: entry["ParameterValue"] for entry in processor["Parameters"]}
            keys |= _extracted(told["MetadataExtractionQuery"], record)
    prefix = str(destination["Prefix"])
    wanted = _PARTITION.findall(prefix)
    if all(keys.get(name) for name in wanted):
        return _PARTITION.sub(lambda found: keys[found[1]], prefix)
    errors = str(destination["ErrorOutputPrefix"]).replace("!{firehose:error-output-type}", _FAILED)
    return _TIMESTAMP.sub(f"{utcnow():%Y-%m-%d}", errors)


def _extracted(query: str, record: bytes) -> dict[str, str]:
    """What a query such as `{day:.day}` finds; nothing in what is no JSON object."""
    names = _QUERY.fullmatch(query)
    if names is None:
        raise ServiceError("InvalidArgumentException", f"the local cloud understands {{name:.field}}, not {query}")
    try:
        document = json.loads(record)
    except ValueError:
        return {}
    return {names[1]: str(document[names[2]])} if isinstance(document, dict) and names[2] in document else {}
