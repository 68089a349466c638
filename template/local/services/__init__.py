"""AWS services that only some repositories need.

`register(gate)` of a module here answers calls; `KINDS` are CloudFormation types, as in `local.resources`;
`settings(endpoint)` are parameters of the platform's stack; `onboarded(stage, tenant_id)` is called for every tenant
that a stage onboards.
"""

import pkgutil
from importlib import import_module
from types import ModuleType


def found() -> list[ModuleType]:
    """The services of this repository."""
    return [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
