"""Random IAM cases over the services that tenants use; the same seed gives the same cases.

Left out, because IAM's documentation and the oracle differ or IAM's documentation is silent:

- An inverted operator, or NotResource, with a variable that has no value. By the documentation an
  inverted operator matches then; the oracle says that it does not.
- A variable with a default whose key is present but empty. The oracle takes the default.
- `${*}` with an operator that knows no wildcards. By the documentation it is a variable with the
  value `*` everywhere; the oracle takes it for plain text.
- Context keys with an empty list, which the oracle takes for present.
- Values that are not of their operator's type.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .oracle import Case

ACCOUNT = "111122223333"
REGION = "us-east-1"
TABLE = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/app"
BUCKET = "arn:aws:s3:::app-data"
MEMORY = f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:memory/app-abc1234567"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/tenant"
EXECUTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/execution"
FUNCTION = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:vend"
MODEL = f"arn:aws:bedrock:{REGION}::foundation-model/anthropic.claude-haiku"
GUARDRAIL = f"arn:aws:bedrock:{REGION}:{ACCOUNT}:guardrail/abc"

TENANTS = ("acme", "globex", "acme2", "acm", "a-b", "*", "a?me", "acme/x", "")
TENANT = "${aws:PrincipalTag/TenantId}"
WITH_DEFAULT = "${aws:PrincipalTag/Plan, 'acme'}"

TEXT_OPERATORS = (
    "StringEquals",
    "StringNotEquals",
    "StringEqualsIgnoreCase",
    "StringNotEqualsIgnoreCase",
    "StringLike",
    "StringNotLike",
)
ARN_OPERATORS = ("ArnEquals", "ArnNotEquals", "ArnLike", "ArnNotLike")
ORDERED = ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
NUMERIC_OPERATORS = tuple(f"Numeric{name}" for name in ORDERED)
DATE_OPERATORS = tuple(f"Date{name}" for name in ORDERED)
NETWORK_OPERATORS = ("IpAddress", "NotIpAddress")
QUANTIFIERS = ("ForAllValues:", "ForAnyValue:")


@dataclass(frozen=True)
class Key:
    """A condition key: the operators of its type, values in requests, values in policies."""

    name: str
    operators: Sequence[str]
    requested: Sequence[str]
    wanted: Sequence[str]
    multivalued: bool = False


def _text_key(name: str, template: str, *, multivalued: bool = False) -> Key:
    """A key whose values are made by putting a tenant into `template` at `{}`."""
    wanted = (TENANT, f"{TENANT}*", f"{TENANT}?", WITH_DEFAULT, "acme", "ACME", "*", "${*}", "a?*")
    return Key(
        name,
        TEXT_OPERATORS,
        [template.format(tenant) for tenant in (*TENANTS, "Acme")],
        [template.format(value) for value in wanted],
        multivalued,
    )


GLOBAL_KEYS = (
    Key("aws:SecureTransport", ("Bool",), ("true", "false"), ("true", "false", "TRUE")),
    Key(
        "aws:SourceIp",
        NETWORK_OPERATORS,
        ("10.0.0.1", "10.0.1.1", "192.0.2.7", "2001:db8::1"),
        ("10.0.0.0/24", "10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"),
    ),
    Key("aws:MultiFactorAuthAge", NUMERIC_OPERATORS, ("0", "60", "3600"), ("60", "59.5", "3600")),
    Key(
        "aws:CurrentTime",
        DATE_OPERATORS,
        ("2026-01-01T00:00:00Z", "2026-06-01T12:00:00Z"),
        ("2026-01-01T00:00:00Z", "2026-03-01", "2026-06-01T12:00:00Z"),
    ),
    Key(
        "aws:PrincipalArn",
        ARN_OPERATORS,
        (ROLE, EXECUTION_ROLE),
        (ROLE, f"arn:aws:iam::{ACCOUNT}:role/*", "arn:aws:iam::*:role/ten?nt", "arn:*:*:*:*:*"),
    ),
    _text_key("aws:PrincipalTag/Team", "{}"),
    _text_key("aws:RequestedRegion", "{}"),
)

TAG_KEYS = ("TenantId", "Tier", "tenantid", "Other")


@dataclass(frozen=True)
class Scene:
    """What cases of one service are made of.

    Attributes:
        actions: actions with the resources they may be asked on.
        keys: condition keys by action; the actions without an entry have those of `""`.
    """

    actions: Mapping[str, Sequence[str]]
    action_patterns: Sequence[str]
    resource_patterns: Sequence[str]
    keys: Mapping[str, Sequence[Key]] = field(default_factory=dict)

    def keys_of(self, action: str) -> Sequence[Key]:
        return (*self.keys.get(action, self.keys.get("", ())), *GLOBAL_KEYS)


_LEADING_KEYS = _text_key("dynamodb:LeadingKeys", "TENANT#{}", multivalued=True)
_ATTRIBUTES = Key("dynamodb:Attributes", TEXT_OPERATORS, TAG_KEYS, TAG_KEYS, multivalued=True)
_ACTOR = _text_key("bedrock-agentcore:actorId", "{}:user")
_SESSION = _text_key("bedrock-agentcore:sessionId", "{}-1")
_NAMESPACE = _text_key("bedrock-agentcore:namespace", "/actors/{}:user/")
_STRATEGY = _text_key("bedrock-agentcore:strategyId", "{}")
_TAG_KEYS = Key("aws:TagKeys", TEXT_OPERATORS, TAG_KEYS, TAG_KEYS, multivalued=True)
_ASSUME_KEYS = (
    _text_key("aws:RequestTag/TenantId", "{}"),
    _text_key("sts:RoleSessionName", "{}-session"),
    _text_key("sts:ExternalId", "{}"),
    _TAG_KEYS,
    Key("sts:TransitiveTagKeys", TEXT_OPERATORS, TAG_KEYS, TAG_KEYS, multivalued=True),
)

SCENES: Mapping[str, Scene] = {
    "dynamodb": Scene(
        {
            **{
                f"dynamodb:{name}": (TABLE, TABLE + "2")
                for name in ("GetItem", "PutItem", "UpdateItem", "BatchGetItem")
            },
            "dynamodb:Query": (TABLE, TABLE + "/index/by-date"),
            "dynamodb:Scan": (TABLE,),
        },
        ("dynamodb:GetItem", "dynamodb:*Item", "dynamodb:Query", "DynamoDB:*", "dynamodb:?et*"),
        (TABLE, f"{TABLE}*", f"{TABLE}/index/*", f"arn:aws:dynamodb:*:{ACCOUNT}:table/*", "*"),
        {"": (_LEADING_KEYS, _LEADING_KEYS, _ATTRIBUTES), "dynamodb:Scan": (_ATTRIBUTES,)},
    ),
    "s3": Scene(
        {
            "s3:ListBucket": (BUCKET, BUCKET + "2"),
            "s3:GetObject": tuple(f"{BUCKET}/tenants/{name}" for name in ("acme/k", "acme2/k", "/k", "globex/acme/k")),
        },
        ("s3:*", "s3:GetObject", "s3:List*", "s3:ListBucket"),
        (
            BUCKET,
            f"{BUCKET}*",
            f"{BUCKET}/tenants/{TENANT}/*",
            f"{BUCKET}/tenants/{TENANT}*",
            f"{BUCKET}/tenants/{WITH_DEFAULT}/*",
            "arn:aws:s3:::*",
            "arn:aws:s3",
            "*",
        ),
        {
            "s3:ListBucket": (
                _text_key("s3:prefix", "tenants/{}/"),
                _text_key("s3:prefix", "tenants/{}/"),
                Key("s3:max-keys", NUMERIC_OPERATORS, ("1", "10", "1000"), ("10", "100")),
            ),
            "s3:GetObject": (_text_key("s3:ExistingObjectTag/TenantId", "{}"),),
        },
    ),
    "memory": Scene(
        {
            f"bedrock-agentcore:{name}": (MEMORY,)
            for name in (
                "CreateEvent",
                "ListEvents",
                "ListSessions",
                "RetrieveMemoryRecords",
                "ListMemoryRecords",
                "ListActors",
            )
        },
        ("bedrock-agentcore:*", "bedrock-agentcore:*Event*", "bedrock-agentcore:List*"),
        (MEMORY, f"arn:aws:bedrock-agentcore:{REGION}:{ACCOUNT}:memory/*", "*"),
        {
            "": (_ACTOR, _ACTOR, _SESSION),
            "bedrock-agentcore:ListSessions": (_ACTOR, _ACTOR),
            "bedrock-agentcore:ListActors": (),
            "bedrock-agentcore:RetrieveMemoryRecords": (_NAMESPACE, _NAMESPACE, _STRATEGY),
            "bedrock-agentcore:ListMemoryRecords": (_NAMESPACE, _NAMESPACE, _STRATEGY),
        },
    ),
    "assume": Scene(
        {"sts:AssumeRole": (ROLE, EXECUTION_ROLE)},
        ("sts:AssumeRole", "sts:*"),
        (ROLE, f"arn:aws:iam::{ACCOUNT}:role/*", f"arn:aws:iam::{ACCOUNT}:role/{TENANT}", "*"),
        {"": _ASSUME_KEYS},
    ),
    "lambda": Scene(
        {"lambda:InvokeFunction": (FUNCTION, FUNCTION + "2")},
        ("lambda:Invoke*", "lambda:InvokeFunction"),
        (FUNCTION, FUNCTION + "*", "*"),
        {"": (Key("lambda:InvokedViaFunctionUrl", ("Bool",), ("true", "false"), ("false",)),)},
    ),
    "model": Scene(
        {
            "bedrock:InvokeModel": (MODEL, MODEL + "2"),
            "bedrock:InvokeModelWithResponseStream": (MODEL,),
        },
        ("bedrock:InvokeModel", "bedrock:InvokeModel*", "bedrock:*"),
        (MODEL, f"arn:aws:bedrock:{REGION}::foundation-model/*", "*"),
        {
            "": (
                Key(
                    "bedrock:GuardrailIdentifier",
                    ARN_OPERATORS,
                    (GUARDRAIL, GUARDRAIL + "2"),
                    (GUARDRAIL, GUARDRAIL + "*", f"arn:aws:bedrock:*:*:guardrail/{TENANT}"),
                ),
            )
        },
    ),
    "trust": Scene({"sts:AssumeRole": (ROLE,)}, ("sts:AssumeRole", "sts:*"), (), {"": _ASSUME_KEYS}),
}

SESSIONS = (
    f"arn:aws:sts::{ACCOUNT}:assumed-role/execution/work",
    f"arn:aws:sts::{ACCOUNT}:assumed-role/tenant/acme",
)
PRINCIPALS: Sequence[Any] = (
    "*",
    {"AWS": "*"},
    {"AWS": EXECUTION_ROLE},
    {"AWS": [ROLE, SESSIONS[0]]},
    {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
    {"AWS": ACCOUNT},
    {"AWS": "arn:aws:iam::999999999999:root"},
    {"Service": "lambda.amazonaws.com"},
    {"Federated": f"arn:aws:iam::{ACCOUNT}:oidc-provider/issuer.example"},
)


def cases(seed: int, number: int) -> Iterator[Case]:
    """`number` cases, evenly over the scenes."""
    generator = _Generator(random.Random(seed))
    scenes = list(SCENES)
    for index in range(number):
        yield generator.case(scenes[index % len(scenes)])


class _Generator:
    def __init__(self, dice: random.Random) -> None:
        self._dice = dice

    def case(self, scene_name: str) -> Case:
        scene, trust = SCENES[scene_name], scene_name == "trust"
        action = self._pick(list(scene.actions))
        context = self._context(scene.keys_of(action))
        statement = self._trust_statement if trust else self._identity_statement
        statements = [statement(scene, action, context) for _ in range(self._pick((1, 1, 2, 3)))]
        return Case(
            policies=[{"Version": "2012-10-17", "Statement": statements}],
            principal=self._pick(SESSIONS),
            action=action,
            resource=self._pick(scene.actions[action]),
            context=context,
            trust=trust,
        )

    def _context(self, keys: Sequence[Key]) -> dict[str, str | list[str]]:
        context: dict[str, str | list[str]] = {}
        for key in keys:
            if self._chance(0.75):
                many = self._dice.choices(key.requested, k=self._pick((1, 1, 2, 3)))
                context[key.name] = many if key.multivalued else many[0]
        if self._chance(0.85):
            context["aws:PrincipalTag/TenantId"] = self._pick(TENANTS)
        if self._chance(0.5):
            context["aws:PrincipalTag/Plan"] = self._pick([name for name in TENANTS if name])
        return context

    def _identity_statement(self, scene: Scene, action: str, context: Mapping[str, Any]) -> dict[str, Any]:
        resources: dict[str, Any] = {"Resource": self._some(scene.resource_patterns)}
        if self._chance(0.1):
            known = [text for text in scene.resource_patterns if _resolves(text, context)]
            resources = {"NotResource": self._some(known)}
        return {
            "Effect": self._pick(("Allow", "Allow", "Allow", "Deny")),
            **self._actions(scene, action),
            **resources,
            **self._conditions(scene.keys_of(action), context),
        }

    def _trust_statement(self, scene: Scene, action: str, context: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "Effect": self._pick(("Allow", "Allow", "Allow", "Deny")),
            "Principal": self._pick(PRINCIPALS),
            **self._actions(scene, action),
            **self._conditions(scene.keys_of(action), context),
        }

    def _actions(self, scene: Scene, action: str) -> dict[str, Any]:
        patterns = [*scene.action_patterns, action, action]
        return {"NotAction" if self._chance(0.1) else "Action": self._some(patterns)}

    def _conditions(self, keys: Sequence[Key], context: Mapping[str, Any]) -> dict[str, Any]:
        block: dict[str, dict[str, Any]] = {}
        for _ in range(self._pick((0, 1, 1, 2))):
            key = self._pick(keys)
            name = self._pick((key.name, key.name, key.name.lower()))
            if self._chance(0.2):
                block.setdefault("Null", {})[name] = self._pick(("true", "false", False))
                continue
            operator = self._pick(key.operators)
            wanted = key.wanted
            if "Not" in operator:
                wanted = [text for text in wanted if _resolves(text, context)]
            if "Like" not in operator:
                wanted = [text for text in wanted if "${*}" not in text]
            if self._chance(0.7 if key.multivalued else 0.2):
                operator = self._pick(QUANTIFIERS) + operator
            if self._chance(0.2):
                operator += "IfExists"
            block.setdefault(operator, {})[name] = self._some(wanted)
        return {"Condition": block} if block else {}

    def _pick(self, choices: Sequence[Any]) -> Any:
        return self._dice.choice(choices)

    def _some(self, choices: Sequence[str]) -> str | list[str]:
        """One, as itself or in a list, or two."""
        one = self._pick(choices)
        forms: tuple[str | list[str], ...] = (one, [one], [one, self._pick(choices)])
        return forms[self._dice.randrange(len(forms))]

    def _chance(self, probability: float) -> bool:
        return self._dice.random() < probability


def _resolves(text: str, context: Mapping[str, Any]) -> bool:
    return TENANT not in text or bool(context.get("aws:PrincipalTag/TenantId"))
