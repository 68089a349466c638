"""The environment that leads every AWS client of this process to the local cloud."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

import botocore.loaders
import botocore.session

_LOADER = botocore.loaders.create_loader()
_OUTSIDE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
)


def keep_service_models() -> None:
    """Have every boto3 session of this process take the service models from one cache, for as long as it runs.

    Dozens of sessions are opened here, and each would read them again, which takes longer than all else that it does.
    They stay, so garbage is looked for more rarely: by Python's own thresholds a quarter of the time goes into walking
    over them.
    """
    botocore.session.create_loader = lambda *_: _LOADER
    gc.set_threshold(100_000, 50, 100)


@contextmanager
def pointed_at(endpoint: str) -> Iterator[None]:
    """Lead AWS clients to `endpoint` for as long as the context lasts.

    The developer's own profiles, credentials and endpoints of single services are out of sight
    meanwhile: none of them may lead a client past the local cloud.
    """
    former = dict(os.environ)
    hidden = [name for name in former if name in _OUTSIDE or name.startswith("AWS_ENDPOINT_URL_")]
    for name in hidden:
        del os.environ[name]
    no_proxy = former.get("no_proxy") or former.get("NO_PROXY")
    reached_directly = ",".join(filter(None, [no_proxy, "127.0.0.1"]))
    changed = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "NO_PROXY": reached_directly,
        "no_proxy": reached_directly,
    }
    os.environ.update(changed)
    try:
        yield
    finally:
        for name in [*changed, *hidden]:
            if name in former:
                os.environ[name] = former[name]
            else:
                os.environ.pop(name, None)
