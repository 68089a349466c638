"""The users of a tenant, in the Cognito user pool that all tenants share.

A user's tenant is the immutable attribute `custom:tenant_id`, set here at creation and nowhere
else.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.control_plane.errors import ControlPlaneError

TENANT_ATTRIBUTE = "custom:tenant_id"


@dataclass(frozen=True)
class User:
    """A user of the pool. tenant_id: None for one that belongs to no tenant."""

    username: str
    email: str
    tenant_id: str | None


class Users:
    """Makes, finds and signs out users. Errors of Cognito itself are botocore's."""

    def __init__(self, client: Any, pool_id: str) -> None:
        """`client`: a boto3 `cognito-idp` client. `pool_id`: the user pool."""
        self._client = client
        self._pool_id = pool_id

    def find(self, email: str) -> User | None:
        """The user who signs in with this address."""
        try:
            answer = self._client.admin_get_user(UserPoolId=self._pool_id, Username=email)
        except ClientError as error:
            if error.response["Error"]["Code"] == "UserNotFoundException":
                return None
            raise
        return _user(answer["Username"], answer["UserAttributes"])

    def require_free(self, tenant_id: str, email: str) -> None:
        """ControlPlaneError where the address belongs to a user of another tenant, or of none."""
        user = self.find(email)
        if user is not None:
            _require_own(user, tenant_id, email)

    def ensure_admin(self, tenant_id: str, email: str, *, invite: bool) -> User:
        """The tenant's administrator, made unless there; ControlPlaneError where it is another's.

        With `invite` Cognito mails a temporary password; without, the user needs `set_password`
        before signing in.
        """
        attributes = {"email": email, "email_verified": "true", TENANT_ATTRIBUTE: tenant_id}
        delivery = {"DesiredDeliveryMediums": ["EMAIL"]} if invite else {"MessageAction": "SUPPRESS"}
        try:
            answer = self._client.admin_create_user(
                UserPoolId=self._pool_id,
                Username=email,
                UserAttributes=[{"Name": n, "Value": v} for n, v in attributes.items()],
                **delivery,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "UsernameExistsException":
                raise
        else:
            return _user(answer["User"]["Username"], answer["User"]["Attributes"])
        user = self.find(email)
        if user is None:
            raise ControlPlaneError(f"the user {email} was removed meanwhile; repeat the command")
        return _require_own(user, tenant_id, email)

    def set_password(self, email: str, password: str) -> None:
        """Gives the user a permanent password: for the local cloud and for throw-away tenants."""
        self._client.admin_set_user_password(
            UserPoolId=self._pool_id, Username=email, Password=password, Permanent=True
        )

    def of_tenant(self, tenant_id: str) -> Iterator[User]:
        """The tenant's users.

        Reads the whole pool: Cognito can't filter by a custom attribute (API reference, ListUsers).
        """
        pages = self._client.get_paginator("list_users").paginate(UserPoolId=self._pool_id)
        for page in pages:
            for entry in page["Users"]:
                user = _user(entry["Username"], entry["Attributes"])
                if user.tenant_id == tenant_id:
                    yield user

    def sign_out(self, tenant_id: str) -> int:
        """Revokes the refresh tokens of the tenant's users and counts the users. Safe to repeat.

        Access tokens that were issued already stay valid by their signature until they expire.
        """
        count = 0
        for user in self.of_tenant(tenant_id):
            try:
                self._client.admin_user_global_sign_out(UserPoolId=self._pool_id, Username=user.username)
            except ClientError as error:
                if error.response["Error"]["Code"] != "UserNotFoundException":
                    raise
            else:
                count += 1
        return count


def _require_own(user: User, tenant_id: str, email: str) -> User:
    if user.tenant_id != tenant_id:
        raise ControlPlaneError(
            f"{email} is a user already, but not of tenant {tenant_id}; "
            "expected an address that is not in use; choose another"
        )
    return user


def _user(username: str, attributes: list[dict[str, str]]) -> User:
    values = {attribute["Name"]: attribute["Value"] for attribute in attributes}
    return User(username, values.get("email", ""), values.get(TENANT_ATTRIBUTE) or None)
