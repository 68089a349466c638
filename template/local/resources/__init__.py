"""The CloudFormation types that the local cloud creates, each in the backend that answers its API.

A type that is neither in `KINDS` nor in `INERT` is refused before
anything of its stack is created. Every kind creates, updates and deletes; a change that the kind
can't make is an error, never passed over.
"""

from collections.abc import Mapping

from .. import services
from .agentcore import AgentMemory, Runtime, RuntimePolicy
from .api_gateway import Api, Deployment, Stage
from .cloudwatch import Dashboard
from .cognito import UserPool, UserPoolClient, UserPoolDomain, UserPoolGroup, UserPoolIdentityProvider
from .functions import Function, Permission
from .iam import ManagedPolicy, OidcProvider, Role, RolePolicy
from .kind import Kind, Place, Properties, Resource
from .storage import Bucket, DeliveryStream, DynamoTable, LogGroup, Queue
from .workflow import EventBus, StateMachine

_NO_ATHENA = "there is no Athena on one machine: the same SQL runs in DuckDB (local/analytics.py)"
_NO_QUICKSIGHT = "there is no QuickSight on one machine; the local report stands in"
INERT = {
    "AWS::Athena::WorkGroup": _NO_ATHENA,
    "AWS::Glue::Database": _NO_ATHENA,
    "AWS::Glue::Table": _NO_ATHENA,
    **dict.fromkeys((f"AWS::QuickSight::{kind}" for kind in ("Dashboard", "DataSet", "DataSource")), _NO_QUICKSIGHT),
    "AWS::S3::BucketPolicy": ("its statements deny plain HTTP, and the local cloud has no HTTPS; IAM policies decide"),
    "AWS::CloudWatch::Alarm": "nobody is alarmed on one machine",
    "AWS::Lambda::EventInvokeConfig": "failed events are tried twice more, as where nothing is configured",
    "AWS::Logs::LogStream": "a log stream is there as soon as something is written to it",
    "AWS::Logs::MetricFilter": "metrics are read from the log lines themselves",
    "AWS::Logs::QueryDefinition": "there is no console to run it in; tests run it",
}
"""Types that are accepted without effect, each with the reason why nothing is lost."""


class Inert(Kind):
    """Accepted without effect; `Ref` gives a generated name."""

    def create(self, place: Place, properties: Properties) -> Resource:
        return Resource(place.name())

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        """Nothing was created."""


KINDS: Mapping[str, Kind] = {
    "AWS::ApiGateway::Deployment": Deployment(),
    "AWS::ApiGateway::RestApi": Api(),
    "AWS::ApiGateway::Stage": Stage(),
    "AWS::BedrockAgentCore::Memory": AgentMemory(),
    "AWS::BedrockAgentCore::ResourcePolicy": RuntimePolicy(),
    "AWS::BedrockAgentCore::Runtime": Runtime(),
    "AWS::CloudWatch::Dashboard": Dashboard(),
    "AWS::Cognito::UserPool": UserPool(),
    "AWS::Cognito::UserPoolClient": UserPoolClient(),
    "AWS::Cognito::UserPoolDomain": UserPoolDomain(),
    "AWS::Cognito::UserPoolGroup": UserPoolGroup(),
    "AWS::Cognito::UserPoolIdentityProvider": UserPoolIdentityProvider(),
    "AWS::DynamoDB::Table": DynamoTable(),
    "AWS::Events::EventBus": EventBus(),
    "AWS::IAM::ManagedPolicy": ManagedPolicy(),
    "AWS::IAM::OIDCProvider": OidcProvider(),
    "AWS::IAM::Policy": RolePolicy(),
    "AWS::IAM::Role": Role(),
    "AWS::KinesisFirehose::DeliveryStream": DeliveryStream(),
    "AWS::Lambda::Function": Function(),
    "AWS::Lambda::Permission": Permission(),
    "AWS::Logs::LogGroup": LogGroup(),
    "AWS::S3::Bucket": Bucket(),
    "AWS::SQS::Queue": Queue(),
    "AWS::StepFunctions::StateMachine": StateMachine(),
    **dict.fromkeys(INERT, Inert()),
    **{name: kind for service in services.found() for name, kind in getattr(service, "KINDS", {}).items()},
}
"""Every type that a stack may hold, with the inert ones."""
