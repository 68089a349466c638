"""Which Bedrock resources the models of `tiers.toml` are: tenants may call these and no others."""

import re
from collections.abc import Iterable

# A cross-Region inference profile is a model's id behind a geography (Bedrock user guide,
# "Supported Regions and models for inference profiles"); providers' names are longer than that.
_PROFILE = re.compile(r"(?P<geography>global|apac|us-gov|[a-z]{2})\.(?P<model>[a-z0-9]+\..+)")
_MODEL = re.compile(r"[a-z0-9]+\.[A-Za-z0-9][A-Za-z0-9.:-]*")


def model_resources(models: Iterable[str], *, partition: str, region: str, account: str) -> list[str]:
    """The ARNs that a caller of these models needs, sorted.

    A profile needs itself and the model wherever it may route to: all Regions of its geography, or,
    for a global one, the calling Region and an ARN without a Region (Bedrock user guide,
    "Geographic cross-Region inference" and "Global cross-Region inference").

    Raises:
        ValueError: an id is neither a model's nor a profile's.
    """
    arns: set[str] = set()
    for model in models:
        profile = _PROFILE.fullmatch(model)
        base = profile["model"] if profile else model
        if not _MODEL.fullmatch(base):
            raise ValueError(
                f"tiers.toml names the model {model!r}; expected the id of a Bedrock model or "
                "inference profile, such as global.anthropic.claude-haiku-4-5-20251001-v1:0"
            )
        if profile:
            arns.add(f"arn:{partition}:bedrock:{region}:{account}:inference-profile/{model}")
        regions = {None: [region], "global": [region, ""]}.get(profile and profile["geography"], ["*"])
        arns.update(f"arn:{partition}:bedrock:{where}::foundation-model/{base}" for where in regions)
    return sorted(arns)
