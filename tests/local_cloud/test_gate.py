"""Own access passes, another tenant's is refused, and nothing unsigned or forged gets through."""

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from local.authorization import Decision, Session
from local.operations import Call

from .local_gate import ACCOUNT, REGION, LocalGate, document, local_gate

TABLE, BUCKET, OTHER_BUCKET = "gate-table", "gate-bucket", "gate-other-bucket"
TABLE_ARN = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{TABLE}"
MODEL = "anthropic.claude-haiku-4-5-20251001-v1:0"
TENANT = "${aws:PrincipalTag/TenantId}"
TAGGED = {"aws:PrincipalTag/TenantId": "false"}
MEMORY = "gate_memory-0123456789"
MEMORY_ARN = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:memory/{MEMORY}"

POLICY = [
    {
        "Effect": "Allow",
        "Action": [
            "dynamodb:GetItem",
            "dynamodb:PutItem",
            "dynamodb:UpdateItem",
            "dynamodb:DeleteItem",
            "dynamodb:Query",
            "dynamodb:BatchGetItem",
            "dynamodb:BatchWriteItem",
            "dynamodb:ConditionCheckItem",
        ],
        "Resource": [TABLE_ARN, f"{TABLE_ARN}/index/by-owner"],
        "Condition": {
            "ForAllValues:StringEquals": {"dynamodb:LeadingKeys": f"TENANT#{TENANT}"},
            "Null": {"dynamodb:LeadingKeys": "false", **TAGGED},
        },
    },
    {
        "Effect": "Allow",
        "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
        "Resource": f"arn:aws:s3:::{BUCKET}/tenants/{TENANT}/*",
        "Condition": {"Null": TAGGED},
    },
    {
        "Effect": "Allow",
        "Action": "s3:ListBucket",
        "Resource": f"arn:aws:s3:::{BUCKET}",
        "Condition": {"StringLike": {"s3:prefix": f"tenants/{TENANT}/*"}, "Null": TAGGED},
    },
    {
        "Effect": "Allow",
        "Action": ["bedrock-agentcore:CreateEvent", "bedrock-agentcore:ListEvents"],
        "Resource": MEMORY_ARN,
        "Condition": {"StringLike": {"bedrock-agentcore:actorId": f"{TENANT}:*"}, "Null": TAGGED},
    },
    {
        "Effect": "Allow",
        "Action": "bedrock-agentcore:RetrieveMemoryRecords",
        "Resource": MEMORY_ARN,
        "Condition": {
            "StringLike": {"bedrock-agentcore:namespace": f"/actors/{TENANT}:*"},
            "Null": TAGGED,
        },
    },
    {
        "Effect": "Allow",
        "Action": ["bedrock:InvokeModel", "bedrock:InvokeModelWithResponseStream"],
        "Resource": [
            f"arn:aws:bedrock:*::foundation-model/{MODEL}",
            f"arn:aws:bedrock:{REGION}:{ACCOUNT}:inference-profile/us.{MODEL}",
        ],
    },
    {
        "Effect": "Allow",
        "Action": "lambda:InvokeFunction",
        "Resource": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:gate-own",
    },
]


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalGate]:
    with local_gate() as running:
        _create_data(running)
        running.create_role("gate-tenant", [], POLICY)
        for service, operation, answer in _ANSWERS:
            running.gate.handle(service, operation, _answering(answer))
        yield running


_ANSWERS: list[tuple[str, str, dict[str, Any]]] = [
    ("bedrock-runtime", "Converse", {"stopReason": "end_turn"}),
    ("bedrock-agentcore", "CreateEvent", {}),
    ("bedrock-agentcore", "ListEvents", {"events": []}),
    ("bedrock-agentcore", "RetrieveMemoryRecords", {"memoryRecordSummaries": []}),
    ("bedrock-agentcore", "ListActors", {"actorSummaries": []}),
    ("lambda", "Invoke", {"StatusCode": 200, "Payload": b"{}"}),
]


def _answering(answer: dict[str, Any]) -> Callable[[Call], dict[str, Any]]:
    return lambda _: answer


def _create_data(cloud: LocalGate) -> None:
    def hash_key(name: str) -> dict[str, str]:
        return {"AttributeName": name, "KeyType": "HASH"}

    cloud.operator("dynamodb").create_table(
        TableName=TABLE,
        KeySchema=[hash_key("pk"), {"AttributeName": "sk", "KeyType": "RANGE"}],
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("pk", "sk", "owner")],
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-owner",
                "KeySchema": [hash_key("owner")],
                "Projection": {"ProjectionType": "ALL"},
            }
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    s3 = cloud.operator("s3")
    for bucket in (BUCKET, OTHER_BUCKET):
        s3.create_bucket(Bucket=bucket)
    for tenant in ("acme", "acme2", "globex"):
        cloud.operator("dynamodb").put_item(TableName=TABLE, Item=item(tenant))
        s3.put_object(Bucket=BUCKET, Key=f"tenants/{tenant}/a.txt", Body=tenant.encode())


def key(tenant: str) -> dict[str, dict[str, str]]:
    return {"pk": {"S": f"TENANT#{tenant}"}, "sk": {"S": "1"}}


def item(tenant: str) -> dict[str, dict[str, str]]:
    return {**key(tenant), "owner": {"S": f"TENANT#{tenant}"}}


def credentials_of(cloud: LocalGate, tenant: str | None, seconds: int = 900) -> Mapping[str, Any]:
    tags = {"TenantId": tenant} if tenant else {}
    return cloud.gate.sessions.issue("gate-tenant", f"s-{tenant}", tags, seconds)


@pytest.fixture(scope="module")
def acme(cloud: LocalGate) -> Callable[[str], Any]:
    """Clients with a session of the tenant acme."""
    credentials = credentials_of(cloud, "acme")
    clients: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in clients:
            clients[service] = cloud.client(service, credentials)
        return clients[service]

    return client


def attempt(cloud: LocalGate, call: Callable[[], Any]) -> tuple[str, list[Decision]]:
    """The error code of the call ("" when it passed), and what was decided meanwhile."""
    position = cloud.gate.decisions.position()
    code = ""
    try:
        call()
    except ClientError as error:
        code = error.response["Error"]["Code"]
    return code, cloud.decisions_since(position)


def assert_allowed(cloud: LocalGate, call: Callable[[], Any]) -> list[Decision]:
    code, decisions = attempt(cloud, call)
    assert (code, [d.reason for d in decisions if not d.allowed]) == ("", [])
    assert decisions, "an allowed call must be recorded too"
    return decisions


def assert_denied(cloud: LocalGate, call: Callable[[], Any]) -> Decision:
    code, decisions = attempt(cloud, call)
    assert code in ("AccessDenied", "AccessDeniedException", "403"), code
    assert not decisions[-1].allowed
    return decisions[-1]


# --- Calls that exist for one's own data and for another tenant's ---------------------------------

Clients = Callable[[str], Any]
Try = Callable[[Clients, str], Any]


def _query(names: str, **more: Any) -> Try:
    return lambda clients, tenant: clients("dynamodb").query(
        TableName=TABLE,
        KeyConditionExpression=names,
        ExpressionAttributeValues={":p": {"S": f"TENANT#{tenant}"}},
        **more,
    )


def _transact(kind: str) -> Try:
    def call(clients: Clients, tenant: str) -> Any:
        parts: dict[str, dict[str, Any]] = {
            "Put": {"Item": item(tenant)},
            "Delete": {"Key": {**key(tenant), "sk": {"S": "none"}}},
            "Update": {
                "Key": key(tenant),
                "UpdateExpression": "SET n = :n",
                "ExpressionAttributeValues": {":n": {"N": "1"}},
            },
            "ConditionCheck": {"Key": key(tenant), "ConditionExpression": "attribute_exists(pk)"},
        }
        return clients("dynamodb").transact_write_items(TransactItems=[{kind: {"TableName": TABLE, **parts[kind]}}])

    return call


def _converse(model: str) -> Any:
    return lambda clients, _: clients("bedrock-runtime").converse(
        modelId=model, messages=[{"role": "user", "content": [{"text": "hi"}]}]
    )


CALLS: dict[str, Try] = {
    "get_item": lambda c, t: c("dynamodb").get_item(TableName=TABLE, Key=key(t)),
    "get_item by table ARN": lambda c, t: c("dynamodb").get_item(TableName=TABLE_ARN, Key=key(t)),
    "put_item": lambda c, t: c("dynamodb").put_item(TableName=TABLE, Item=item(t)),
    "update_item": lambda c, t: c("dynamodb").update_item(
        TableName=TABLE,
        Key=key(t),
        UpdateExpression="SET n = :n",
        ExpressionAttributeValues={":n": {"N": "1"}},
    ),
    "delete_item": lambda c, t: c("dynamodb").delete_item(TableName=TABLE, Key={**key(t), "sk": {"S": "none"}}),
    "query": _query("pk = :p"),
    "query by name": _query("#k=:p", ExpressionAttributeNames={"#k": "pk"}),
    "query in brackets": _query("(pk = :p)"),
    "query of the index": _query("#o = :p", IndexName="by-owner", ExpressionAttributeNames={"#o": "owner"}),
    "query, legacy": lambda c, t: c("dynamodb").query(
        TableName=TABLE,
        KeyConditions={"pk": {"ComparisonOperator": "EQ", "AttributeValueList": [{"S": f"TENANT#{t}"}]}},
    ),
    "batch_get_item": lambda c, t: c("dynamodb").batch_get_item(RequestItems={TABLE: {"Keys": [key(t)]}}),
    "batch_write_item": lambda c, t: c("dynamodb").batch_write_item(
        RequestItems={TABLE: [{"PutRequest": {"Item": item(t)}}]}
    ),
    "transact_get_items": lambda c, t: c("dynamodb").transact_get_items(
        TransactItems=[{"Get": {"TableName": TABLE, "Key": key(t)}}]
    ),
    **{f"transact {kind}": _transact(kind) for kind in ("Put", "Update", "Delete", "ConditionCheck")},
    "get_object": lambda c, t: c("s3").get_object(Bucket=BUCKET, Key=f"tenants/{t}/a.txt"),
    "head_object": lambda c, t: c("s3").head_object(Bucket=BUCKET, Key=f"tenants/{t}/a.txt"),
    "put_object": lambda c, t: c("s3").put_object(Bucket=BUCKET, Key=f"tenants/{t}/ü b+c.txt", Body=b"x"),
    "delete_object": lambda c, t: c("s3").delete_object(Bucket=BUCKET, Key=f"tenants/{t}/none"),
    "delete_objects": lambda c, t: c("s3").delete_objects(
        Bucket=BUCKET, Delete={"Objects": [{"Key": f"tenants/{t}/none"}]}
    ),
    "list_objects_v2": lambda c, t: c("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"tenants/{t}/"),
    "list_objects": lambda c, t: c("s3").list_objects(Bucket=BUCKET, Prefix=f"tenants/{t}/"),
    "copy from": lambda c, t: c("s3").copy_object(
        Bucket=BUCKET, Key="tenants/acme/copy", CopySource=f"{BUCKET}/tenants/{t}/a.txt"
    ),
    "copy to": lambda c, t: c("s3").copy_object(
        Bucket=BUCKET, Key=f"tenants/{t}/copy", CopySource=f"{BUCKET}/tenants/acme/a.txt"
    ),
    "create_event": lambda c, t: c("bedrock-agentcore").create_event(
        memoryId=MEMORY,
        actorId=f"{t}:u",
        sessionId="s",
        eventTimestamp=datetime.now(UTC),
        payload=[],
    ),
    "list_events": lambda c, t: c("bedrock-agentcore").list_events(memoryId=MEMORY, actorId=f"{t}:u", sessionId="s"),
    "retrieve_memory_records": lambda c, t: c("bedrock-agentcore").retrieve_memory_records(
        memoryId=MEMORY, namespace=f"/actors/{t}:u/", searchCriteria={"searchQuery": "q"}
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_own_data_is_reached(cloud: LocalGate, acme: Clients, name: str) -> None:
    decisions = assert_allowed(cloud, lambda: CALLS[name](acme, "acme"))
    assert {d.tenant for d in decisions} == {"acme"}


def test_a_key_that_is_longer_than_s3_takes_is_refused(acme: Clients) -> None:
    s3, longest = acme("s3"), "tenants/acme/".ljust(1023, "x")
    s3.put_object(Bucket=BUCKET, Key=f"{longest}x", Body=b"x")
    # Bytes count, not characters.
    with pytest.raises(ClientError, match="KeyTooLongError"):
        s3.put_object(Bucket=BUCKET, Key=f"{longest}ü", Body=b"x")
    with pytest.raises(ClientError, match="KeyTooLongError"):
        s3.copy_object(Bucket=BUCKET, Key=f"{longest}ü", CopySource=f"{BUCKET}/{longest}x")
    s3.delete_object(Bucket=BUCKET, Key=f"{longest}x")


@pytest.mark.parametrize("tenant", ["globex", "acme2"])
@pytest.mark.parametrize("name", CALLS)
def test_another_tenants_data_is_refused(cloud: LocalGate, acme: Clients, name: str, tenant: str) -> None:
    decision = assert_denied(cloud, lambda: CALLS[name](acme, tenant))
    assert (decision.source, decision.tenant) == ("identity", "acme")


@pytest.mark.parametrize("tenant", [None, "", "*"])
def test_a_session_without_a_real_tenant_reaches_nothing(cloud: LocalGate, tenant: str | None) -> None:
    credentials = credentials_of(cloud, tenant)
    if tenant == "":
        credentials = cloud.gate.sessions.issue("gate-tenant", "s-empty", {"TenantId": ""})
    dynamodb = cloud.client("dynamodb", credentials)
    assert_denied(cloud, lambda: dynamodb.get_item(TableName=TABLE, Key=key("acme")))
    s3 = cloud.client("s3", credentials)
    assert_denied(cloud, lambda: s3.get_object(Bucket=BUCKET, Key="tenants/acme/a.txt"))


REFUSED: dict[str, Callable[[Clients], Any]] = {
    "scan": lambda c: c("dynamodb").scan(TableName=TABLE),
    "scan of the index": lambda c: c("dynamodb").scan(TableName=TABLE, IndexName="by-owner"),
    "PartiQL of own data": lambda c: c("dynamodb").execute_statement(
        Statement=f"SELECT * FROM \"{TABLE}\" WHERE pk = 'TENANT#acme'"
    ),
    "PartiQL batch": lambda c: c("dynamodb").batch_execute_statement(
        Statements=[{"Statement": f'DELETE FROM "{TABLE}"'}]
    ),
    "PartiQL transaction": lambda c: c("dynamodb").execute_transaction(
        TransactStatements=[{"Statement": f'UPDATE "{TABLE}" SET a=1'}]
    ),
    "batch with one foreign key": lambda c: c("dynamodb").batch_get_item(
        RequestItems={TABLE: {"Keys": [key("acme"), key("globex")]}}
    ),
    "write with one foreign key": lambda c: c("dynamodb").batch_write_item(
        RequestItems={
            TABLE: [
                {"PutRequest": {"Item": item("acme")}},
                {"DeleteRequest": {"Key": key("globex")}},
            ]
        }
    ),
    "transaction with one foreign key": lambda c: c("dynamodb").transact_get_items(
        TransactItems=[{"Get": {"TableName": TABLE, "Key": key(t)}} for t in ("acme", "globex")]
    ),
    "index query by the table's key": lambda c: _query("pk = :p", IndexName="by-owner")(c, "acme"),
    "query of another comparison": lambda c: _query("pk >= :p")(c, "acme"),
    "query of two keys": lambda c: c("dynamodb").query(
        TableName=TABLE,
        KeyConditionExpression="pk = :p AND pk = :q",
        ExpressionAttributeValues={":p": {"S": "TENANT#acme"}, ":q": {"S": "TENANT#globex"}},
    ),
    "another table": lambda c: c("dynamodb").describe_table(TableName="registry"),
    "list without a prefix": lambda c: c("s3").list_objects_v2(Bucket=BUCKET),
    "list of a shorter prefix": lambda c: c("s3").list_objects_v2(Bucket=BUCKET, Prefix="tenants/"),
    "list of versions": lambda c: c("s3").list_object_versions(Bucket=BUCKET, Prefix="tenants/acme/"),
    "all buckets": lambda c: c("s3").list_buckets(),
    "another bucket": lambda c: c("s3").get_object(Bucket=OTHER_BUCKET, Key="tenants/acme/a.txt"),
    "delete with one foreign key": lambda c: c("s3").delete_objects(
        Bucket=BUCKET,
        Delete={"Objects": [{"Key": f"tenants/{t}/a.txt"} for t in ("acme", "globex")]},
    ),
    "bucket policy": lambda c: c("s3").put_bucket_policy(Bucket=BUCKET, Policy="{}"),
    "actors": lambda c: c("bedrock-agentcore").list_actors(memoryId=MEMORY),
    "records by path": lambda c: c("bedrock-agentcore").retrieve_memory_records(
        memoryId=MEMORY, namespacePath="/actors/acme:u/", searchCriteria={"searchQuery": "q"}
    ),
    "another memory": lambda c: c("bedrock-agentcore").list_events(
        memoryId="gate_other-0123456789", actorId="acme:u", sessionId="s"
    ),
    "another function": lambda c: c("lambda").invoke(FunctionName="gate-other"),
    "IAM": lambda c: c("iam").list_roles(),
    "user administration": lambda c: c("cognito-idp").admin_get_user(UserPoolId="us-east-1_x", Username="u"),
    "logs": lambda c: c("logs").put_log_events(
        logGroupName="g", logStreamName="s", logEvents=[{"timestamp": 1, "message": "m"}]
    ),
    "CloudFormation": lambda c: c("cloudformation").list_stacks(),
    "a model that is not allowed": lambda c: _converse("amazon.nova-pro-v1:0")(c, ""),
    "a global profile of an allowed model": lambda c: _converse(f"global.{MODEL}")(c, ""),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_statement_allows_is_refused(cloud: LocalGate, acme: Clients, name: str) -> None:
    assert_denied(cloud, lambda: REFUSED[name](acme))


def test_a_profile_needs_itself_and_its_models(cloud: LocalGate, acme: Clients) -> None:
    decisions = assert_allowed(cloud, lambda: _converse(f"us.{MODEL}")(acme, ""))
    assert [d.resource.split(":")[5].split("/")[0] for d in decisions] == [
        "inference-profile",
        *["foundation-model"] * 3,
    ]
    assert_allowed(cloud, lambda: _converse(MODEL)(acme, ""))


def test_an_allowed_function_is_invoked_by_name_and_by_arn(cloud: LocalGate, acme: Clients) -> None:
    for name in ("gate-own", f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:gate-own"):
        assert_allowed(cloud, partial(acme("lambda").invoke, FunctionName=name))


def test_own_data_comes_back_unchanged(acme: Clients) -> None:
    found = acme("dynamodb").get_item(TableName=TABLE, Key=key("acme"))
    assert found["Item"]["owner"] == {"S": "TENANT#acme"}
    acme("s3").put_object(Bucket=BUCKET, Key="tenants/acme/ü b+c~.txt", Body=b"\0\xff" * 9)
    body = acme("s3").get_object(Bucket=BUCKET, Key="tenants/acme/ü b+c~.txt")["Body"].read()
    assert body == b"\0\xff" * 9


def test_a_multipart_upload_of_ones_own_passes(acme: Clients) -> None:
    s3, place = acme("s3"), {"Bucket": BUCKET, "Key": "tenants/acme/big"}
    upload = s3.create_multipart_upload(**place)["UploadId"]
    part = s3.upload_part(**place, UploadId=upload, PartNumber=1, Body=b"x" * 10)
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    s3.complete_multipart_upload(**place, UploadId=upload, MultipartUpload=parts)
    assert s3.get_object(**place)["Body"].read() == b"x" * 10


# --- Presigned links ------------------------------------------------------------------------------


def fetch(url: str, **request: Any) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, **request), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def link(client: Any, tenant: str, seconds: int = 60, operation: str = "get_object") -> str:
    place = {"Bucket": BUCKET, "Key": f"tenants/{tenant}/a.txt"}
    return str(client.generate_presigned_url(operation, Params=place, ExpiresIn=seconds))


def signer(cloud: LocalGate, credentials: Mapping[str, Any] | None = None) -> Any:
    credentials = credentials or credentials_of(cloud, "acme")
    return cloud.client("s3", credentials, signature_version="s3v4")


def test_a_presigned_link_serves_the_key_that_was_signed(cloud: LocalGate) -> None:
    assert fetch(link(signer(cloud), "acme")) == (200, "acme")
    url = link(signer(cloud), "acme", operation="put_object")
    assert fetch(url, data=b"acme", method="PUT", headers={"Content-Type": "text/plain"})[0] == 200


def test_a_presigned_link_to_another_tenant_is_refused(cloud: LocalGate) -> None:
    status, body = fetch(link(signer(cloud), "globex"))
    assert (status, "AccessDenied" in body, body == "globex") == (403, True, False)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tenants/acme/", "tenants/globex/"),
        (BUCKET, OTHER_BUCKET),
        ("X-Amz-Expires=60", "X-Amz-Expires=6000"),
        ("X-Amz-Expires", "versionId=1&X-Amz-Expires"),
    ],
)
def test_a_tampered_presigned_link_is_refused(cloud: LocalGate, old: str, new: str) -> None:
    url = link(signer(cloud), "acme")
    assert old in url
    status, body = fetch(url.replace(old, new, 1))
    assert (status, "SignatureDoesNotMatch" in body) == (403, True)


def test_a_presigned_link_can_be_turned_into_a_copy_by_nobody(cloud: LocalGate) -> None:
    url = link(signer(cloud), "acme", operation="put_object")
    header = {"x-amz-copy-source": f"{BUCKET}/tenants/globex/a.txt"}
    assert fetch(url, method="PUT", headers=header)[0] == 403
    assert fetch(url.replace("X-Amz-Algorithm", "x-amz-algorithm"), method="PUT")[0] == 403


def test_an_expired_presigned_link_is_refused(cloud: LocalGate, monkeypatch: pytest.MonkeyPatch) -> None:
    past = datetime.now(UTC) - timedelta(hours=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: past)
    url = link(signer(cloud), "acme")
    status, body = fetch(url)
    assert (status, "expired" in body) == (403, True)


# --- Authentication -------------------------------------------------------------------------------


def refusal(cloud: LocalGate, credentials: Mapping[str, Any], service: str) -> tuple[str, str]:
    """The code, and the source of the recorded decision, of a call with these credentials."""
    client = cloud.client(service, credentials)
    calls: dict[str, Callable[[], Any]] = {
        "dynamodb": lambda: client.get_item(TableName=TABLE, Key=key("acme")),
        "s3": lambda: client.list_objects_v2(Bucket=BUCKET, Prefix="tenants/acme/"),
        "iam": lambda: client.list_roles(),
        "bedrock-runtime": lambda: _converse(MODEL)(lambda _: client, ""),
    }
    code, decisions = attempt(cloud, calls[service])
    assert [d.allowed for d in decisions] == [False]
    return code, decisions[0].source


@pytest.mark.parametrize(
    ("change", "codes"),
    [
        (
            {"AccessKeyId": "ASIAUNKNOWN000000000"},
            ("UnrecognizedClientException", "InvalidAccessKeyId", "InvalidClientTokenId"),
        ),
        (
            {"SecretAccessKey": "guessed"},
            ("InvalidSignatureException", "SignatureDoesNotMatch", "SignatureDoesNotMatch"),
        ),
        (
            {"SessionToken": "guessed"},
            ("UnrecognizedClientException", "InvalidToken", "InvalidClientTokenId"),
        ),
        (
            {"SessionToken": None},
            ("UnrecognizedClientException", "InvalidToken", "InvalidClientTokenId"),
        ),
    ],
)
def test_forged_credentials_are_refused_in_the_services_own_words(
    cloud: LocalGate, change: dict[str, Any], codes: tuple[str, str, str]
) -> None:
    credentials = {**credentials_of(cloud, "acme"), **change}
    for service, code in zip(("dynamodb", "s3", "iam"), codes, strict=True):
        assert refusal(cloud, credentials, service) == (code, "signature")
    assert refusal(cloud, credentials, "bedrock-runtime") == (codes[0], "signature")


def test_an_expired_session_is_refused(cloud: LocalGate) -> None:
    credentials = credentials_of(cloud, "acme", seconds=-1)
    assert refusal(cloud, credentials, "dynamodb") == ("ExpiredTokenException", "signature")
    assert refusal(cloud, credentials, "s3") == ("ExpiredToken", "signature")


def test_no_secret_is_shown_by_what_holds_it(cloud: LocalGate) -> None:
    credentials = credentials_of(cloud, "acme")
    session = cloud.gate.sessions.find(credentials["AccessKeyId"])
    assert isinstance(session, Session)
    shown = repr(session)
    assert credentials["SecretAccessKey"] not in shown
    assert credentials["SessionToken"] not in shown


def test_unsigned_requests_reach_public_operations_only(cloud: LocalGate) -> None:
    def post(target: str, body: str = "{}") -> tuple[int, str]:
        headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
        return fetch(cloud.endpoint, data=body.encode(), headers=headers, method="POST")

    cognito = "AWSCognitoIdentityProviderService"
    public = post(f"{cognito}.GetUser", '{"AccessToken": "none"}')
    assert public[0] == 400
    assert "MissingAuthenticationToken" not in public[1]
    for target in (
        f"{cognito}.ListUserPools",
        f"{cognito}.AdminCreateUser",
        "DynamoDB_20120810.ListTables",
        "AWSCognitoIdentityService.GetId",
    ):
        status, body = post(target)
        assert (status, "MissingAuthenticationToken" in body) == (403, True)
    for path in (f"/{BUCKET}/tenants/acme/a.txt", "/moto-api/reset", "/", "/latest/meta-data/"):
        assert fetch(cloud.endpoint + path)[0] == 403
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    for action in ("AssumeRole", "ListRoles", "AssumeRoleWithSAML"):
        form_body = f"Action={action}&Version=2011-06-15".encode()
        assert fetch(cloud.endpoint, data=form_body, headers=form, method="POST")[0] == 403


# --- Requests that could be read in two ways ------------------------------------------------------


def send(cloud: LocalGate, service: str, method: str, path: str, body: str = "", **headers: str) -> tuple[int, str]:
    """A request of any form, signed well by acme: what an attacker without an SDK can send."""
    issued = credentials_of(cloud, "acme")
    credentials = Credentials(issued["AccessKeyId"], issued["SecretAccessKey"], issued["SessionToken"])
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = AWSRequest(method, cloud.endpoint + path, headers=named, data=body)
    auth = S3SigV4Auth if service == "s3" else SigV4Auth
    auth(credentials, service, REGION).add_auth(request)
    host, port = cloud.endpoint.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=10)
    connection.request(method, path, body.encode(), dict(request.headers.items()))
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


JSON = "application/x-amz-json-1.0"
OWN_KEY = json.dumps({"TableName": TABLE, "Key": key("acme")})
FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("service", "method", "path", "body", "headers"),
    [
        (
            "dynamodb",
            "POST",
            "/?Action=Scan",
            OWN_KEY,
            {"X_Amz_Target": "DynamoDB_20120810.GetItem"},
        ),
        ("dynamodb", "POST", "/x", OWN_KEY, {"X_Amz_Target": "DynamoDB_20120810.GetItem"}),
        ("dynamodb", "POST", "/", OWN_KEY, {"X_Amz_Target": "DynamoDB_20111205.GetItem"}),
        ("dynamodb", "POST", "/", OWN_KEY, {"X_Amz_Target": "DynamoDB_20120810.NoSuch"}),
        ("dynamodb", "POST", "/", "[]", {"X_Amz_Target": "DynamoDB_20120810.GetItem"}),
        (
            "dynamodb",
            "POST",
            "/",
            json.dumps(
                {
                    "TableName": TABLE,
                    "Key": {"pk": {"S": "TENANT#acme", "N": "1"}, "sk": {"S": "1"}},
                }
            ),
            {"X_Amz_Target": "DynamoDB_20120810.GetItem"},
        ),
        (
            "bedrock-agentcore",
            "POST",
            f"/memories/{MEMORY}/actor/acme%3Au/sessions/s",
            '{"actorId": "globex:u"}',
            {},
        ),
        (
            "bedrock-agentcore",
            "POST",
            f"/memories/{MEMORY}/actor/acme%3Au/sessions/s?Action=ListActors",
            "{}",
            {},
        ),
        ("s3", "GET", f"/{BUCKET}/tenants/acme/a.txt?tagging&acl", "", {}),
        ("s3", "GET", f"/{BUCKET}?list-type=2&prefix=tenants/acme/&prefix=", "", {}),
        ("s3", "GET", f"/{BUCKET}%2Ftenants%2Fglobex%2Fa.txt", "", {}),
        ("s3", "PUT", f"/{BUCKET}/tenants/acme/f", "acl=x", {"Content_Type": FORM}),
        ("s3", "POST", f"/{BUCKET}", "key=tenants/globex/x&file=x", {"Content_Type": FORM}),
        ("s3", "GET", "/v20180820/accesspoint/x", "", {}),
        ("s3", "GET", f"/{BUCKET}/tenants/globex/a.txt", "", {"x_moto_account_id": "999999999999"}),
        (
            "s3",
            "GET",
            f"/{BUCKET}/tenants/acme/../globex/a.txt",
            "",
            {"Host": f"{BUCKET}.s3.amazonaws.com"},
        ),
        (
            "iam",
            "POST",
            "/?Action=ListRoles",
            "Action=GetRole&Version=2010-05-08&RoleName=x",
            {"Content_Type": FORM},
        ),
        (
            "iam",
            "POST",
            "/",
            "Action=GetRole&Action=ListRoles&Version=2010-05-08",
            {"Content_Type": FORM},
        ),
        ("nosuchservice", "POST", "/", "{}", {}),
    ],
)
def test_a_request_that_can_be_read_in_two_ways_is_refused_and_recorded(
    cloud: LocalGate, service: str, method: str, path: str, body: str, headers: dict[str, str]
) -> None:
    position = cloud.gate.decisions.position()
    if "X_Amz_Target" in headers:
        headers = {"Content_Type": JSON, **headers}
    status, text = send(cloud, service, method, path, body, **headers)
    assert status >= 400, text
    assert "globex" not in text.replace("tenants/globex", "")
    assert [d.allowed for d in cloud.decisions_since(position)] == [False]


def test_the_operator_is_not_judged(cloud: LocalGate) -> None:
    position = cloud.gate.decisions.position()
    assert cloud.operator("dynamodb").scan(TableName=TABLE)["Count"] >= 3
    assert cloud.operator("cloudwatch").list_metrics()["Metrics"] is not None
    assert cloud.operator("sqs").list_queues()["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert cloud.decisions_since(position) == []


def test_a_change_of_policy_holds_at_once(cloud: LocalGate) -> None:
    cloud.create_role("gate-changing", [])
    credentials = cloud.gate.sessions.issue("gate-changing", "s1")
    dynamodb = cloud.client("dynamodb", credentials)
    assert_denied(cloud, dynamodb.list_tables)
    iam = cloud.operator("iam")
    allow = {"Effect": "Allow", "Action": "dynamodb:ListTables", "Resource": "*"}
    iam.put_role_policy(RoleName="gate-changing", PolicyName="own", PolicyDocument=document([allow]))
    assert_allowed(cloud, dynamodb.list_tables)
    iam.delete_role_policy(RoleName="gate-changing", PolicyName="own")
    iam.delete_role(RoleName="gate-changing")
    assert_denied(cloud, dynamodb.list_tables)


def test_a_user_pool_is_reached_by_its_tag(cloud: LocalGate) -> None:
    operator = cloud.operator("cognito-idp")
    pools = {
        name: operator.create_user_pool(PoolName=name, UserPoolTags=tags)["UserPool"]["Id"]
        for name, tags in {"acme": {"TenantId": "acme"}, "acme2": {"TenantId": "acme2"}, "untagged": {}}.items()
    }
    own = {
        "Effect": "Allow",
        "Action": "cognito-idp:ListUsers",
        "Resource": f"arn:aws:cognito-idp:{REGION}:{ACCOUNT}:userpool/*",
        "Condition": {
            "StringEquals": {"aws:ResourceTag/TenantId": "${aws:PrincipalTag/TenantId}"},
            "Null": {"aws:PrincipalTag/TenantId": "false"},
        },
    }
    cloud.create_role("gate-pools", [], [own])
    for tags, reached in (({"TenantId": "acme"}, {"acme"}), ({}, set()), ({"TenantId": ""}, set())):
        client = cloud.client("cognito-idp", cloud.gate.sessions.issue("gate-pools", "s1", tags))
        for name, pool in pools.items():
            expect = assert_allowed if name in reached else assert_denied
            expect(cloud, partial(client.list_users, UserPoolId=pool))


def test_a_permissions_boundary_limits_the_role(cloud: LocalGate) -> None:
    iam = cloud.operator("iam")
    allow = {"Effect": "Allow", "Action": "dynamodb:*", "Resource": "*"}
    reads = {"Effect": "Allow", "Action": "dynamodb:ListTables", "Resource": "*"}
    boundary = iam.create_policy(PolicyName="gate-edge", PolicyDocument=document([reads]))
    iam.create_role(
        RoleName="gate-bounded",
        AssumeRolePolicyDocument=document([]),
        PermissionsBoundary=boundary["Policy"]["Arn"],
    )
    iam.put_role_policy(RoleName="gate-bounded", PolicyName="p", PolicyDocument=document([allow]))
    dynamodb = cloud.client("dynamodb", cloud.gate.sessions.issue("gate-bounded", "s1"))
    assert_allowed(cloud, dynamodb.list_tables)
    assert_denied(cloud, lambda: dynamodb.scan(TableName=TABLE))


def test_a_route_takes_what_carries_no_aws_signature(cloud: LocalGate) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"from ", b"the route"]

    cloud.gate.route("/runtimes/", app)
    assert fetch(f"{cloud.endpoint}/runtimes/x/invocations", method="POST") == (
        200,
        "from the route",
    )
    runtimes = cloud.operator("bedrock-agentcore-control").list_agent_runtimes()
    assert runtimes["agentRuntimes"] == []
