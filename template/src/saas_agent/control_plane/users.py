"""The users of a tenant, in the Cognito user pool that all tenants share or in the tenant's own.

A user's tenant is the immutable attribute `custom:tenant_id`, set here at creation and nowhere
else. Users are never touched without a look at it: IAM can't hold the tenants of a shared pool apart.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
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

    @property
    def pool_id(self) -> str:
        """The user pool."""
        return self._pool_id

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
        users, token = self._read(token)
        return [user for user in users if user.tenant_id == tenant_id], token

    def _read(self, token: str, **filtered: str) -> tuple[list[User], str]:
        more = {"PaginationToken": token} if token else {}
        answer = self._client.list_users(UserPoolId=self._pool_id, **filtered, **more)
        return [_user(entry) for entry in answer["Users"]], answer.get("PaginationToken", "")

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


@dataclass(frozen=True)
class Identity:
    """Where tenants' users are, and what lets them in.

    cognito: a boto3 `cognito-idp` client. shared_pool: the pool of all tenants; None where each has its own.
    pool_client: tenant id -> the client for that tenant's own pool. admit, withdraw: let a tenant's users sign in at a
    hub once its pool is there, and no more before it goes. settle: brings the hub to what the tenants' pools are.
    profiles: what a hub keeps of the users who signed in at it.
    """

    cognito: Any = field(repr=False)
    shared_pool: str | None = None
    pool_client: Callable[[str], Any] | None = field(default=None, repr=False)
    admit: Callable[[str], object] = field(default=lambda _: None, repr=False)
    withdraw: Callable[[str], object] = field(default=lambda _: None, repr=False)
    settle: Callable[[], object] = field(default=lambda: None, repr=False)
    profiles: Users | None = field(default=None, repr=False)

    def users(self, tenant_id: str, resources: Mapping[str, str]) -> Users:
        """The users of the tenant's pool; ControlPlaneError without one. resources: what the tenant has of its own."""
        if self.shared_pool is not None:
            return Users(self.cognito, self.shared_pool)
        if "UserPoolId" not in resources:
            raise ControlPlaneError(
                f"tenant {tenant_id} has no user pool yet; expected the one of its stack; finish its onboarding with "
                "`tenants onboard`"
            )
        client = self.pool_client(tenant_id) if self.pool_client else self.cognito
        return Users(client, resources["UserPoolId"])

    def places(self, tenant_id: str, resources: Mapping[str, str]) -> list[Users]:
        """Every place that may know users of the tenant, the one where they are made first; none that is gone."""
        here = self.shared_pool is not None or self.has_pool(resources)
        return [*([self.users(tenant_id, resources)] if here else []), *([self.profiles] if self.profiles else [])]

    def has_pool(self, resources: Mapping[str, str]) -> bool:
        """Whether the tenant's own pool is there now."""
        if "UserPoolId" not in resources:
            return False
        try:
            self.cognito.describe_user_pool(UserPoolId=resources["UserPoolId"])
        except ClientError as error:
            if error.response["Error"]["Code"] == "ResourceNotFoundException":
                return False
            raise
        return True


@dataclass(frozen=True)
class Found:
    """A user, and the place that knows it."""

    place: Users
    user: User


def pages(places: Sequence[Users], tenant_id: str, cursor: str) -> tuple[list[Found], str]:
    """The tenant's users on a page of one place after the other, and the cursor of the next, empty after the last."""
    if not places:
        return [], ""
    number, _, token = cursor.partition(":")
    at = int(number or 0)
    users, token = places[at].page(tenant_id, token)
    found = [Found(places[at], user) for user in users]
    if token:
        return found, f"{at}:{token}"
    return found, f"{at + 1}:" if at + 1 < len(places) else ""


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
