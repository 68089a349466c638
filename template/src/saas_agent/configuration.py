"""Where the TOML files are: beside the package in a deployed zip, at the repository's root in a source tree."""

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from saas_agent.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parent


def find(name: str) -> Path:
    """The path of `placement.toml`, `tiers.toml` or `rates.toml`; ConfigurationError where it is missing."""
    for folder in (_PACKAGE.parent, _PACKAGE.parent.parent):
        if (folder / name).is_file():
            return folder / name
    raise ConfigurationError(f"{name} was not found; expected beside the package or at the repository's root")


@cache
def load(name: str) -> dict[str, Any]:
    """The parsed file; read once for the life of the process. Treat it as read-only."""
    path = find(name)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{name} is not valid TOML: {error}; mend that line") from error
