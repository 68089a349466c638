"""Signs in a tenant's administrator on the running local cloud, and prints TOKEN and SESSION for a shell's `eval`."""

import secrets
import shlex
import sys

from saas_agent.control_plane.connection import connect_local
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.control_plane.users import Users
from saas_agent.tenancy.placement import load_placement
from saas_agent.tenancy.session import new_session_id


def main(arguments: list[str]) -> int:
    """`python -m local.sign_in TENANT [EMAIL]`."""
    if not 1 <= len(arguments) <= 2:
        print("expected a tenant and perhaps an e-mail address: python -m local.sign_in acme", file=sys.stderr)
        return 2
    tenant_id = arguments[0]
    email = arguments[1] if len(arguments) == 2 else f"admin@{tenant_id}.example"
    try:
        connection = connect_local(load_placement().service)
        cognito, pool = connection.client("cognito-idp"), connection.output("UserPoolId")
        users = Users(cognito, pool)
        user = users.find(email)
        if user is None or user.tenant_id != tenant_id:
            print(f"{email} is no user of {tenant_id}; expected one that `tenants onboard` made", file=sys.stderr)
            return 1
        # A new password each time: nothing to remember, and nothing to keep.
        password = f"Aa1!{secrets.token_urlsafe(18)}"
        users.set_password(email, password)
        answer = cognito.admin_initiate_auth(
            UserPoolId=pool,
            ClientId=connection.output("ClientId"),
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={"USERNAME": email, "PASSWORD": password},
        )
        subject = next(
            a["Value"]
            for a in cognito.admin_get_user(UserPoolId=pool, Username=email)["UserAttributes"]
            if a["Name"] == "sub"
        )
    except ControlPlaneError as error:
        print(error, file=sys.stderr)
        return 1
    except cognito.exceptions.UserLambdaValidationException:
        print(f"tenant {tenant_id} is not active: no token was issued; see `tenants show {tenant_id}`", file=sys.stderr)
        return 1
    print(f"TOKEN={shlex.quote(answer['AuthenticationResult']['AccessToken'])}")
    print(f"SESSION={new_session_id(tenant_id, subject)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
