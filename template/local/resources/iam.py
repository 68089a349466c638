"""IAM: roles, managed and inline policies, OpenID Connect providers."""

import json
from typing import Any

from moto.iam.models import iam_backends

from .kind import Kind, Place, Properties, Resource, UnsupportedChange


def _document(policy: Any) -> str:
    return policy if isinstance(policy, str) else json.dumps(policy)


def _iam(place: Place) -> Any:
    return iam_backends[place.account]["aws"]


class Role(Kind):
    """AWS::IAM::Role with inline and managed policies and permissions boundary."""

    replaced_by = frozenset({"RoleName", "Path"})
    tags = ("Tags", list)

    def create(self, place: Place, properties: Properties) -> Resource:
        role = _iam(place).create_role(
            role_name=properties.get("RoleName") or place.name(),
            assume_role_policy_document=_document(properties["AssumeRolePolicyDocument"]),
            path=properties.get("Path", "/"),
            permissions_boundary=properties.get("PermissionsBoundary"),
            description=properties.get("Description", ""),
            tags=properties.get("Tags", []),
            max_session_duration=int(properties.get("MaxSessionDuration", 3600)),
        )
        resource = Resource(role.name, {"Arn": role.arn, "RoleId": role.id})
        self._set_policies(place, role.name, properties, {})
        return resource

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        name = resource.physical_id
        iam = _iam(place)
        iam.update_assume_role_policy(name, _document(properties["AssumeRolePolicyDocument"]))
        role = iam.update_role(
            name,
            properties.get("Description", ""),
            int(properties.get("MaxSessionDuration", 3600)),
        )
        role.permissions_boundary_arn = properties.get("PermissionsBoundary")
        role.tags = list(properties.get("Tags", []))
        self._set_policies(place, name, properties, former)
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        iam = _iam(place)
        role = iam.get_role(resource.physical_id)
        for policy in list(role.policies):
            iam.delete_role_policy(role.name, policy)
        for arn in list(role.managed_policies):
            iam.detach_role_policy(arn, role.name)
        iam.delete_role(role.name)

    def _set_policies(self, place: Place, name: str, properties: Properties, former: Properties) -> None:
        iam = _iam(place)
        policies = {policy["PolicyName"]: policy for policy in properties.get("Policies", [])}
        for policy in policies.values():
            iam.put_role_policy(name, policy["PolicyName"], _document(policy["PolicyDocument"]))
        for policy in former.get("Policies", []):
            if policy["PolicyName"] not in policies:
                iam.delete_role_policy(name, policy["PolicyName"])
        arns = set(properties.get("ManagedPolicyArns", []))
        for arn in sorted(arns - set(former.get("ManagedPolicyArns", []))):
            iam.attach_role_policy(arn, name)
        for arn in sorted(set(former.get("ManagedPolicyArns", [])) - arns):
            iam.detach_role_policy(arn, name)


class ManagedPolicy(Kind):
    """AWS::IAM::ManagedPolicy, attached to roles."""

    replaced_by = frozenset({"ManagedPolicyName", "Description", "Path"})

    def create(self, place: Place, properties: Properties) -> Resource:
        iam = _iam(place)
        policy = iam.create_policy(
            description=properties.get("Description", ""),
            path=properties.get("Path", "/"),
            policy_document=_document(properties["PolicyDocument"]),
            policy_name=properties.get("ManagedPolicyName") or place.name(),
            tags=[],
        )
        for role in properties.get("Roles", []):
            iam.attach_role_policy(policy.arn, role)
        return Resource(policy.arn, {"PolicyArn": policy.arn})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        iam = _iam(place)
        arn = resource.physical_id
        replaced = iam.get_policy(arn).default_version_id
        iam.create_policy_version(arn, _document(properties["PolicyDocument"]), True)
        iam.delete_policy_version(arn, replaced)
        roles, former_roles = set(properties.get("Roles", [])), set(former.get("Roles", []))
        for role in sorted(roles - former_roles):
            iam.attach_role_policy(arn, role)
        for role in sorted(former_roles - roles):
            iam.detach_role_policy(arn, role)
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        iam = _iam(place)
        for role in iam.get_roles():
            if resource.physical_id in role.managed_policies:
                iam.detach_role_policy(resource.physical_id, role.name)
        iam.delete_policy(resource.physical_id)


class RolePolicy(Kind):
    """AWS::IAM::Policy: an inline policy, put on every role that it names."""

    replaced_by = frozenset({"PolicyName", "Roles"})

    def create(self, place: Place, properties: Properties) -> Resource:
        if properties.get("Users") or properties.get("Groups"):
            raise UnsupportedChange("AWS::IAM::Policy: the local cloud has roles only")
        self._put(place, properties)
        return Resource(place.name(), detail=(properties["PolicyName"], properties["Roles"]))

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        self._put(place, properties)
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        name, roles = resource.detail
        for role in roles:
            _iam(place).delete_role_policy(role, name)

    def _put(self, place: Place, properties: Properties) -> None:
        for role in properties["Roles"]:
            _iam(place).put_role_policy(role, properties["PolicyName"], _document(properties["PolicyDocument"]))


class OidcProvider(Kind):
    """AWS::IAM::OIDCProvider."""

    replaced_by = frozenset({"Url"})
    tags = ("Tags", list)

    def create(self, place: Place, properties: Properties) -> Resource:
        provider = _iam(place).create_open_id_connect_provider(
            properties["Url"],
            properties.get("ThumbprintList", []),
            properties.get("ClientIdList", []),
            properties.get("Tags", []),
        )
        return Resource(provider.arn, {"Arn": provider.arn})

    def update(self, place: Place, resource: Resource, properties: Properties, former: Properties) -> Resource:
        provider = _iam(place).get_open_id_connect_provider(resource.physical_id)
        provider.client_id_list = list(properties.get("ClientIdList", []))
        provider.thumbprint_list = list(properties.get("ThumbprintList", []))
        return resource

    def delete(self, place: Place, resource: Resource) -> None:
        _iam(place).delete_open_id_connect_provider(resource.physical_id)
