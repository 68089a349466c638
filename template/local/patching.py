"""Replacing members of moto's classes and modules for as long as the local cloud runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


@contextmanager
def replaced(owner: type | ModuleType, **members: Any) -> Iterator[None]:
    """Give the class or module other members of its own, and back the former ones at the end.

    Raises:
        AttributeError: it doesn't have one itself: moto has changed, and what stands on it
            has to be looked at.
    """
    former = {}
    for name in members:
        if name not in vars(owner):
            raise AttributeError(f"moto's {owner.__name__} has no {name} of its own any more")
        former[name] = vars(owner)[name]
    for name, member in members.items():
        setattr(owner, name, member)
    try:
        yield
    finally:
        for name, member in former.items():
            setattr(owner, name, member)
