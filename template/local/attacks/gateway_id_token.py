"""Attacks with the ID token that goes along to the gateway, on a stage where STS is shown it (`StsToken=id`)."""

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

from local.attacks.attack import Arena, attack
from local.attacks.gateway import call, claims_of, part, plant, send
from saas_agent.tenancy.token import ID_TOKEN_HEADER

__all__ = ["plant"]


def _takes_id_token(arena: Arena) -> bool:
    return arena.home.takes_id_token


@attack("Call a tool with another tenant's ID token beside the own access token", when=_takes_id_token)
def foreign_id_token(arena: Arena) -> object:
    return send(arena, call(), id_token=arena.victim.tokens.id)


@attack("Call a tool with another tenant's ID token behind the own one", when=_takes_id_token)
def two_id_tokens(arena: Arena) -> object:
    return send(arena, call(), headers=[(ID_TOKEN_HEADER.lower(), arena.victim.tokens.id)])


@attack("Call a tool with another tenant's two tokens, swapped", when=_takes_id_token)
def swapped_tokens(arena: Arena) -> object:
    return send(arena, call(), token=arena.victim.tokens.id, id_token=arena.attacker.tokens.id)


@attack("Call a tool with an ID token whose tenant was changed", when=_takes_id_token)
def changed_id_token(arena: Arena) -> object:
    head, _, signature = arena.attacker.tokens.id.split(".")
    claims = {**claims_of(arena.attacker.tokens.id), "tenant_id": arena.victim.name}
    return send(arena, call(), id_token=f"{head}.{part(claims)}.{signature}")


@attack("Call a tool with an ID token of the own making, under the issuer's name", when=_takes_id_token)
def forged_id_token(arena: Arena) -> object:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = {**claims_of(arena.attacker.tokens.id), "tenant_id": arena.victim.name}
    headers = {"kid": jwt.get_unverified_header(arena.attacker.tokens.id)["kid"]}
    return send(arena, call(), id_token=jwt.encode(claims, key, algorithm="RS256", headers=headers))


@attack("Call a tool with the access token for an ID token", each_victim=False, when=_takes_id_token)
def access_for_id_token(arena: Arena) -> object:
    return send(arena, call(), id_token=arena.attacker.tokens.access)


@attack("Call a tool without the ID token that STS is shown", each_victim=False, when=_takes_id_token)
def no_id_token(arena: Arena) -> object:
    return send(arena, call(), id_token=None)
