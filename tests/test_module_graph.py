"""The import graph sees what it must see, or the tests that rely on it prove nothing."""

from pathlib import Path

import pytest

from .module_graph import Module, reached, read_modules


@pytest.fixture
def modules(tmp_path: Path) -> dict[str, Module]:
    files = {
        "src/saas_agent/__init__.py": "",
        "src/saas_agent/main.py": "import json\nfrom saas_agent import used\n",
        "src/saas_agent/used.py": "def late():\n    from .inner import deep\n",
        "src/saas_agent/inner/__init__.py": "",
        "src/saas_agent/inner/deep.py": "import boto3.session\n",
        "src/saas_agent/dead.py": "",
        "local/__init__.py": "",
        "local/demo.py": "import pkgutil\nfrom local import plugins\n"
        "found = pkgutil.iter_modules(plugins.__path__)\nif __name__ == '__main__':\n    pass\n",
        "local/plugins/__init__.py": "",
        "local/plugins/one.py": "",
        "local/found/__init__.py": "import pkgutil\nfound = pkgutil.iter_modules(__path__)\n",
        "local/found/two.py": "",
        "local/named.py": "",
        "local/naming.py": "from importlib import import_module\nimport_module('local.named')\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read_modules(tmp_path)


def test_imports_are_followed_into_functions_and_packages(modules: dict[str, Module]) -> None:
    assert set(modules) - reached(modules, ["saas_agent.main"]) == {
        "saas_agent.dead",
        *(name for name in modules if name.startswith("local")),
    }


def test_modules_that_are_walked_are_reached(modules: dict[str, Module]) -> None:
    assert modules["local.demo"].is_command
    assert "local.plugins.one" in reached(modules, ["local.demo"])
    assert "local.found.two" in reached(modules, ["local.found"])


def test_a_module_that_is_imported_by_name_is_reached(modules: dict[str, Module]) -> None:
    assert "local.named" in reached(modules, ["local.naming"])


def test_what_is_outside_is_told_by_its_top_name(modules: dict[str, Module]) -> None:
    assert modules["saas_agent.inner.deep"].outside == {"boto3"}
    assert modules["saas_agent.main"].outside == {"json"}
