"""Signs in a tenant's administrator on the running local cloud, and prints TOKEN and SESSION for a shell's `eval`."""

import os
import secrets
import shlex
import sys

from local.managed_login import SignInRefused
from local.stage import Stage
from saas_agent.control_plane.connection import connect_local
from saas_agent.control_plane.errors import ControlPlaneError
from saas_agent.tenancy.placement import load_placement


def main(arguments: list[str]) -> int:
    """`python -m local.sign_in TENANT [EMAIL]`."""
    if not 1 <= len(arguments) <= 2:
        print("expected a tenant and perhaps an e-mail address: python -m local.sign_in acme", file=sys.stderr)
        return 2
    tenant_id = arguments[0]
    email = arguments[1] if len(arguments) == 2 else f"admin@{tenant_id}.example"
    try:
        connection = connect_local(load_placement().service)
        endpoint = str(connection.endpoint_url)
        # Every client of this process must reach the local cloud and nothing else.
        os.environ["AWS_ENDPOINT_URL"] = endpoint
        stage = Stage(connection.session, connection.outputs, endpoint)
        users = stage.users(tenant_id)
        user = users.find(email)
        if user is None or user.tenant_id != tenant_id:
            print(f"{email} is no user of {tenant_id}; expected one that `tenants onboard` made", file=sys.stderr)
            return 1
        # A new password each time: nothing to remember, and nothing to keep.
        password = f"Aa1!{secrets.token_urlsafe(18)}"
        users.set_password(email, password)
        actor = stage.actor(tenant_id, email, password)
    except ControlPlaneError as error:
        print(error, file=sys.stderr)
        return 1
    except SignInRefused:
        print(f"no token was issued for {tenant_id}; see its status with `tenants show {tenant_id}`", file=sys.stderr)
        return 1
    print(f"TOKEN={shlex.quote(actor.tokens.access)}")
    print(f"SESSION={actor.new_session_id()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
