"""What the control plane refuses or fails at."""


class ControlPlaneError(Exception):
    """One line for an operator: what was wrong, what was expected, what to do. No credentials.

    status: what the admin API answers it with.
    """

    status = 400


class NotFound(ControlPlaneError):
    """There is no such tenant or operation."""

    status = 404


class Conflict(ControlPlaneError):
    """It can't be done as things are: another writer was first, or the tenant is in another state."""

    status = 409


class Contended(Conflict):
    """Another write was under way at the same moment: nothing was written, and the next attempt may well hold."""


class TokenReused(ControlPlaneError):
    """The client token came with another request before."""

    status = 422
