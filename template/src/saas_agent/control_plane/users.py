"""The users of a tenant, in the Cognito user pool that all tenants share or in the tenant's own.

A user's tenant is the immutable attribute `custom:tenant_id`, set here at creation and nowhere
else. Users are never touched without a look at it: IAM can't hold the tenants of a shared pool apart.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from saas_agent.control_plane.errors import ControlPlaneError

TENANT_ATTRIBUTE = "custom:tenant_id"

ADMINISTRATORS = "tenant-administrators"
"""The group whose members invite, list and remove the users of their tenant."""

FEDERATED = "EXTERNAL_PROVIDER"
"""Status of a user who signs in at an identity provider (Cognito API reference, UserType)."""

# Not all that a mail server would take, but nothing that could be taken for anything else.
_EMAIL = re.compile(r"[a-z0-9][a-z0-9._%+-]*@[a-z0-9-]+(\.[a-z0-9-]+)+")
_EMAIL_LENGTH = 128  # Cognito's longest user name


@dataclass(frozen=True)
class User:
    """A user of the pool. tenant_id: None for one that belongs to no tenant. status: Cognito's, such as CONFIRMED."""

    username: str
    email: str
    tenant_id: str | None
    status: str = ""
    enabled: bool = True


def email_address(text: str) -> str | None:
    """The address in the form in which it is kept; None where it is none."""
    address = text.strip().lower()
    return address if len(address) <= _EMAIL_LENGTH and _EMAIL.fullmatch(address) else None


class Users:
    """Makes, finds, signs out and deletes users of one pool. Errors of Cognito itself are botocore's."""

    def __init__(self, client: Any, pool_id: str) -> None:
        """`client`: a boto3 `cognito-idp` client. `pool_id`: the user pool."""
        self._client = client
        self._pool_id = pool_id

    def find(self, name: str) -> User | None:
        """The user who signs in with this address, or who has this name."""
        try:
            answer = self._client.admin_get_user(UserPoolId=self._pool_id, Username=name)
        except ClientError as error:
            if error.response["Error"]["Code"] == "UserNotFoundException":
                return None
            raise
        return _user({**answer, "Attributes": answer["UserAttributes"]})

    def groups(self, user: User) -> list[str]:
        """The groups that the user is in."""
        pages = self._client.get_paginator("admin_list_groups_for_user").paginate(
            UserPoolId=self._pool_id, Username=user.username
        )
        return [group["GroupName"] for page in pages for group in page["Groups"]]

    def ensure_admin(self, tenant_id: str, email: str, *, invite: bool) -> User:
        """The tenant's administrator, made unless there; ControlPlaneError where it is another's.

        With `invite` Cognito mails a temporary password; without, the user needs `set_password`
        before signing in.
        """
        return self.invite(tenant_id, email, administrator=True, mail=invite)

    def invite(self, tenant_id: str, email: str, *, administrator: bool, mail: bool) -> User:
        """A user of the tenant, made unless there; ControlPlaneError where the address is another's.

        `administrator`: whether it joins the group that administers the tenant; nobody leaves it here.
        """
        attributes = {"email": email, "email_verified": "true", TENANT_ATTRIBUTE: tenant_id}
        delivery = {"DesiredDeliveryMediums": ["EMAIL"]} if mail else {"MessageAction": "SUPPRESS"}
        try:
            answer = self._client.admin_create_user(
                UserPoolId=self._pool_id,
                Username=email,
                UserAttributes=[{"Name": n, "Value": v} for n, v in attributes.items()],
                **delivery,
            )
            user = _user(answer["User"])
        except ClientError as error:
            if error.response["Error"]["Code"] != "UsernameExistsException":
                raise
            found = self.find(email)
            if found is None:
                raise ControlPlaneError("the user was removed meanwhile; repeat the command") from None
            user = _require_own(found, tenant_id)
        if administrator:
            self._client.admin_add_user_to_group(
                UserPoolId=self._pool_id, Username=user.username, GroupName=ADMINISTRATORS
            )
        return user

    def remove(self, tenant_id: str, name: str) -> User | None:
        """Deletes the tenant's user; None where the tenant has none of this name. Tokens that it has stay valid."""
        user = self.find(name)
        if user is None or user.tenant_id != tenant_id:
            return None
        self.delete([user])
        return user

    def set_password(self, email: str, password: str) -> None:
        """Gives the user a permanent password: for the local cloud and for throw-away tenants."""
        self._client.admin_set_user_password(
            UserPoolId=self._pool_id, Username=email, Password=password, Permanent=True
        )

    def page(self, tenant_id: str, token: str) -> tuple[list[User], str]:
        """The tenant's users on one page of the pool's, and the token of the next page, empty after the last.

        All pages are the whole pool: Cognito can't filter by a custom attribute (API reference, ListUsers).
        """
        answer = self._client.list_users(UserPoolId=self._pool_id, **({"PaginationToken": token} if token else {}))
        users = [_user(entry) for entry in answer["Users"]]
        return [user for user in users if user.tenant_id == tenant_id], answer.get("PaginationToken", "")

    def sign_out(self, users: Iterable[User]) -> None:
        """Revokes the users' refresh tokens. Safe to repeat.

        Access tokens that were issued already stay valid by their signature until they expire.
        """
        for user in users:
            self._unless_gone(self._client.admin_user_global_sign_out, user)

    def delete(self, users: Iterable[User]) -> None:
        """Deletes the users. Safe to repeat. Tokens that they have stay valid until they expire."""
        for user in users:
            self._unless_gone(self._client.admin_delete_user, user)

    def _unless_gone(self, call: Any, user: User) -> None:
        try:
            call(UserPoolId=self._pool_id, Username=user.username)
        except ClientError as error:
            if error.response["Error"]["Code"] != "UserNotFoundException":
                raise


def _require_own(user: User, tenant_id: str) -> User:
    if user.tenant_id != tenant_id:
        # Without the address: this may be kept where nothing personal is.
        raise ControlPlaneError(
            f"the address is a user's already, but not of tenant {tenant_id}; "
            "expected one that is not in use; choose another"
        )
    return user


def _user(entry: Mapping[str, Any]) -> User:
    """From Cognito's UserType."""
    values = {attribute["Name"]: attribute["Value"] for attribute in entry["Attributes"]}
    return User(
        username=entry["Username"],
        email=values.get("email", ""),
        tenant_id=values.get(TENANT_ATTRIBUTE) or None,
        status=entry.get("UserStatus", ""),
        enabled=entry.get("Enabled", True),
    )
