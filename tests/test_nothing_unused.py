"""A variant holds what it uses: no module, dependency or CloudFormation resource besides."""

import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import files, packages_distributions
from pathlib import Path
from typing import Any

import pytest
import yaml

from .matrix import Variant, load
from .module_graph import Module, reached, read_modules
from .rendering import Renderings

# Run by name, or there for the type checker.
TOOLS = {"cfn-lint", "mypy", "pytest-xdist", "ruff", "types-pyyaml"}

# Nothing refers to these, and yet they act on what they refer to.
ACT_BY_THEMSELVES = {
    "AWS::BedrockAgentCore::GatewayRateLimit",
    "AWS::BedrockAgentCore::GatewayTarget",
    "AWS::BedrockAgentCore::Policy",
    "AWS::BedrockAgentCore::ResourcePolicy",
    "AWS::BedrockAgentCore::WorkloadIdentity",
    "AWS::CloudWatch::Alarm",
    "AWS::CloudWatch::Dashboard",
    "AWS::Cognito::UserPoolGroup",
    "AWS::Cognito::UserPoolIdentityProvider",
    "AWS::Glue::Table",
    "AWS::IAM::Policy",
    "AWS::IAM::RolePolicy",
    "AWS::Lambda::EventInvokeConfig",
    "AWS::Lambda::Permission",
    "AWS::Logs::MetricFilter",
    "AWS::Logs::QueryDefinition",
    "AWS::QuickSight::Dashboard",
    "AWS::S3::BucketPolicy",
}

every_variant = pytest.mark.parametrize("variant", load().supported, ids=lambda entry: entry.id)


def shipping_entries(modules: dict[str, Module]) -> set[str]:
    """Where the deployed code and the `tenants` command start."""
    functions = {name for name in modules if name.startswith("saas_agent.functions.")}
    return {"saas_agent.main", "saas_agent.control_plane.cli"} | functions


def commands(modules: dict[str, Module]) -> set[str]:
    """What is run by `python -m`."""
    return {name for name, module in modules.items() if module.is_command}


def collected(modules: dict[str, Module]) -> set[str]:
    """What pytest collects."""
    return {
        name for name in modules if name.startswith("tests.") and re.match(r"test_|conftest$", name.rpartition(".")[2])
    }


@every_variant
def test_every_module_that_ships_is_reached_without_the_tests(variant: Variant, renderings: Renderings) -> None:
    modules = read_modules(renderings[variant])
    used = reached(modules, shipping_entries(modules) | commands(modules))
    assert not {name for name in modules if name.startswith("saas_agent")} - used


@every_variant
def test_every_other_module_is_reached(variant: Variant, renderings: Renderings) -> None:
    modules = read_modules(renderings[variant])
    used = reached(modules, shipping_entries(modules) | commands(modules) | collected(modules))
    assert not {name for name in modules if name not in used and name != "tests"}


@every_variant
def test_what_ships_doesnt_import_what_doesnt(variant: Variant, renderings: Renderings) -> None:
    modules = read_modules(renderings[variant])
    used = reached(modules, shipping_entries(modules))
    assert not {name for name in used if not name.startswith("saas_agent")}


@cache
def distributions() -> dict[str, set[str]]:
    """Top-level import name -> distributions that bring it, by normalised name."""
    return {
        name: {normalised(distribution) for distribution in brought_by}
        for name, brought_by in packages_distributions().items()
    }


def normalised(requirement: str) -> str:
    """The distribution's name, without extras and version."""
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found, requirement
    return re.sub(r"[-_.]+", "-", found.group()).lower()


def needed(modules: dict[str, Module], *packages: str) -> set[str]:
    """Distributions that these packages import themselves."""
    names = {
        outside
        for name, module in modules.items()
        if name.partition(".")[0] in packages
        for outside in module.outside - sys.stdlib_module_names
    }
    assert not {name.partition(".")[0] for name in names} - set(distributions()), "imported, and not installed"
    return {distribution for name in names for distribution in brought_by(name)}


@cache
def brought_by(name: str) -> set[str]:
    """The distributions that bring a top-level name, or a part of a namespace as `opentelemetry.sdk`."""
    top, _, part = name.partition(".")
    if not part:
        return distributions()[top]
    return {
        found
        for found in distributions()[top]
        if any(file.parts[:2] in ((top, part), (top, f"{part}.py")) for file in files(found) or [])
    }


@every_variant
def test_dependencies_are_those_that_are_imported(variant: Variant, renderings: Renderings) -> None:
    root = renderings[variant]
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))
    runtime = {normalised(entry) for entry in project["project"]["dependencies"]}
    development, updating, analytics, exporting = (
        {normalised(entry) for entry in project["dependency-groups"].get(group, [])}
        for group in ("dev", "update", "analytics", "adot")
    )
    modules = read_modules(root)
    assert runtime == needed(modules, "saas_agent")
    assert not development & analytics
    assert development | analytics == needed(modules, "infra", "local", "tests") - runtime | TOOLS
    assert updating == needed(modules, "updates") | {"copier"}
    # Its entry point is started, and nothing imports it.
    assert exporting == {"aws-opentelemetry-distro"}


class Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms: `!Sub x` is `{"Sub": x}`."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        return {suffix: loader.construct_scalar(node)}
    if isinstance(node, yaml.SequenceNode):
        return {suffix: loader.construct_sequence(node, deep=True)}
    assert isinstance(node, yaml.MappingNode)
    return {suffix: loader.construct_mapping(node, deep=True)}


Loader.add_multi_constructor("!", _short_form)


def references(value: Any) -> Iterator[str]:
    """Logical ids that a part of a template refers to."""
    if isinstance(value, list):
        for item in value:
            yield from references(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            match key.removeprefix("Fn::"), item:
                case (("Ref" | "DependsOn" | "Condition"), str()):
                    yield item
                case "DependsOn", list():
                    yield from item
                case "GetAtt", str():
                    yield item.partition(".")[0]
                case "GetAtt", [str() as name, *_]:
                    yield name
                case "Sub", str():
                    yield from re.findall(r"\$\{(\w+)", item)
                case "Sub", [str() as text, dict() as values]:
                    yield from re.findall(r"\$\{(\w+)", text)
                    yield from references(values)
                case "If", [str() as condition, *branches]:
                    yield condition
                    yield from references(branches)
                case _:
                    yield from references(item)


def unused(template: dict[str, Any]) -> set[str]:
    """Resources, parameters and conditions that nothing in the template refers to."""
    used: set[str] = set(references(template.get("Outputs", {})))
    for section in ("Resources", "Conditions"):
        for name, part in template.get(section, {}).items():
            used |= set(references(part)) - {name}
    standing = {name for name, resource in template["Resources"].items() if resource["Type"] in ACT_BY_THEMSELVES}
    declared = {name for section in ("Resources", "Parameters", "Conditions") for name in template.get(section, {})}
    return declared - standing - used


def templates(root: Path) -> list[Path]:
    """The CloudFormation templates of a generated repository."""
    return sorted((root / "infra").glob("*.yaml"))


@every_variant
def test_every_resource_is_referred_to(variant: Variant, renderings: Renderings) -> None:
    found = {
        path.name: unused(yaml.load(path.read_text(encoding="utf-8"), Loader))
        for path in templates(renderings[variant])
    }
    assert found and not any(found.values()), found


def test_a_resource_that_nothing_refers_to_is_seen() -> None:
    text = """
    Parameters: {Used: {Type: String}, Unused: {Type: String}}
    Conditions: {Never: !Equals [a, b]}
    Resources:
      Own: {Type: "AWS::S3::Bucket", Properties: {BucketName: !Sub "${Used}-x", Tag: !Ref Own}}
      Shown: {Type: "AWS::S3::Bucket"}
      Acts: {Type: "AWS::IAM::Policy"}
    Outputs: {Name: {Value: !GetAtt Shown.Arn}}
    """
    assert unused(yaml.load(text, Loader)) == {"Unused", "Never", "Own"}
