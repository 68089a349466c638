"""Cognito: user pools with their clients, domains, identity providers and groups."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from moto.cognitoidp.models import CognitoIdpUserPool, cognitoidp_backends
from moto.core.exceptions import JsonRESTError

from .kind import Kind, Place, Properties, Resource, UnsupportedChange, without


def _cognito(place: Place) -> Any:
    return cognitoidp_backends[place.account][place.region]


@contextmanager
def _refused(kind: str) -> Iterator[None]:
    """What the API refuses is a change that can't be made."""
    try:
        yield
    except JsonRESTError as error:
        raise UnsupportedChange(f"{kind}: {error.message}") from None


class UserPool(Kind):
    """AWS::Cognito::UserPool; of the Lambda triggers, pre token generation alone is run."""

    tags = ("UserPoolTags", dict)

    def create(self, place: Place, properties: Properties) -> Resource:
        self._check_triggers(properties)
        pool: CognitoIdpUserPool = _cognito(place).create_user_pool(
            properties.get("UserPoolName") or place.name(128),
            {**without(properties, "UserPoolName"), "Schema": properties.get("Schema", [])},
        )
        provider = f"cognito-idp.{place.region}.amazonaws.com/{pool.id}"
        return Resource(
            pool.id,
            {
                "Arn": pool.arn,
                "ProviderName": provider,
                "ProviderURL": f"https://{provider}",
                "UserPoolId": pool.id,
            },
        )

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        self._check_triggers(properties)
        attributes, existing = properties.get("Schema", []), former.get("Schema", [])
        if any(attribute not in attributes for attribute in existing):
            raise UnsupportedChange("AWS::Cognito::UserPool: existing schema attributes cannot be changed or deleted")
        pool = _cognito(place).describe_user_pool(resource.physical_id)
        pool.add_custom_attributes([x for x in attributes if x not in existing])
        pool.update_extended_config(without(properties, "UserPoolName", "Schema"))
        pool.name = properties.get("UserPoolName", pool.name)
        pool.mfa_config = properties.get("MfaConfiguration", "OFF")
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        _cognito(place).delete_user_pool(resource.physical_id)

    @staticmethod
    def _check_triggers(properties: Properties) -> None:
        known = {"PreTokenGeneration", "PreTokenGenerationConfig"}
        unknown = sorted(properties.get("LambdaConfig", {}).keys() - known)
        if unknown:
            raise UnsupportedChange(f"AWS::Cognito::UserPool: the local cloud never runs the trigger {unknown[0]}")


class UserPoolClient(Kind):
    """AWS::Cognito::UserPoolClient."""

    replaced_by = frozenset({"UserPoolId", "GenerateSecret"})

    def create(self, place: Place, properties: Properties) -> Resource:
        with _refused("AWS::Cognito::UserPoolClient"):
            client = _cognito(place).create_user_pool_client(
                properties["UserPoolId"],
                str(properties.get("GenerateSecret", False)).lower() == "true",
                {"ClientName": place.name(128), **self._settings(properties)},
            )
        attributes = {"ClientId": client.id, "Name": client.extended_config["ClientName"]}
        if client.generate_secret:
            attributes["ClientSecret"] = client.secret
        return Resource(client.id, attributes)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        """Sends the properties and nothing else, so what was set beside the template is gone, as on AWS."""
        with _refused("AWS::Cognito::UserPoolClient"):
            _cognito(place).update_user_pool_client(
                properties["UserPoolId"], resource.physical_id, self._settings(properties)
            )
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        client = self._client(place, resource)
        _cognito(place).delete_user_pool_client(client.user_pool_id, client.id)

    @staticmethod
    def _settings(properties: Properties) -> dict[str, Any]:
        return without(properties, "UserPoolId", "GenerateSecret")

    @staticmethod
    def _client(place: Place, resource: Resource) -> Any:
        for pool in _cognito(place).user_pools.values():
            if resource.physical_id in pool.clients:
                return pool.clients[resource.physical_id]
        raise UnsupportedChange(f"AWS::Cognito::UserPoolClient: there is no client {resource.physical_id} any more")


class UserPoolDomain(Kind):
    """AWS::Cognito::UserPoolDomain with a prefix; `Ref` gives the prefix."""

    replaced_by = frozenset({"UserPoolId", "Domain"})

    def create(self, place: Place, properties: Properties) -> Resource:
        with _refused("AWS::Cognito::UserPoolDomain"):
            _cognito(place).create_user_pool_domain(
                properties["UserPoolId"], properties["Domain"], properties.get("CustomDomainConfig")
            )
        return Resource(properties["Domain"])

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        """The pages are plain in every version of the managed login."""
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        _cognito(place).delete_user_pool_domain(resource.physical_id)


class UserPoolIdentityProvider(Kind):
    """AWS::Cognito::UserPoolIdentityProvider of type OIDC; `Ref` gives the provider's name."""

    replaced_by = frozenset({"UserPoolId", "ProviderName", "ProviderType"})

    def create(self, place: Place, properties: Properties) -> Resource:
        pool, name = properties["UserPoolId"], properties["ProviderName"]
        with _refused("AWS::Cognito::UserPoolIdentityProvider"):
            _cognito(place).create_identity_provider(pool, name, without(properties, "UserPoolId", "ProviderName"))
        return Resource(name, detail=pool)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        changed = without(properties, "UserPoolId", "ProviderName", "ProviderType")
        with _refused("AWS::Cognito::UserPoolIdentityProvider"):
            _cognito(place).update_identity_provider(resource.detail, resource.physical_id, changed)
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        with _refused("AWS::Cognito::UserPoolIdentityProvider"):
            _cognito(place).delete_identity_provider(resource.detail, resource.physical_id)


class UserPoolGroup(Kind):
    """AWS::Cognito::UserPoolGroup; `Ref` gives the group's name."""

    replaced_by = frozenset({"UserPoolId", "GroupName"})

    def create(self, place: Place, properties: Properties) -> Resource:
        name = properties.get("GroupName") or place.name(128)
        with _refused("AWS::Cognito::UserPoolGroup"):
            _cognito(place).create_group(properties["UserPoolId"], name, *self._settings(properties))
        return Resource(name, detail=properties["UserPoolId"])

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        _cognito(place).update_group(resource.detail, resource.physical_id, *self._settings(properties))
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        _cognito(place).delete_group(resource.detail, resource.physical_id)

    @staticmethod
    def _settings(properties: Properties) -> tuple[Any, Any, Any]:
        return properties.get("Description"), properties.get("RoleArn"), properties.get("Precedence")
