"""A ready-made callback: `cloudfront.invalidate` tells Amazon CloudFront to fetch paths anew.

    wait-for-me executor --callbacks wait_for_me_app.cloudfront

    execute_after_waiting="cloudfront.invalidate"
    execute_after_waiting_params=["E2EXAMPLE", ["/", "/news/*"]]
                             or: ["E2EXAMPLE", "/", "/news/*"], or just ["E2EXAMPLE"] for "/*"
                             or: {"distribution_id": "E2EXAMPLE", "paths": ["/news/*"]}

A callback may be run twice for one fire. CloudFront is told the fire_id as the CallerReference, and answers a repeated
one with the invalidation that it has made already; so the cache is invalidated once. Credentials come from where boto3
looks for them; the only permission needed is `cloudfront:CreateInvalidation`.
"""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Sequence
from typing import Any, Final

from wait_for_me.errors import ConfigurationError
from wait_for_me.fires import Fire
from wait_for_me_app.callback_errors import SetAside
from wait_for_me_app.callbacks import callback

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import ClientError, ParamValidationError
except ModuleNotFoundError as missing:
    raise ConfigurationError(
        f"cloudfront.invalidate needs {missing.name}, which is not installed. "
        "Run: pip install 'kafka-wait-for-me[app,cloudfront]'"
    ) from missing

log = logging.getLogger(__name__)

EVERYTHING: Final = "/*"
_REGION: Final = "us-east-1"  # where the signatures of this global service belong
_HOPELESS: Final = frozenset(
    {"BatchTooLarge", "InconsistentQuantities", "InvalidArgument", "MalformedXML", "MissingBody", "NoSuchDistribution"}
)
"""What CloudFront calls a request that it will never accept. All else may pass: throttling, no permission yet."""
_making = threading.Lock()


@callback(
    "cloudfront.invalidate",
    attempts=20,
    timeout_in_seconds=60,
    first_wait_in_seconds=5,
    longest_wait_in_seconds=3600,
)
def invalidate(distribution_id: str, paths: Any = EVERYTHING, *more_paths: str, fire: Fire) -> None:
    """Ask for the invalidation of paths, one or a list; CloudFront goes on with it by itself."""
    listed = paths if isinstance(paths, list) else [paths]
    wanted = _checked(distribution_id, [*listed, *more_paths])
    made = _create(distribution_id, wanted, fire.fire_id)
    log.info(
        "cloudfront_invalidation",
        extra={"distribution": distribution_id, "invalidation": made["Id"], "fire_id": fire.fire_id},
    )


def _checked(distribution_id: object, paths: list[Any]) -> list[str]:
    if not (isinstance(distribution_id, str) and distribution_id):
        raise SetAside("the first parameter is no distribution id: send a text such as E2EXAMPLE", "bad_parameters")
    if not paths or not all(isinstance(path, str) and path.startswith("/") for path in paths):
        raise SetAside("the paths are not texts that begin with '/': send such as '/news/*'", "bad_parameters")
    return list(dict.fromkeys(paths))  # CloudFront refuses the same one twice


def _create(distribution_id: str, paths: Sequence[str], reference: str) -> dict[str, Any]:
    batch = {"Paths": {"Quantity": len(paths), "Items": list(paths)}, "CallerReference": reference}
    try:
        answer = _client().create_invalidation(DistributionId=distribution_id, InvalidationBatch=batch)
    except ParamValidationError as error:
        raise SetAside(f"boto3 refuses the parameters: {error}", "bad_parameters") from error
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in _HOPELESS:
            raise SetAside(f"CloudFront refuses the parameters: {error}", "bad_parameters") from error
        raise
    made: dict[str, Any] = answer["Invalidation"]
    return made


def _client() -> Any:
    """Return the one client of this process: threads may share it, but not make it at once."""
    with _making:
        return _make_client()


@functools.cache
def _make_client() -> Any:
    """Make it. One attempt only: the executor has durable retries, and two kinds of them multiply."""
    retries = {"total_max_attempts": 1, "mode": "standard"}
    config = Config(connect_timeout=10, read_timeout=30, retries=retries, user_agent_extra="kafka-wait-for-me")
    return boto3.client("cloudfront", region_name=_REGION, config=config)
