"""Which modules a generated repository has, what each imports, and what is reached from where."""

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

PACKAGES = {"saas_agent": "src", "infra": ".", "local": ".", "updates": ".", "tests": "."}

# Packages that several distributions put their own part into.
NAMESPACES = {"opentelemetry"}


@dataclass(frozen=True)
class Module:
    """One module. `inside`: modules of the repository that it imports; `outside`: top names, and two of a namespace."""

    name: str
    inside: frozenset[str]
    outside: frozenset[str]
    is_command: bool


def read_modules(root: Path) -> dict[str, Module]:
    """Every module of the repository, by dotted name."""
    paths: dict[str, Path] = {}
    for package, folder in PACKAGES.items():
        base = root / folder
        for path in sorted((base / package).rglob("*.py")):
            parts = path.relative_to(base).with_suffix("").parts
            paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return {name: _read(name, path, set(paths)) for name, path in paths.items()}


def reached(modules: dict[str, Module], entries: Iterable[str]) -> set[str]:
    """The entries, all that they import, and the packages around them."""
    found: set[str] = set()
    waiting = list(entries)
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        waiting.extend(modules[name].inside)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
    return found


def _read(name: str, path: Path, names: set[str]) -> Module:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    inside: set[str] = set()
    outside: set[str] = set()
    for imported in _imported(tree, package):
        if imported in names:
            inside.add(imported)
        elif imported.rpartition(".")[0] in names:
            inside.add(imported.rpartition(".")[0])
        elif imported.partition(".")[0] not in PACKAGES:
            parts = imported.split(".")
            outside.add(".".join(parts[:2]) if parts[0] in NAMESPACES else parts[0])
    inside |= {text for text in _texts(tree) if "." in text and text in names}
    for walked in _walked(tree, names, package):
        inside |= {other for other in names if other.rpartition(".")[0] == walked}
    return Module(name, frozenset(inside), frozenset(outside), "__main__" in _compared(tree))


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    """Dotted names of what is imported; of `from a import b` it is `a.b`, module or not."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _texts(tree: ast.Module) -> Iterator[str]:
    """Texts, some of which may be the dotted names of modules that are imported by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _walked(tree: ast.Module, names: set[str], package: str) -> Iterator[str]:
    """Packages whose modules are found by walking `package.__path__`, or a package's own `__path__`."""
    imports = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id == "__path__":
            yield package
        if (
            isinstance(node, ast.Attribute)
            and node.attr == "__path__"
            and isinstance(node.value, ast.Name)
            and imports.get(node.value.id) in names
        ):
            yield imports[node.value.id]


def _compared(tree: ast.Module) -> set[object]:
    """Constants that `__name__` is compared with."""
    return {
        right.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Compare) and isinstance(node.left, ast.Name) and node.left.id == "__name__"
        for right in node.comparators
        if isinstance(right, ast.Constant)
    }
