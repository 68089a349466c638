"""`make live-check STAGE=...`: the attacks, and what is not proved without AWS, against a deployed stage.

Two throw-away tenants are onboarded (or resumed), used, and suspended again. Every question below is built so that
either answer is safe; the table says which one this account gives, and what to set.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.attacks.judgement import Verdict
from local.proof import (
    Access,
    Outcome,
    attacks_on,
    counted,
    left_out,
    plant,
    run_attacks,
    tiers_to_prove,
    walk,
    worked,
)
from local.stage import Actor, NoRuntimeCredentials, Stage
from saas_agent.control_plane.connection import connect, connect_local, explain
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.states import Status
from saas_agent.errors import ConfigurationError, Refused
from saas_agent.memory import PREFERENCES
from saas_agent.tenancy.placement import load_placement

TENANTS = ("live-check", "live-check2")
_HEADER_BYTES = 4096  # the longest header value that AgentCore Runtime passes on


@dataclass(frozen=True)
class Fact:
    """A question that only a real account answers. `advice`: what follows from this answer."""

    question: str
    answer: str
    advice: str


def main(arguments: list[str] | None = None) -> int:
    """Runs the check; 0 only when every own access worked and nothing leaked."""
    parser = argparse.ArgumentParser(prog="live-check", description=__doc__)
    parser.add_argument("--stage", default="dev", help="the deployed stage (default dev)")
    parser.add_argument("--local", action="store_true", help="check the running local cloud instead")
    options = parser.parse_args(arguments)
    placement = load_placement()
    try:
        if options.local:
            connection = connect_local(placement.service)
            # Every client of this process, the agent's own among them, must reach the local cloud and nothing else.
            os.environ["AWS_ENDPOINT_URL"] = str(connection.endpoint_url)
        else:
            connection = connect(placement.service, placement.region, options.stage)
        endpoint = connection.endpoint_url or f"https://bedrock-agentcore.{placement.region}.amazonaws.com"
        return check(Stage(connection.session, connection.outputs, endpoint))
    except (ControlPlaneError, ConfigurationError, Refused) as error:
        print(error, file=sys.stderr)
    except (ClientError, BotoCoreError) as error:
        print(explain(error), file=sys.stderr)
    return 1


def check(stage: Stage) -> int:
    """Runs the check against a stage; 0 only when every own access worked and nothing leaked."""
    tier, _ = tiers_to_prove()
    print(f"Onboarding {' and '.join(TENANTS)} ...", flush=True)
    actors = [_throw_away(stage, tenant, tier) for tenant in TENANTS]
    try:
        accesses = [access for actor in actors for access in _told(walk(stage, actor))]
        plant(stage, actors)
        attacker, *victims = actors
        print(f"{len(attacks_on(victims, local=False))} attacks ...", flush=True)
        for line in left_out(stage, attacker):
            print(f"  {line}")
        without: list[str] = []
        ran = run_attacks(stage, attacker, victims, None, without_access=lambda attack: without.append(attack.id))
        outcomes = list(ran)
        if without:
            print(f"  the credentials of a tenant's own runtime never leave it: left out {', '.join(without)}")
        facts = list(ask_facts(stage, attacker))
    finally:
        for tenant in TENANTS:
            stage.tenants.suspend(tenant)
    _print(accesses, outcomes, facts)
    return 0 if worked(accesses) and outcomes and all(o.verdict.safe for o in outcomes) else 1


def _throw_away(stage: Stage, tenant: str, tier: str) -> Actor:
    known = {record.tenant_id: record.status for record in stage.tenants.all()}
    if known.get(tenant) is Status.SUSPENDED:
        stage.tenants.resume(tenant)
    return stage.onboard(tenant, tier)


def ask_facts(stage: Stage, actor: Actor) -> Iterator[Fact]:
    """The open questions, and this account's answers."""
    yield from _exchange_facts(stage, actor)
    size = len(f"Bearer {actor.tokens.access}")
    fits = size <= _HEADER_BYTES
    follows = "nothing to do" if fits else "take claims out of it"
    yield Fact("Does the token fit into a header of 4 KB?", f"{size} bytes", follows)
    yield from _memory_facts(stage, actor)
    if "knowledge_base" in load_placement().components:
        yield from _knowledge_facts(stage, actor)


def _exchange_facts(stage: Stage, actor: Actor) -> Iterator[Fact]:
    if "CredentialsFunction" in stage.outputs or stage.home(actor.name).settings.tenant_id is not None:
        return  # tokens aren't exchanged for credentials here
    access_taken = _taken(lambda: _exchange(stage, actor, actor.tokens.access))
    id_taken = _taken(lambda: _exchange(stage, actor, actor.tokens.id))
    advice = {
        (True, True): "nothing to do; StsToken=access is in force or may be set",
        (True, False): "nothing to do with StsToken=access",
        (False, True): "deploy with StsToken=id, and send the ID token in its own header",
        (False, False): "no exchange works: tenants can't reach their data; look at the trust policy and the provider",
    }[access_taken, id_taken]
    yield Fact("Is the access token taken in exchange for credentials?", _yes(access_taken), advice)
    yield Fact("Is the ID token taken?", _yes(id_taken), "the fallback of the line above")


def _memory_facts(stage: Stage, actor: Actor) -> Iterator[Fact]:
    try:
        memory = stage.access(actor).client("bedrock-agentcore")
    except NoRuntimeCredentials:
        why = "the credentials of a tenant's own runtime never leave it; the agent's own answers above show its memory"
        yield Fact("May the tenant retrieve its own memories?", "not asked", why)
        return
    memory_id = stage.home(actor.name).resource("memory")
    path = PREFERENCES.format(actor_id=actor.tenant.actor_id)
    for parameter in ("namespace", "namespacePath"):
        taken = _taken(
            lambda name=parameter: memory.retrieve_memory_records(  # type: ignore[misc]
                memoryId=memory_id, searchCriteria={"searchQuery": "x"}, **{name: path}
            )
        )
        follows = {
            ("namespace", False): "the agent needs it: look at the tenant role",
            ("namespacePath", False): "nothing to do: the agent uses namespace alone",
        }.get((parameter, taken), "nothing to do")
        yield Fact(f"May the tenant retrieve its own memories by {parameter}?", _yes(taken), follows)
    denied = not _taken(
        lambda: memory.batch_create_memory_records(
            memoryId=memory_id,
            records=[{"requestIdentifier": "1", "namespaces": [path], "content": {"text": "x"}, "timestamp": 0}],
        )
    )
    follows = "nothing to do" if denied else "look at the tenant role"
    yield Fact("Are direct writes of memory records denied?", _yes(denied), follows)


def _knowledge_facts(stage: Stage, actor: Actor) -> Iterator[Fact]:
    """What Bedrock returns with a passage, asked as an operator."""
    own = stage.home(actor.name).resource("knowledge_base")
    data_source = own if "|" in own else stage.outputs["KnowledgeDataSource"]
    found = stage.session.client("bedrock-agent-runtime").retrieve(
        knowledgeBaseId=data_source.partition("|")[0],
        retrievalQuery={"text": "alarm code"},
        retrievalConfiguration={
            "vectorSearchConfiguration": {"filter": {"equals": {"key": "tenant_id", "value": actor.name}}}
        },
    )["retrievalResults"]
    if not found:
        yield Fact("What does a passage come with?", "no passage", "look at `tenants ingest`: nothing was indexed")
        return
    location = found[0].get("location", {}).get("type", "none")
    known = location in ("CUSTOM", "S3")
    yield Fact(
        "What names the document of a passage?", location, "nothing to do" if known else "adapt storage/knowledge.py"
    )
    named = all(result.get("metadata", {}).get("tenant_id") == actor.name for result in found)
    yield Fact(
        "Does every passage come with its tenant?", _yes(named), "nothing to do" if named else "every search fails"
    )


def _exchange(stage: Stage, actor: Actor, raw: str) -> object:
    sts = stage.session.client("sts", config=Config(signature_version=UNSIGNED))
    return sts.assume_role_with_web_identity(
        RoleArn=stage.home(actor.name).tenant_role, RoleSessionName="live-check", WebIdentityToken=raw
    )["AssumedRoleUser"]


def _taken(call: Callable[[], object]) -> bool:
    try:
        call()
    except (ClientError, Refused):
        return False
    return True


def _yes(answer: bool) -> str:
    return "yes" if answer else "no"


def _told(accesses: Iterator[Access]) -> Iterator[Access]:
    for access in accesses:
        why = "" if access.ok else f": {access.why}"
        print(f"  {access.tenant:12} {access.title:36} {access.word}{why}", flush=True)
        yield access


def _print(accesses: list[Access], outcomes: list[Outcome], facts: list[Fact]) -> None:
    print(f"\n{'verdict':10}{'area':15}{'on':14}attack")
    for outcome in sorted(outcomes, key=lambda found: found.verdict.safe):
        print(f"{outcome.verdict.value:10}{outcome.attack.area:15}{outcome.victim:14}{outcome.attack.title}")
    print(f"\n{'question':60}{'answer':14}what follows")
    for fact in facts:
        print(f"{fact.question:60}{fact.answer:14}{fact.advice}")
    leaked = sum(outcome.verdict is Verdict.LEAKED for outcome in outcomes)
    unproven = sum(outcome.verdict is Verdict.UNPROVEN for outcome in outcomes)
    print(f"\n{counted(accesses)}; {len(outcomes)} attacks, {leaked} leaked, {unproven} unproven")


if __name__ == "__main__":
    sys.exit(main())
