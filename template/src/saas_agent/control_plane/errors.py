"""What the control plane refuses or fails at."""


class ControlPlaneError(Exception):
    """One line for an operator: what was wrong, what was expected, what to do. No credentials."""


class Conflict(ControlPlaneError):
    """Another writer was first: what was read is no longer what is there."""
