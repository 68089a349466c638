"""Cognito: user pools and their clients."""

from typing import Any

from moto.cognitoidp.models import CognitoIdpUserPool, cognitoidp_backends

from .kind import Kind, Place, Properties, Resource, UnsupportedChange, without


def _cognito(place: Place) -> Any:
    return cognitoidp_backends[place.account][place.region]


class UserPool(Kind):
    """AWS::Cognito::UserPool; of the Lambda triggers, pre token generation alone is run."""

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
        client = _cognito(place).create_user_pool_client(
            properties["UserPoolId"],
            properties.get("GenerateSecret", False),
            {"ClientName": place.name(128), **self._settings(properties)},
        )
        attributes = {"ClientId": client.id, "Name": client.extended_config["ClientName"]}
        if client.generate_secret:
            attributes["ClientSecret"] = client.secret
        return Resource(client.id, attributes)

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        client = self._client(place, resource)
        for name in former.keys() - properties.keys() - {"ClientName"}:
            client.extended_config.pop(name, None)
        client.extended_config.update(self._settings(properties))
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
