"""A tenant's life on the deployed control plane: whatever fails, nothing is orphaned, nothing is done twice."""

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import combinations, product
from typing import Any
from unittest.mock import Mock

import pytest
import urllib3

from infra.deploy import PLATFORM, DeployError
from local.cloud import STAGE, LocalCloud
from local.functions import FunctionError, Functions
from local.managed_login import SignInRefused
from local.proof import plant, walk
from local.resources.api_gateway import APIS
from local.stage import Actor, Stage
from local.template import parse
from saas_agent.control_plane.client import AdminClient, Operation
from saas_agent.control_plane.connection import api_url
from saas_agent.control_plane.data import Data
from saas_agent.control_plane.errors import ControlPlaneError, NotFound
from saas_agent.control_plane.states import Kind, Status
from saas_agent.tenancy import standing
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.tiers import load_tiers

PLACEMENT = load_placement()
TIER = next(filter(PLACEMENT.has_own, PLACEMENT.tiers), PLACEMENT.tiers[0])
"""Where there are tenants' stacks, of a tier that has one."""
OWN = PLACEMENT.has_own(TIER)
STACKS = any(map(PLACEMENT.stack_template, PLACEMENT.tiers))
HUB = PLACEMENT.own_user_pools and any(PLACEMENT.serves(tier, None) for tier in PLACEMENT.tiers)
"""Whether users of some tenants sign in at a hub."""
NOW, THEN = next(pair for pair in combinations(PLACEMENT.tiers, 2) if len({str(PLACEMENT.row(t)) for t in pair}) == 1)
"""Two tiers of the same placement, between which a tenant may change."""

STEPS: dict[Kind, list[str]] = {
    Kind.ONBOARD: [
        *(["EnsureStack"] if STACKS else []),
        "CreateAdministrator",
        *(["AdmitUsers"] if HUB else []),
        "Finish",
    ],
    Kind.SET_TIER: [*(["EnsureStack"] if STACKS else []), "Finish"],
    **({Kind.UPGRADE: ["EnsureStack", "Finish"]} if STACKS else {}),
    Kind.SUSPEND: ["SignOutUsers", "Finish"],
    Kind.RESUME: ["Finish"],
    Kind.EXPORT: ["Export", "Finish"],
    Kind.OFFBOARD: [
        "SignOutUsers",
        *(["WithdrawUsers"] if HUB else []),
        "Export",
        "DeleteData",
        "CheckData",
        *(["DeleteStack"] if STACKS else []),
        "DeleteUsers",
        "Finish",
    ],
}
"""What each operation does, in order; what is waited for is left out."""


# --- What there is ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """Something that is kept of a tenant, somewhere."""

    tenant: str
    store: str
    key: str
    content: str


class Stores:
    """Every place that keeps anything of a tenant, read as the operator, who may see all of it."""

    def __init__(self, cloud: LocalCloud) -> None:
        session = cloud.operator_session()
        self._outputs = cloud.outputs
        self._of_stacks: dict[str, dict[str, str]] = {}
        self._cloudformation = session.client("cloudformation")
        self._dynamodb = session.client("dynamodb")
        self._s3 = session.client("s3")
        self._memory = session.client("bedrock-agentcore")
        self._cognito = session.client("cognito-idp")
        self._logs = session.client("logs")
        self._bedrock = session.client("bedrock-agent")
        self._vectors = session.client("s3vectors")
        self._secrets = session.client("secretsmanager")

    def entries(self) -> set[Entry]:
        """Everything there is, of everybody."""
        self._of_stacks = self._outputs_of_stacks()
        found = {*self._users(self._pools()), *self._hub(), *self._stacks(), *self._log_groups(), *self._knowledge()}
        found |= set(self._keys())
        for memory in self._places("MemoryId"):
            found |= set(self._events_and_records(memory, ""))
        for store in ("RegistryTable", "QuotaTable", "TableName"):
            for table in self._places(store):
                pages = self._dynamodb.get_paginator("scan").paginate(TableName=table)
                found |= {_item(store, item) for page in pages for item in page["Items"]}
        for store in ("BucketName", "DocumentsBucket", "ExportsBucket"):
            for bucket in self._places(store):
                found |= set(self._objects(store, bucket, ""))
        return found

    def of(self, tenant_id: str) -> set[Entry]:
        """Everything that is kept under a tenant's name."""
        self._of_stacks = self._outputs_of_stacks()
        pools = {pool: tenant for pool, tenant in self._pools().items() if tenant in (None, tenant_id)}
        named = (*self._users(pools), *self._hub(), *self._stacks(), *self._log_groups(), *self._knowledge())
        found = {entry for entry in (*named, *self._keys()) if entry.tenant == tenant_id}
        for memory in self._places("MemoryId"):
            found |= set(self._events_and_records(memory, f"{tenant_id}:"))
        for store in ("RegistryTable", "QuotaTable", "TableName"):
            for table in self._places(store):
                own = {":pk": {"S": f"TENANT#{tenant_id}"}}
                items = self._dynamodb.query(
                    TableName=table, KeyConditionExpression="pk = :pk", ExpressionAttributeValues=own
                )["Items"]
                found |= {_item(store, item) for item in items}
        for store in ("BucketName", "DocumentsBucket", "ExportsBucket"):
            for bucket in self._places(store):
                found |= set(self._objects(store, bucket, f"tenants/{tenant_id}/"))
        return found

    def _places(self, output: str) -> list[str]:
        """Where it is, in all stacks: the platform's and those of tenants."""
        return [outputs[output] for outputs in self._of_stacks.values() if output in outputs]

    def _outputs_of_stacks(self) -> dict[str, dict[str, str]]:
        pages = self._cloudformation.get_paginator("describe_stacks").paginate()
        return {
            stack["StackName"]: {entry["OutputKey"]: entry["OutputValue"] for entry in stack.get("Outputs", [])}
            for page in pages
            for stack in page["Stacks"]
            if stack["StackStatus"] != "DELETE_COMPLETE"
        }

    def _stacks(self) -> Iterator[Entry]:
        prefix = f"{self._outputs['Service']}-{self._outputs['Stage']}-tenant-"
        for name in self._of_stacks:
            if name.startswith(prefix):
                yield Entry(name.removeprefix(prefix), "stack", name, "")

    def _keys(self) -> Iterator[Entry]:
        """Tenants' secrets, those too that are about to be deleted."""
        pages = self._secrets.get_paginator("list_secrets").paginate(IncludePlannedDeletion=True)
        for name in [secret["Name"] for page in pages for secret in page["SecretList"]]:
            yield Entry(name.split("/")[-2], "keys", name, "")

    def _log_groups(self) -> Iterator[Entry]:
        groups = self._logs.get_paginator("describe_log_groups").paginate()
        for name in [group["logGroupName"] for page in groups for group in page["logGroups"]]:
            if of_runtime := re.fullmatch("/aws/bedrock-agentcore/runtimes/t_(.*)_[0-9a-f]{8}-.*", name):
                yield Entry(of_runtime[1].replace("_", "-"), "log", name, "")

    def _knowledge(self) -> Iterator[Entry]:
        """Documents as the knowledge bases list them, and the vectors of their passages."""
        found = {*self._places("KnowledgeDataSource"), *self._places("KnowledgeAccess")}
        for base, _, source in [place.partition("|") for place in found if "|" in place]:
            pages = self._bedrock.get_paginator("list_knowledge_base_documents").paginate(
                knowledgeBaseId=base, dataSourceId=source
            )
            for document in [detail for page in pages for detail in page["documentDetails"]]:
                document_id = document["identifier"]["custom"]["id"]
                yield Entry(document_id.split("/")[1], "indexed", document_id, document["status"])
            described = self._bedrock.get_knowledge_base(knowledgeBaseId=base)["knowledgeBase"]
            index = described["storageConfiguration"]["s3VectorsConfiguration"]["indexArn"]
            pages = self._vectors.get_paginator("list_vectors").paginate(indexArn=index, returnMetadata=True)
            for vector in [vector for page in pages for vector in page["vectors"]]:
                text = json.dumps(vector["metadata"], sort_keys=True)
                yield Entry(vector["metadata"]["tenant_id"], "vectors", vector["key"], text)

    def _objects(self, store: str, bucket: str, prefix: str) -> Iterator[Entry]:
        for page in self._s3.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix):
            for version in page.get("Versions", []):
                content = self._s3.get_object(Bucket=bucket, Key=version["Key"], VersionId=version["VersionId"])
                text = content["Body"].read().decode(errors="replace")
                yield Entry(version["Key"].split("/")[1], store, f"{version['Key']} {version['VersionId']}", text)
            for marker in page.get("DeleteMarkers", []):
                yield Entry(marker["Key"].split("/")[1], store, f"{marker['Key']} {marker['VersionId']}", "deleted")

    def _events_and_records(self, memory_id: str, actors: str) -> Iterator[Entry]:
        memory = {"memoryId": memory_id}
        pages = self._memory.get_paginator("list_actors").paginate(**memory)
        for actor in [entry["actorId"] for page in pages for entry in page["actorSummaries"]]:
            if not actor.startswith(actors):
                continue
            tenant = actor.partition(":")[0]
            sessions = self._memory.get_paginator("list_sessions").paginate(**memory, actorId=actor)
            for session in [entry["sessionId"] for page in sessions for entry in page["sessionSummaries"]]:
                events = self._memory.get_paginator("list_events").paginate(**memory, actorId=actor, sessionId=session)
                for event in [event for page in events for event in page["events"]]:
                    yield Entry(tenant, "events", event["eventId"], json.dumps(event, sort_keys=True, default=str))
        pages = self._memory.get_paginator("list_memory_records").paginate(**memory, namespacePath="/")
        for record in [record for page in pages for record in page["memoryRecordSummaries"]]:
            actor = record["namespaces"][0].split("/")[2]
            if actor.startswith(actors):
                text = json.dumps(record, sort_keys=True, default=str)
                yield Entry(actor.partition(":")[0], "records", record["memoryRecordId"], text)

    def _pools(self) -> dict[str, str | None]:
        """Every user pool by its id, with the tenant whose own it is."""
        prefix, shared = f"{self._outputs['Service']}-{self._outputs['Stage']}", self._outputs.get("UserPoolId")
        pages = self._cognito.get_paginator("list_user_pools").paginate(MaxResults=60)
        pools = [pool for page in pages for pool in page["UserPools"]]
        return {p["Id"]: None if p["Id"] == shared else p["Name"].removeprefix(f"{prefix}-") for p in pools}

    def _users(self, pools: Mapping[str, str | None]) -> Iterator[Entry]:
        for pool, owner in pools.items():
            if owner is not None:
                yield Entry(owner, "pool", pool, "")
            pages = self._cognito.get_paginator("list_users").paginate(UserPoolId=pool)
            for user in [user for page in pages for user in page["Users"]]:
                values = {attribute["Name"]: attribute["Value"] for attribute in user["Attributes"]}
                content = json.dumps(values, sort_keys=True)
                if "custom:tenant_id" in values:
                    yield Entry(values["custom:tenant_id"], "users", user["Username"], content)
                else:
                    yield Entry(user["Username"].partition("_")[0], "profiles", user["Username"], content)

    def _hub(self) -> Iterator[Entry]:
        """Whose users may come to the hub, by its providers, and by what its client lets in."""
        if HUB:
            hub = {"UserPoolId": self._outputs["UserPoolId"]}
            pages = self._cognito.get_paginator("list_identity_providers").paginate(**hub)
            for name in [provider["ProviderName"] for page in pages for provider in page["Providers"]]:
                yield Entry(name, "provider", name, "")
            client = self._cognito.describe_user_pool_client(**hub, ClientId=self._outputs["ClientId"])
            for name in client["UserPoolClient"].get("SupportedIdentityProviders", []):
                yield Entry(name, "let in", name, "")


def _item(store: str, item: dict[str, Any]) -> Entry:
    tenant = item["pk"]["S"].removeprefix("TENANT#")
    return Entry(tenant, store, item["sk"]["S"], json.dumps(item, sort_keys=True, default=str))


@pytest.fixture(scope="module")
def stores(cloud: LocalCloud) -> Stores:
    return Stores(cloud)


# --- What fails -------------------------------------------------------------------------------------------------------


class Faults:
    """Makes steps of the workflow fail, before or after they had their effect; counts how often each was taken."""

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}
        self.error = "Sandbox.Timedout"
        self.times = 1000
        self.taken: Counter[str] = Counter()
        self._lock = threading.Lock()

    def invoke(self, invoke: Callable[..., Any], name: str, event: Any) -> Any:
        step = event.get("step", "") if isinstance(event, dict) else ""
        with self._lock:
            self.taken[step] += 1
            when = self.broken.get(step) if self.taken[step] <= self.times else None
        if when == "before":
            raise FunctionError(self.error, "secret of nobody's business")
        result = invoke(name, event)
        if when == "after":
            raise FunctionError(self.error, "secret of nobody's business")
        return result


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    found, invoke = Faults(), Functions.invoke
    monkeypatch.setattr(
        Functions,
        "invoke",
        lambda functions, name, event, *more: found.invoke(lambda *a: invoke(functions, *a, *more), name, event),
    )
    return found


KEPT = {"RegistryTable": 1, "users": 1, **({"stack": 1} if PLACEMENT.stack_template(TIER) else {})}
"""What there is of a tenant that stored nothing."""
if PLACEMENT.own_user_pools:
    KEPT["pool"] = 1
if HUB and PLACEMENT.serves(TIER, None):
    KEPT |= {"provider": 1, "let in": 1}
if PLACEMENT.column(TIER, "runtime") == "dedicated":
    KEPT["log"] = 1

names = (f"t{number:03}" for number in range(1, 1000))
"""Ids of tenants that no other test knows."""


def begin(stage: Stage, tenant_id: str, tier: str = TIER) -> None:
    stage.tenants.onboard(tenant_id, tier=tier, admin=f"admin@{tenant_id}.example", invite=False)


def failed_operation(stage: Stage, step: str, operation: Callable[[], object]) -> Operation:
    """The operation, which fails at this step, says so and nothing that is nobody's business, and says how to go on."""
    with pytest.raises(ControlPlaneError, match=f"failed at {step}: Sandbox.Timedout") as refused:
        operation()
    assert "secret" not in str(refused.value)
    failed = stage.tenants.operation(str(refused.value).rpartition("`tenants retry ")[2].rstrip("`"))
    assert (failed.state, failed.failure and failed.failure.step) == ("FAILED", step)
    return failed


def ends_well(step: str, when: str) -> bool:
    """Whether the operation has succeeded when it seems to fail there: then that is what is said."""
    return (step, when) == ("Finish", "after")


def require_onboarded(stage: Stage, stores: Stores, tenant_id: str) -> None:
    """The tenant is ACTIVE, and there is of it what there should be."""
    record = stage.tenants.show(tenant_id)
    assert (record.status, record.failure) == (Status.ACTIVE, None)
    assert Counter(entry.store for entry in stores.of(tenant_id)) == KEPT


def require_offboarded(stage: Stage, stores: Stores, actor: Actor) -> str:
    """Of the tenant a tombstone is left and one whole export, of what it had; the name of that export's folder."""
    assert stage.tenants.show(actor.name).status is Status.DELETED
    left = stores.of(actor.name)
    assert {entry.store for entry in left} == {"RegistryTable", "ExportsBucket"}
    exported = [entry for entry in left if entry.store == "ExportsBucket"]
    [folder] = {entry.key.split("/")[2] for entry in exported}
    assert any("/manifest.json " in entry.key for entry in exported)
    assert any(actor.canary in entry.content for entry in exported), "it was exported when the stores were empty"
    return folder


@pytest.mark.parametrize("repair", ["retry", "repeat"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_onboarding_that_fails_at_every_step_can_be_finished(
    stage: Stage, stores: Stores, faults: Faults, when: str, repair: str
) -> None:
    tenant_id = next(names)

    onboard = partial(begin, stage, tenant_id)
    go_on: Callable[[], object] = onboard
    for step in STEPS[Kind.ONBOARD]:
        faults.broken = {step: when}
        if ends_well(step, when):
            break
        failed = failed_operation(stage, step, go_on)
        record = stage.tenants.show(tenant_id)
        assert (record.status, record.failure) == (Status.FAILED, failed.failure)
        faults.broken = {}
        if repair == "retry":
            go_on = partial(stage.tenants.retry, failed.operation_id)
    go_on()
    onboard()
    require_onboarded(stage, stores, tenant_id)


@pytest.mark.parametrize("step", [step for step in STEPS[Kind.ONBOARD] if step != "Finish"])
def test_onboarding_that_fails_once_does_that_step_when_it_is_repeated(
    stage: Stage, stores: Stores, faults: Faults, step: str
) -> None:
    """No later pass makes up for what this one leaves out."""
    tenant_id = next(names)
    faults.broken = {step: "before"}
    failed_operation(stage, step, lambda: begin(stage, tenant_id))
    faults.broken = {}
    begin(stage, tenant_id)
    require_onboarded(stage, stores, tenant_id)


@pytest.mark.parametrize(
    ("step", "when"), [pair for pair in product(STEPS[Kind.ONBOARD], ("before", "after")) if not ends_well(*pair)]
)
def test_onboarding_that_fails_at_a_step_can_be_taken_back(
    stage: Stage, stores: Stores, faults: Faults, step: str, when: str
) -> None:
    tenant_id = next(names)
    faults.broken = {step: when}
    failed_operation(stage, step, lambda: begin(stage, tenant_id))
    faults.broken = {}
    assert stage.tenants.offboard(tenant_id).record is None
    assert stores.of(tenant_id) == set()


@pytest.mark.parametrize(("when", "repair"), [("before", "retry"), ("after", "repeat")])
def test_offboarding_that_fails_at_every_step_can_be_finished(
    stage: Stage, stores: Stores, faults: Faults, when: str, repair: str
) -> None:
    tenant_id = next(names)
    actor = stage.onboard(tenant_id, TIER)
    plant(stage, [actor])
    go_on = partial(stage.tenants.offboard, tenant_id, export=True)
    for step in STEPS[Kind.OFFBOARD]:
        faults.broken = {step: when}
        if ends_well(step, when):
            break
        failed = failed_operation(stage, step, go_on)
        assert stage.tenants.show(tenant_id).status is Status.FAILED
        with pytest.raises(SignInRefused):
            stage.sign_in(tenant_id, actor.email, actor.password)
        with pytest.raises(ControlPlaneError, match="FAILED by a failed offboard"):
            stage.tenants.resume(tenant_id)
        faults.broken = {}
        if repair == "retry":
            go_on = partial(stage.tenants.retry, failed.operation_id)
    go_on()
    require_offboarded(stage, stores, actor)


@pytest.mark.parametrize(
    ("when", "first", "then"),
    [
        ("before", True, "retry"),
        # Whoever asks for an export at last gets what is left, which here is everything.
        ("before", False, True),
        # What was exported before the data went is not to be had again.
        ("after", True, True),
        ("after", True, False),
    ],
)
def test_offboarding_that_fails_once_does_that_step_later_and_loses_no_export(
    stage: Stage, stores: Stores, faults: Faults, when: str, first: bool, then: bool | str
) -> None:
    """No later pass makes up for what this one leaves out."""
    actor = stage.onboard(next(names), TIER)
    plant(stage, [actor])
    faults.broken = {"DeleteData": when}
    failed = failed_operation(stage, "DeleteData", lambda: stage.tenants.offboard(actor.name, export=first))
    faults.broken = {}
    if isinstance(then, bool):
        change = stage.tenants.offboard(actor.name, export=then)
    else:
        change = stage.tenants.retry(failed.operation_id)
    assert change.operation is not None
    assert require_offboarded(stage, stores, actor) == change.operation.parameters["folder"] == failed.operation_id


@pytest.mark.parametrize("export", [False, True])
def test_half_an_export_that_fails_is_deleted_where_none_is_asked_for_and_not_gone_on_with(
    stage: Stage, stores: Stores, cloud: LocalCloud, faults: Faults, monkeypatch: pytest.MonkeyPatch, export: bool
) -> None:
    actor = stage.onboard(next(names), TIER)
    plant(stage, [actor])
    faults.broken = {"Export": "before"}
    failed = failed_operation(stage, "Export", lambda: stage.tenants.offboard(actor.name, export=True))
    faults.broken = {}
    # As if it had come to its end without having copied anything, but for the manifest.
    half = {"cursor": json.dumps({"store": 99, "start": "", "number": 0}), "objects": {}}
    key = f"tenants/{actor.name}/{failed.operation_id}/progress.json"
    s3 = cloud.operator_session().client("s3")
    s3.put_object(Bucket=cloud.outputs["ExportsBucket"], Key=key, Body=json.dumps(half))
    with monkeypatch.context() as patched:
        patched.setattr(Data, "delete", Mock(side_effect=ControlPlaneError("S3 kept 1 objects")))
        with pytest.raises(ControlPlaneError, match="failed at DeleteData: S3 kept 1 objects"):
            stage.tenants.offboard(actor.name)
    s3.put_object(Bucket=cloud.outputs["ExportsBucket"], Key=key.replace("progress.json", "x"), Body=b"x")
    stage.tenants.offboard(actor.name, export=export)
    if export:
        require_offboarded(stage, stores, actor)
    else:
        assert {entry.store for entry in stores.of(actor.name)} == {"RegistryTable"}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    ("kind", "step"),
    [
        (kind, step)
        for kind in (Kind.SET_TIER, Kind.UPGRADE, Kind.SUSPEND, Kind.RESUME)
        # Where the tenant of this test has no stack of its own, there is nothing to upgrade.
        if kind is not Kind.UPGRADE or PLACEMENT.stack_template(NOW)
        for step in STEPS[kind]
    ],
)
def test_any_other_operation_that_fails_leaves_the_tenant_as_the_table_says(
    stage: Stage, faults: Faults, kind: Kind, step: str, when: str
) -> None:
    tenant_id = next(names)
    begin(stage, tenant_id, NOW)
    if kind is Kind.RESUME:
        stage.tenants.suspend(tenant_id)
    change: dict[Kind, Callable[[], Any]] = {
        Kind.SET_TIER: lambda: stage.tenants.set_tier(tenant_id, THEN),
        Kind.UPGRADE: lambda: stage.tenants.upgrade(tenant_id),
        Kind.SUSPEND: lambda: stage.tenants.suspend(tenant_id),
        Kind.RESUME: lambda: stage.tenants.resume(tenant_id),
    }
    faults.broken = {step: when}
    if (step, when) != ("Finish", "after"):
        with pytest.raises(ControlPlaneError, match=f"failed at {step}"):
            change[kind]()
        record = stage.tenants.show(tenant_id)
        left = Status.ACTIVE if kind in (Kind.SET_TIER, Kind.UPGRADE) else Status.SUSPENDED
        assert (record.status, record.tier) == (left, NOW)
        faults.broken = {}
    change[kind]()
    record = stage.tenants.show(tenant_id)
    done = Status.SUSPENDED if kind is Kind.SUSPEND else Status.ACTIVE
    assert (record.status, record.failure) == (done, None)
    assert record.tier == (THEN if kind is Kind.SET_TIER else NOW)


def test_an_upgrade_brings_a_tenants_own_stack_to_the_template_that_was_deployed_last(
    stage: Stage, cloud: LocalCloud
) -> None:
    if not STACKS:
        return  # and no such operation
    first, second = next(names), next(names)
    for tenant_id in (first, second):
        begin(stage, tenant_id)
    session = cloud.operator_session()
    [artifacts] = session.client("cloudformation").describe_stacks(StackName=f"{PLACEMENT.service}-{STAGE}-artifacts")[
        "Stacks"
    ]
    [bucket] = [output["OutputValue"] for output in artifacts["Outputs"] if output["OutputKey"] == "BucketName"]
    s3, where = session.client("s3"), {"Bucket": bucket, "Key": f"templates/{PLACEMENT.stack_template(TIER)}"}
    deployed = s3.get_object(**where)["Body"].read()
    s3.put_object(**where, Body=deployed.replace(b"\nOutputs:\n", b"\nOutputs:\n  Mended:\n    Value: mended\n"))
    try:
        before = stage.tenants.show(first).resources
        assert stage.tenants.upgrade(first).changed
        record = stage.tenants.show(first)
        assert (record.status, record.resources) == (Status.ACTIVE, {**before, "Mended": "mended"})
        assert "Mended" not in stage.tenants.show(second).resources
    finally:
        s3.put_object(**where, Body=deployed)
    stage.tenants.upgrade(first)
    assert stage.tenants.show(first).resources == before


def test_a_tenant_whose_components_were_moved_is_neither_upgraded_nor_exported_nor_deleted(
    stage: Stage, cloud: LocalCloud, stores: Stores, faults: Faults
) -> None:
    """Nothing moves data: it would be deleted with the stack, or looked for where it isn't and left behind."""
    tenant_id = next(names)
    plant(stage, [stage.onboard(tenant_id, TIER)])
    key = {"pk": {"S": f"TENANT#{tenant_id}"}, "sk": {"S": "TENANT"}}
    table, dynamodb = stage.outputs["RegistryTable"], stage.session.client("dynamodb")
    # It is decided again in each step: between the two, it may have been deployed anew.
    faults.broken = {"EnsureStack": "before", "Export": "before"}
    upgrade = failed_operation(stage, "EnsureStack", lambda: stage.tenants.upgrade(tenant_id)) if OWN else None
    export = failed_operation(stage, "Export", lambda: stage.tenants.export(tenant_id))
    faults.broken = {}
    item = dynamodb.get_item(TableName=table, Key=key)["Item"]
    placed = item["placement"]["M"]

    def data() -> set[Entry]:
        return {entry for entry in stores.of(tenant_id) if entry.store != "RegistryTable"}

    before = data()
    other = {"dedicated": "shared", "shared": "dedicated"}[PLACEMENT.column(TIER, "memory")]
    for provisioned in ({"memory": {"S": other}}, {"archive": {"S": "dedicated"}}):
        dynamodb.put_item(TableName=table, Item={**item, "placement": {"M": {**placed, **provisioned}}})
        with pytest.raises(DeployError, match=f"tenant {tenant_id}.* would move from"):
            cloud.deploy()
        for begin in (*([stage.tenants.upgrade] if upgrade else []), stage.tenants.export, stage.tenants.offboard):
            with pytest.raises(ControlPlaneError, match=f"^tenant {tenant_id}.* would move from"):
                begin(tenant_id)
        for operation in filter(None, (upgrade, export)):
            assert operation.failure is not None
            with pytest.raises(ControlPlaneError, match=f"failed at {operation.failure.step}: .* would move from"):
                stage.tenants.retry(operation.operation_id)
        assert stage.tenants.show(tenant_id).status is Status.ACTIVE
        assert data() == before
        dynamodb.put_item(TableName=table, Item=item)
    # Of one that is on its way out, nothing is deleted either.
    faults.broken = {"DeleteData": "before"}
    leaving = failed_operation(stage, "DeleteData", lambda: stage.tenants.offboard(tenant_id))
    faults.broken = {}
    item, before = dynamodb.get_item(TableName=table, Key=key)["Item"], data()
    archived = {"M": {**placed, "archive": {"S": "shared"}}}
    dynamodb.put_item(TableName=table, Item={**item, "placement": archived})
    with pytest.raises(ControlPlaneError, match="failed at DeleteData: .* would move from"):
        stage.tenants.retry(leaving.operation_id)
    assert data() == before
    now = dynamodb.get_item(TableName=table, Key=key)["Item"]
    dynamodb.put_item(TableName=table, Item={**now, "placement": {"M": placed}})
    stage.tenants.offboard(tenant_id)
    assert {entry.store for entry in stores.of(tenant_id)} == {"RegistryTable"}


def test_an_export_that_fails_moves_nothing_and_can_be_repeated(stage: Stage, stores: Stores, faults: Faults) -> None:
    tenant_id = next(names)
    plant(stage, [stage.onboard(tenant_id, TIER)])
    faults.broken = {"Export": "after"}
    failed = failed_operation(stage, "Export", lambda: stage.tenants.export(tenant_id))
    assert stage.tenants.show(tenant_id).status is Status.ACTIVE
    faults.broken = {}
    stage.tenants.retry(failed.operation_id)
    assert len({entry.key.split("/")[2] for entry in stores.of(tenant_id) if entry.store == "ExportsBucket"}) == 1


def test_a_step_that_is_throttled_is_taken_again(stage: Stage, faults: Faults) -> None:
    tenant_id = next(names)
    faults.broken, faults.error, faults.times = {"CreateAdministrator": "before"}, "Throttled", 3
    begin(stage, tenant_id)
    assert stage.tenants.show(tenant_id).status is Status.ACTIVE
    assert faults.taken["CreateAdministrator"] == 4


def test_a_workflow_that_dies_without_a_word_leaves_nobody_stuck(stage: Stage, faults: Faults) -> None:
    tenant_id = next(names)
    faults.broken = {"CreateAdministrator": "before", "Fail": "before"}
    with pytest.raises(ControlPlaneError, match="failed at Fail: the workflow ended without a word"):
        begin(stage, tenant_id)
    assert stage.tenants.show(tenant_id).status is Status.FAILED
    faults.broken = {}
    begin(stage, tenant_id)
    assert stage.tenants.show(tenant_id).status is Status.ACTIVE


def test_a_step_that_needs_many_calls_gets_them(stage: Stage, stores: Stores, cloud: LocalCloud) -> None:
    tenant_id = next(names)
    actor = stage.onboard(tenant_id, TIER)
    plant(stage, [actor])
    list(walk(stage, actor))
    functions = cloud.operator_session().client("lambda")
    found = [
        function
        for function in functions.list_functions()["Functions"]
        if "WORK_SECONDS" in function["Environment"]["Variables"]
    ]
    assert len(found) == 2

    def work(seconds: str | None) -> None:
        for function in found:
            variables = function["Environment"]["Variables"]
            changed = {**variables, "WORK_SECONDS": seconds} if seconds is not None else variables
            functions.update_function_configuration(
                FunctionName=function["FunctionName"], Environment={"Variables": changed}
            )

    work("0")
    try:
        stage.tenants.offboard(tenant_id, export=True)
    finally:
        work(None)
    assert {entry.store for entry in stores.of(tenant_id)} == {"RegistryTable", "ExportsBucket"}


# --- What must hold when nothing fails --------------------------------------------------------------------------------


ELSEWHERE = "/aws/bedrock-agentcore/runtimes/t_leaver_00000000-AbCdEf1234-DEFAULT"


def test_one_of_three_tenants_leaves_and_nothing_of_it_stays(
    stage: Stage, stores: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is named after the second may begin like what is named after the first, to the separator behind its id.
    leaver, twin, other = (stage.onboard(name, TIER) for name in ("leaver", "leaver-b", "stayer"))
    for actor in (leaver, twin, other):
        plant(stage, [actor])
        assert all(access.ok for access in walk(stage, actor))
    stage.tenants.export("leaver")
    # Another stage of the account has a tenant of this name, too, and its runtime a log group.
    logs = stage.session.client("logs")
    logs.create_log_group(logGroupName=ELSEWHERE)
    before = stores.entries()
    had = {entry.store for entry in before if entry.tenant == "leaver"}
    assert ({"DocumentsBucket", "indexed", "vectors"} <= had) == ("knowledge_base" in PLACEMENT.components)
    assert ("keys" in had) == (find_spec("saas_agent.control_plane.data_secrets") is not None)
    assert {"RegistryTable", "QuotaTable", "users", "events", "records", "ExportsBucket"} <= had
    stage.tenants.offboard("leaver")
    after = stores.entries()
    logs.delete_log_group(logGroupName=ELSEWHERE)
    elsewhere = {entry for entry in after if entry.key == ELSEWHERE}
    assert elsewhere == {entry for entry in before if entry.key == ELSEWHERE}
    [tombstone] = [entry for entry in after - elsewhere if entry.tenant == "leaver"]
    assert '"DELETED"' in tombstone.content
    assert leaver.email not in tombstone.content
    assert not [entry for entry in after if leaver.canary in entry.content]
    assert {entry for entry in after if entry.tenant != "leaver"} == {
        entry for entry in before if entry.tenant != "leaver"
    }
    for actor in (twin, other):
        assert stage.ask(actor, "what do I prefer?").status == 200
    if PLACEMENT.column(TIER, "runtime") == "dedicated":
        return  # no runtime serves it any more
    # The local cloud doesn't wait for as long as the agent remembers the registry.
    monkeypatch.setattr(standing, "FRESH_SECONDS", 0.0)
    answer = stage.ask(leaver, "hello")
    assert (answer.status, answer.body["error"]["code"]) == (403, "tenant_not_active")


def test_an_export_is_everything_of_its_tenant_and_nothing_of_another(
    stage: Stage, stores: Stores, cloud: LocalCloud
) -> None:
    ours, theirs = stage.onboard(next(names), TIER), stage.onboard(next(names), TIER)
    plant(stage, [ours, theirs])
    change = stage.tenants.export(ours.name)
    assert change.operation is not None
    bucket, prefix = cloud.outputs["ExportsBucket"], f"tenants/{ours.name}/{change.operation.operation_id}/"
    s3 = cloud.operator_session().client("s3")

    def content(key: str) -> bytes:
        found: bytes = s3.get_object(Bucket=bucket, Key=prefix + key)["Body"].read()
        return found

    manifest = json.loads(content("manifest.json"))
    kept = Counter(entry.store for entry in stores.of(ours.name))
    items = {name: store["items"] for name, store in manifest["stores"].items()}
    expected = {"memory": kept["events"] + kept["records"]}
    expected |= {"table": kept["TableName"]} if "dynamodb" in PLACEMENT.components else {}
    expected |= {"files": kept["BucketName"]} if "s3" in PLACEMENT.components else {}
    expected |= {"documents": kept["DocumentsBucket"]} if "knowledge_base" in PLACEMENT.components else {}
    assert items == expected
    assert min(items.values()) > 0
    objects = [entry for store in manifest["stores"].values() for entry in store["objects"]]
    for entry in objects:
        found = content(entry["key"])
        assert (entry["bytes"], entry["sha256"]) == (len(found), hashlib.sha256(found).hexdigest())
        assert theirs.canary.encode() not in found
    for name in manifest["stores"]:
        assert any(ours.canary.encode() in content(entry["key"]) for entry in manifest["stores"][name]["objects"]), name
    listed = s3.list_objects_v2(Bucket=bucket, Prefix=prefix)["Contents"]
    assert {entry["Key"] for entry in listed} == {prefix + entry["key"] for entry in objects} | {
        f"{prefix}manifest.json"
    }


def test_a_file_with_the_longest_key_that_s3_takes_is_exported(stage: Stage, cloud: LocalCloud) -> None:
    if "s3" not in PLACEMENT.components:
        return  # and no tenant names a file
    actor = stage.onboard(next(names), TIER)
    bucket, s3 = stage.home(actor.name).resource("s3"), stage.access(actor).client("s3")
    beginning = f"tenants/{actor.name}/reports/"
    # Longer than what is left for a name behind an export's folder, in characters or in bytes alone; and just as long.
    room = 1024 - len(f"tenants/{actor.name}/op-{32 * '0'}/files/reports/")
    rests = [*(f"{n}".ljust(1024 - len(beginning), "x") for n in range(2)), "ü" * (room // 2 + 1), "y" * room]
    for number, rest in enumerate(rests):
        s3.put_object(Bucket=bucket, Key=beginning + rest, Body=f"{number}".encode())
    change = stage.tenants.export(actor.name)
    assert change.operation is not None
    folder = f"tenants/{actor.name}/{change.operation.operation_id}/"
    exports = partial(cloud.operator_session().client("s3").get_object, Bucket=cloud.outputs["ExportsBucket"])
    files = json.loads(exports(Key=f"{folder}manifest.json")["Body"].read())["stores"]["files"]["objects"]
    found = {file.get("name", file["key"]): exports(Key=folder + file["key"])["Body"].read().decode() for file in files}
    assert found == {f"files/reports/{rest}": f"{number}" for number, rest in enumerate(rests)}
    assert {file["key"] for file in files if "name" not in file} == {f"files/reports/{rests[-1]}"}


def test_onboarding_many_at_once_loses_none_and_costs_each_the_same(
    stage: Stage, stores: Stores, cloud: LocalCloud
) -> None:
    tenants = [next(names) for _ in range(8)]
    documents = iam_documents(cloud)
    begin(stage, next(names))
    # A role of its own has whoever has a stack of its own, and nobody else.
    grown = iam_documents(cloud) - documents
    assert bool(grown) == OWN

    def calls(work: Callable[[], object]) -> Counter[str]:
        wait_for_announcements(cloud)
        before = cloud.decisions.position()
        work()
        wait_for_announcements(cloud)
        return Counter(decision.action for decision in cloud.decisions.since(before))

    first = calls(lambda: begin(stage, next(names)))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda tenant_id: begin(stage, tenant_id), tenants))
    last = calls(lambda: begin(stage, next(names)))
    for tenant_id in tenants:
        assert stage.tenants.show(tenant_id).status is Status.ACTIVE
        assert Counter(entry.store for entry in stores.of(tenant_id)) == KEPT
    # What is asked while waiting depends on how long that takes; and a hub's providers are listed sixty to a page.
    polls = ("states:GetExecutionHistory", "dynamodb:GetItem", "cognito-idp:ListIdentityProviders")
    assert {action: count for action, count in first.items() if action not in polls} == {
        action: count for action, count in last.items() if action not in polls
    }
    assert iam_documents(cloud) == documents + (len(tenants) + 3) * grown


def iam_documents(cloud: LocalCloud) -> int:
    """How many roles and policies there are."""
    iam = cloud.operator_session().client("iam")
    roles = [role["RoleName"] for page in iam.get_paginator("list_roles").paginate() for role in page["Roles"]]
    return len(roles) + sum(len(iam.list_role_policies(RoleName=name)["PolicyNames"]) for name in roles)


def test_the_same_tenant_onboarded_by_many_at_once_is_one(stage: Stage, stores: Stores) -> None:
    tenant_id = next(names)

    def attempt(_: int) -> str:
        try:
            begin(stage, tenant_id)
        except ControlPlaneError as refused:
            # Who comes late finds it onboarded.
            assert re.search("changed by someone else|is ACTIVE", str(refused))
            return "told to repeat"
        return "done"

    with ThreadPoolExecutor(8) as pool:
        assert "done" in list(pool.map(attempt, range(8)))
    assert Counter(entry.store for entry in stores.of(tenant_id)) == KEPT


def test_a_suspension_takes_the_tenant_away_from_what_is_under_way(stage: Stage, faults: Faults) -> None:
    tenant_id = next(names)
    begin(stage, tenant_id, NOW)
    suspended: list[Status] = []

    def finish_late(invoke: Callable[..., Any], name: str, event: Any) -> Any:
        if isinstance(event, dict) and event.get("step") == "Finish" and event["state"]["kind"] == Kind.SET_TIER:
            suspended.append(stage.tenants.suspend(tenant_id).record.status)  # type: ignore[union-attr]
        return invoke(name, event)

    faults.invoke = finish_late  # type: ignore[method-assign]
    with pytest.raises(ControlPlaneError, match="changed by someone else meanwhile"):
        stage.tenants.set_tier(tenant_id, THEN)
    record = stage.tenants.show(tenant_id)
    assert suspended == [Status.SUSPENDED]
    assert (record.status, record.tier) == (Status.SUSPENDED, NOW)


@dataclass(frozen=True)
class Overtaken:
    """Steps of the workflow as it called them, and a tenant that has something, for them to be called on again."""

    calls: Mapping[tuple[Kind, str], tuple[Functions, str, dict[str, Any]]]
    tenant: Actor


# Every step that does anything on the way; `Finish` and `Fail` write under a condition.
GUARDED = [(kind, step) for kind, steps in STEPS.items() for step in steps if step != "Finish"]
EXPECTED: Mapping[str, set[Status]] = {
    "EnsureStack": {Status.PROVISIONING, Status.UPDATING},
    "CreateAdministrator": {Status.PROVISIONING},
    "AdmitUsers": {Status.PROVISIONING},
    "SignOutUsers": {Status.SUSPENDED, Status.OFFBOARDING},
}


def expected(kind: Kind, step: str) -> set[Status]:
    """The states of a tenant that a step of such an operation works in."""
    if kind is Kind.EXPORT:
        return {Status.ACTIVE, Status.UPDATING, Status.SUSPENDED}
    return EXPECTED.get(step, {Status.OFFBOARDING})


@pytest.fixture(scope="module")
def overtaken(stage: Stage) -> Overtaken:
    tenant_id, invoke = next(names), Functions.invoke
    calls: dict[tuple[Kind, str], tuple[Functions, str, dict[str, Any]]] = {}

    def note(functions: Functions, name: str, event: Any, *more: Any) -> Any:
        if isinstance(event, dict) and "step" in event and event["state"]["tenant_id"] == tenant_id:
            calls.setdefault((Kind(event["state"]["kind"]), event["step"]), (functions, name, event))
        return invoke(functions, name, event, *more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Functions, "invoke", note)
        begin(stage, tenant_id, NOW)
        stage.tenants.set_tier(tenant_id, THEN)
        stage.tenants.suspend(tenant_id)
        stage.tenants.export(tenant_id)
        stage.tenants.offboard(tenant_id, export=True)
    victim = stage.onboard(next(names), TIER)
    plant(stage, [victim])
    return Overtaken(calls, victim)


@pytest.mark.parametrize(("kind", "step"), GUARDED)
def test_a_step_of_an_operation_that_has_no_tenant_any_more_does_nothing(
    overtaken: Overtaken, stores: Stores, cloud: LocalCloud, kind: Kind, step: str
) -> None:
    calls, victim = overtaken.calls, overtaken.tenant.name
    # A tenant of the tiers that change here may have nothing to upgrade: that is the same step as of a change of tier.
    functions, function, event = calls[Kind.SET_TIER if kind is Kind.UPGRADE else kind, step]
    state = {**event["state"], "kind": kind, "tenant_id": victim, "operation_id": f"op-{'1' * 32}"}
    state["parameters"] = {**state["parameters"], "tier": TIER, "invite": False, "export": True}
    table, key = cloud.outputs["RegistryTable"], {"pk": {"S": f"TENANT#{victim}"}, "sk": {"S": "TENANT"}}
    dynamodb = cloud.operator_session().client("dynamodb")
    item = dynamodb.get_item(TableName=table, Key=key)["Item"]
    before = {entry for entry in stores.of(victim) if entry.store != "RegistryTable"}

    def refused(status: Status, operation: str) -> None:
        dynamodb.put_item(TableName=table, Item={**item, "status": {"S": status}, "operation": {"S": operation}})
        with pytest.raises(FunctionError, match="is not this operation's any more") as failure:
            functions.invoke(function, {"step": step, "state": state})
        assert failure.value.error_type == "StepFailed"

    try:
        for status in set(Status) - expected(kind, step):
            refused(status, state["operation_id"])
        # An export moves no tenant, so none is its own.
        for status in expected(kind, step) if kind is not Kind.EXPORT else ():
            refused(status, f"op-{'2' * 32}")
    finally:
        dynamodb.put_item(TableName=table, Item=item)
    assert {entry for entry in stores.of(victim) if entry.store != "RegistryTable"} == before


def test_a_change_of_tier_takes_effect_with_the_next_token_and_request(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    actor = stage.onboard(next(names), NOW)
    prompt = "hello ".ljust(load_tiers()[NOW].prompt_characters + 1, ".")
    assert stage.ask(actor, prompt).status == 429
    stage.tenants.set_tier(actor.name, THEN)
    assert stage.actor(actor.name, actor.email, actor.password).tenant.tier == THEN
    monkeypatch.setattr(standing, "FRESH_SECONDS", 0.0)
    assert stage.ask(actor, prompt).status == 200


def test_every_outcome_is_announced(stage: Stage, cloud: LocalCloud, faults: Faults) -> None:
    tenant_id = next(names)
    faults.broken = {"CreateAdministrator": "before"}
    with pytest.raises(ControlPlaneError):
        begin(stage, tenant_id, NOW)
    faults.broken = {}
    begin(stage, tenant_id, NOW)
    stage.tenants.suspend(tenant_id)
    stage.tenants.resume(tenant_id)
    stage.tenants.set_tier(tenant_id, THEN)
    stage.tenants.export(tenant_id)
    stage.tenants.offboard(tenant_id)
    wait_for_announcements(cloud)
    told = [event.detail for event in cloud.buses.events(cloud.outputs["EventBus"])]
    mine = [(event["kind"], event["state"], event["status"]) for event in told if event["tenant_id"] == tenant_id]
    assert mine == [
        ("onboard", "FAILED", "FAILED"),
        ("onboard", "SUCCEEDED", "ACTIVE"),
        ("suspend", "SUCCEEDED", "SUSPENDED"),
        ("resume", "SUCCEEDED", "ACTIVE"),
        ("set-tier", "SUCCEEDED", "ACTIVE"),
        ("export", "SUCCEEDED", "ACTIVE"),
        ("offboard", "SUCCEEDED", "DELETED"),
    ]
    assert "example" not in json.dumps(told), "an address was announced"


def wait_for_announcements(cloud: LocalCloud) -> None:
    machines = cloud.operator_session().client("stepfunctions")
    while machines.list_executions(stateMachineArn=cloud.outputs["WorkflowArn"], statusFilter="RUNNING")["executions"]:
        threading.Event().wait(0.01)


def test_the_workflow_has_the_steps_that_are_broken_here() -> None:
    template = parse(PLATFORM.read_text(encoding="utf-8"))
    states = template["Resources"]["Workflow"]["Properties"]["Definition"]["States"]
    tasks = {name for name, state in states.items() if state["Type"] == "Task"}
    assert tasks - {"Announce", "Fail"} == {step for steps in STEPS.values() for step in steps}
    for name in tasks - {"Announce", "Fail"}:
        assert states[name]["Catch"][0]["ResultPath"] == f"$.failed.{name}"


def longest_hold() -> int:
    """For how many seconds anybody may write as a tenant that gets no token any more, by the deployed templates."""
    folder = PLATFORM.parent
    stacks = [parse(path.read_text(encoding="utf-8"))["Resources"] for path in folder.glob("*.yaml")]
    resources = [resource for stack in stacks for resource in stack.values()]
    roles = [role["Properties"] for role in resources if role["Type"] == "AWS::IAM::Role"]
    trusting = [role for role in roles if "sts:AssumeRoleWithWebIdentity" in str(role["AssumeRolePolicyDocument"])]
    # A request that the registry's remembered entry let in, with the credentials that the agent asks for.
    held = 900 + standing.FRESH_SECONDS
    if not trusting:
        return int(held)
    clients = [one["Properties"] for one in resources if one["Type"] == "AWS::Cognito::UserPoolClient"]
    assert all(client["TokenValidityUnits"]["AccessToken"] == "minutes" for client in clients)
    assert all(client["TokenValidityUnits"]["IdToken"] == "minutes" for client in clients)
    token = max(60 * client[f"{kind}TokenValidity"] for client in clients for kind in ("Access", "Id"))
    # IAM takes a token for five minutes longer than it says (user guide, "Create an OpenID Connect identity provider").
    return int(token + 300 + max(role["MaxSessionDuration"] for role in trusting))


@pytest.mark.parametrize("bound", ["MinValue", "Default"])
def test_no_stage_deletes_while_anybody_may_still_write(bound: str) -> None:
    parameter = parse(PLATFORM.read_text(encoding="utf-8"))["Parameters"]["DrainSeconds"]
    assert parameter[bound] >= longest_hold()


def test_offboarding_waits_for_longer_than_credentials_live(stage: Stage, cloud: LocalCloud) -> None:
    tenant_id = next(names)
    begin(stage, tenant_id)
    change = stage.tenants.offboard(tenant_id)
    assert change.operation is not None
    assert "Drain" in change.operation.steps
    assert change.operation.steps.index("Drain") < change.operation.steps.index("DeleteData")
    machine = cloud.outputs["WorkflowArn"].replace(":stateMachine:", ":execution:")
    history = (
        cloud.operator_session()
        .client("stepfunctions")
        .get_execution_history(executionArn=f"{machine}:{change.operation.operation_id}-1")
    )
    [waited] = [
        json.loads(event["stateEnteredEventDetails"]["input"])["drain_seconds"]
        for event in history["events"]
        if event["type"] == "WaitStateEntered" and event["stateEnteredEventDetails"]["name"] == "Drain"
    ]
    assert waited >= longest_hold()


# --- The API ----------------------------------------------------------------------------------------------------------


def test_nothing_of_the_api_is_open_but_discovery_and_what_verifies_tokens_itself(cloud: LocalCloud) -> None:
    api = APIS[cloud.outputs["ApiUrl"].split("//")[1].partition(".")[0]]
    [methods] = api.deployments.values()
    assert len(methods) > 10
    opened = {(method.path, method.function.rpartition(":")[2]) for method in methods if not method.authorized}
    users = cloud.outputs["UsersFunction"]
    discovery = f"{cloud.outputs['Service']}-{cloud.outputs['Stage']}-discovery"
    usage = {found for found in opened if found[0] in ("/usage", "/usage/days")}
    assert len(usage) == (2 if "gateway" in PLACEMENT.components else 0)
    assert all(function.startswith(discovery.replace("discovery", "usage-api")) for _, function in usage)
    assert opened - usage == {("/discovery/{tenant_id}", discovery), ("/users", users), ("/users/{id}", users)}


def test_what_is_open_to_tokens_takes_no_other_caller(cloud: LocalCloud, stage: Stage, acme: Actor) -> None:
    """The gateway lets these through: what refuses is the function, whatever else comes with the call."""
    url = api_url(cloud.outputs, cloud.endpoint)
    own = stage.users(acme.name).find(acme.email)
    assert own is not None
    forged = acme.tokens.access.rpartition(".")[0] + ".c2lnbmF0dXJl"
    for verb, path in (("GET", "/users"), ("POST", "/users"), ("DELETE", f"/users/{own.username}")):
        for token in (None, "", "Bearer", "Bearer x", f"Bearer {forged}", f"Bearer {acme.tokens.id}", "Basic YTpi"):
            headers = {} if token is None else {"Authorization": token}
            answer = urllib3.request(verb, url + path, headers=headers, json={"email": "mallory@evil.example"})
            assert answer.status in (401, 403), (verb, token)
            assert answer.json().get("error", {}).get("code") != "not_found"
    assert stage.users(acme.name).find("mallory@evil.example") is None
    assert stage.users(acme.name).find(acme.email) is not None


def test_an_operators_way_to_users_is_not_open_to_tokens(cloud: LocalCloud, acme: Actor) -> None:
    url = f"{api_url(cloud.outputs, cloud.endpoint)}/tenants/{acme.name}/users"
    answer = urllib3.request("GET", url, headers={"Authorization": f"Bearer {acme.tokens.access}"})
    assert answer.status == 403


def test_an_unsigned_call_reaches_nothing(cloud: LocalCloud) -> None:
    url = api_url(cloud.outputs, cloud.endpoint)
    for verb, path in (("GET", "/tenants"), ("POST", "/tenants"), ("DELETE", "/tenants/acme")):
        answer = urllib3.request(verb, url + path, headers={"Idempotency-Key": "12345678"})
        assert (answer.status, answer.json()) == (403, {"message": "Missing Authentication Token"})


def test_a_tenants_credentials_reach_nothing(stage: Stage, acme: Actor, cloud: LocalCloud) -> None:
    api = AdminClient(stage.access(acme).session, api_url(cloud.outputs, cloud.endpoint))
    for call in (
        lambda: list(api.all()),
        lambda: api.show("acme"),
        lambda: api.suspend("acme"),
        lambda: list(api.users("acme")),
        lambda: api.invite("acme", "mallory@evil.example", administrator=True),
    ):
        with pytest.raises(ControlPlaneError, match="is not authorized to perform: execute-api:Invoke"):
            call()


def test_discovery_tells_everybody_the_same(cloud: LocalCloud, stage: Stage) -> None:
    # A name that no product has in its own, which is in every address.
    acme = stage.onboard("quagga-xyz", PLACEMENT.tiers[0])
    url = f"{api_url(cloud.outputs, cloud.endpoint)}/discovery"

    def found(name: str) -> dict[str, str]:
        answer: dict[str, str] = urllib3.request("GET", f"{url}/{name}").json()
        return answer

    known, unknown = found(acme.name), found("nobody")
    assert set(known) == set(unknown) == {"issuer", "client_id", "invocations"}
    home = stage.home(acme.name)
    assert (known["issuer"], known["client_id"]) == (home.settings.issuer, home.settings.client_id)
    assert known["invocations"] == home.invocations
    assert PLACEMENT.column(acme.tenant.tier, "runtime") == "dedicated" or known == unknown
    assert acme.name not in json.dumps(unknown)
    stage.tenants.offboard(acme.name)


def test_discovery_of_an_unknown_tenant_looks_like_that_of_any_other(cloud: LocalCloud, stage: Stage) -> None:
    """Where there is nothing that tenants share to be told of, what is told is made up."""
    url = f"{api_url(cloud.outputs, cloud.endpoint)}/discovery"

    def found(name: str) -> dict[str, str]:
        answer: dict[str, str] = urllib3.request("GET", f"{url}/{name}").json()
        return answer

    def form(name: str) -> dict[str, str]:
        told = found(name)
        told["invocations"] = told["invocations"].replace(f"t_{name}_", "t_TENANT_")
        # The local cloud's ids of user pools are longer than Cognito's.
        told["issuer"] = re.sub("_[A-Za-z0-9]+$", "_POOL", told["issuer"])
        return {key: re.sub("[A-Za-z0-9]", "x", value) for key, value in told.items()}

    name = next(names)
    before, form_before = found(name), form(name)
    assert found(name) == before
    assert all(before.values())
    begin(stage, name, PLACEMENT.tiers[-1])
    shared = PLACEMENT.serves(PLACEMENT.tiers[-1], None)
    assert (found(name) == before) == shared
    if not any(PLACEMENT.serves(tier, None) for tier in PLACEMENT.tiers):
        assert form(name) == form_before == form("nob")
    if not shared and PLACEMENT.own_user_pools and not HUB:
        assert re.fullmatch(r"https://cognito-idp\.([a-z0-9-]+)\.amazonaws\.com/\1_[A-Za-z0-9]{9}", before["issuer"])


def test_an_unknown_operation_is_told_so(stage: Stage) -> None:
    with pytest.raises(NotFound, match="there is no operation op-00"):
        stage.tenants.operation(f"op-{'0' * 32}")


@pytest.fixture
def told(stage: Stage, cloud: LocalCloud) -> tuple[AdminClient, list[str]]:
    steps: list[str] = []
    url = api_url(cloud.outputs, cloud.endpoint)
    return AdminClient(stage.session, url, tell=lambda _, step: steps.append(step)), steps


@pytest.mark.parametrize("kind", [Kind.ONBOARD, Kind.OFFBOARD])
def test_every_step_is_told(told: tuple[AdminClient, list[str]], kind: Kind) -> None:
    api, steps = told
    tenant_id = next(names)
    api.onboard(tenant_id, tier=TIER, admin=f"admin@{tenant_id}.example", invite=False)
    if kind is Kind.OFFBOARD:
        steps.clear()
        api.offboard(tenant_id, export=True)
    seen = [step for step in steps if step not in ("", "AwaitDeletion", "AwaitStack", "Drain", "Announce")]
    assert steps[0] == ""
    assert seen == STEPS[kind]
