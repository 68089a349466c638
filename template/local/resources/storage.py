"""DynamoDB tables, S3 buckets, SQS queues, Firehose streams and CloudWatch log groups."""

from copy import deepcopy
from typing import Any

from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.table import Table
from moto.logs.models import logs_backends
from moto.s3.models import FakeBucket, s3_backends
from moto.sqs.models import sqs_backends

from .kind import Kind, Place, Properties, Resource, UnsupportedChange


def require_object(place: Place, bucket: str, key: str) -> None:
    """UnsupportedChange unless the object exists."""
    buckets = s3_backends[place.account]["aws"].buckets
    if bucket not in buckets or key not in buckets[bucket].keys:
        raise UnsupportedChange(f"there is no object {key} in the bucket {bucket}: upload it first")


class DynamoTable(Kind):
    """AWS::DynamoDB::Table with time to live and point-in-time recovery."""

    replaced_by = frozenset({"TableName", "KeySchema", "LocalSecondaryIndexes", "ImportSourceSpecification"})
    tags = ("Tags", list)
    _changed_in_place = frozenset(
        {
            "BillingMode",
            "DeletionProtectionEnabled",
            "PointInTimeRecoverySpecification",
            "SSESpecification",
            "Tags",
            "TimeToLiveSpecification",
        }
    )

    def create(self, place: Place, properties: Properties) -> Resource:
        table = Table.create_from_cloudformation_json(
            properties.get("TableName") or place.name(255),
            {"Properties": dict(properties)},
            place.account,
            place.region,
        )
        self._set_upkeep(place, table, properties)
        attributes = {"Arn": table.table_arn}
        if table.latest_stream_label:
            attributes["StreamArn"] = f"{table.table_arn}/stream/{table.latest_stream_label}"
        return Resource(table.name, attributes)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        changed = {name for name in properties.keys() | former.keys() if properties.get(name) != former.get(name)}
        fixed = sorted(changed - self._changed_in_place)
        if fixed:
            raise UnsupportedChange(
                f"AWS::DynamoDB::Table: the local cloud can't change {fixed[0]} of a table: "
                "delete the stack and deploy it again"
            )
        table = dynamodb_backends[place.account][place.region].get_table(resource.physical_id)
        table.billing_mode = properties.get("BillingMode", "PROVISIONED")
        table.deletion_protection_enabled = properties.get("DeletionProtectionEnabled", False)
        table.sse_specification = properties.get("SSESpecification")
        table.tags = properties.get("Tags", [])
        self._set_upkeep(place, table, properties)
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        dynamodb_backends[place.account][place.region].delete_table(resource.physical_id)

    @staticmethod
    def _set_upkeep(place: Place, table: Table, properties: Properties) -> None:
        backend = dynamodb_backends[place.account][place.region]
        recovery = properties.get("PointInTimeRecoverySpecification", {})
        backend.update_continuous_backups(table.name, {"PointInTimeRecoveryEnabled": False, **recovery})
        if "TimeToLiveSpecification" in properties:
            backend.update_time_to_live(table.name, properties["TimeToLiveSpecification"])


class Bucket(Kind):
    """AWS::S3::Bucket with encryption, versioning and public access block; no lifecycle runs."""

    replaced_by = frozenset({"BucketName"})
    tags = ("Tags", list)

    def create(self, place: Place, properties: Properties) -> Resource:
        name = properties.get("BucketName") or place.name(63).lower()
        bucket = FakeBucket.create_from_cloudformation_json(
            name, {"Properties": dict(properties)}, place.account, place.region
        )
        self._set_protection(place, name, properties)
        return Resource(
            name,
            {
                "Arn": bucket.arn,
                "DomainName": f"{name}.s3.amazonaws.com",
                "RegionalDomainName": f"{name}.s3.{place.region}.amazonaws.com",
            },
        )

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        name = resource.physical_id
        bucket = s3_backends[place.account]["aws"].get_bucket(name)
        FakeBucket.update_from_cloudformation_json(
            bucket,
            name,
            {"Properties": {**properties, "BucketName": name}},
            place.account,
            place.region,
        )
        self._set_protection(place, name, properties)
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        backend = s3_backends[place.account]["aws"]
        if backend.delete_bucket(resource.physical_id) is None:
            raise UnsupportedChange(f"AWS::S3::Bucket: {resource.physical_id} is not empty: delete its objects first")

    @staticmethod
    def _set_protection(place: Place, name: str, properties: Properties) -> None:
        backend = s3_backends[place.account]["aws"]
        if "PublicAccessBlockConfiguration" in properties:
            backend.put_public_access_block(name, properties["PublicAccessBlockConfiguration"])
        if "VersioningConfiguration" in properties:
            backend.put_bucket_versioning(name, properties["VersioningConfiguration"]["Status"])


class Queue(Kind):
    """AWS::SQS::Queue, standard."""

    replaced_by = frozenset({"QueueName", "FifoQueue"})

    def create(self, place: Place, properties: Properties) -> Resource:
        backend = sqs_backends[place.account][place.region]
        name = properties.get("QueueName") or place.name(80)
        queue = backend.create_queue(name, **self._attributes(properties))
        url = f"https://sqs.{place.region}.amazonaws.com/{place.account}/{name}"
        return Resource(url, {"Arn": queue.queue_arn, "QueueName": name, "QueueUrl": url}, detail=name)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        queue = sqs_backends[place.account][place.region].get_queue(resource.detail)
        queue._set_attributes(self._attributes(properties))
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        sqs_backends[place.account][place.region].delete_queue(resource.detail)

    @staticmethod
    def _attributes(properties: Properties) -> dict[str, Any]:
        return {
            name: str(properties[name])
            for name in ("MessageRetentionPeriod", "VisibilityTimeout")
            if name in properties
        }


class DeliveryStream(Kind):
    """AWS::KinesisFirehose::DeliveryStream into S3."""

    replaced_by = frozenset({"DeliveryStreamName", "DeliveryStreamType"})

    def create(self, place: Place, properties: Properties) -> Resource:
        name = properties.get("DeliveryStreamName") or place.name(64)
        others = ("s3", "redshift", "elasticsearch", "splunk", "http_endpoint", "snowflake", "iceberg")
        arn = self._streams(place).create_delivery_stream(
            region=place.region,
            delivery_stream_name=name,
            delivery_stream_type=properties.get("DeliveryStreamType", "DirectPut"),
            kinesis_stream_source_configuration={},
            delivery_stream_encryption_configuration_input={},
            extended_s3_destination_configuration=deepcopy(properties["ExtendedS3DestinationConfiguration"]),
            tags=[],
            **{f"{other}_destination_configuration": {} for other in others},
        )
        return Resource(name, {"Arn": arn})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        self.delete(place, resource)
        return self.create(place, {**properties, "DeliveryStreamName": resource.physical_id})

    def delete(self, place: Place, resource: Resource) -> None:
        self._streams(place).delete_delivery_stream(resource.physical_id)

    @staticmethod
    def _streams(place: Place) -> Any:
        from moto.firehose.models import firehose_backends  # half a second, which only a stage with a stream needs

        return firehose_backends[place.account][place.region]


class LogGroup(Kind):
    """AWS::Logs::LogGroup with retention."""

    replaced_by = frozenset({"LogGroupName"})
    tags = ("Tags", list)

    def create(self, place: Place, properties: Properties) -> Resource:
        name = properties.get("LogGroupName") or place.name(512)
        group = logs_backends[place.account][place.region].create_log_group(
            name, {tag["Key"]: tag["Value"] for tag in properties.get("Tags", [])}
        )
        group.set_retention_policy(properties.get("RetentionInDays"))
        return Resource(name, {"Arn": f"{group.arn}:*"})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        groups = logs_backends[place.account][place.region].groups
        groups[resource.physical_id].set_retention_policy(properties.get("RetentionInDays"))
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        logs_backends[place.account][place.region].delete_log_group(resource.physical_id)
