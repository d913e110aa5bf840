"""Options that name an endpoint, and what may be asked of it: for every command that asks one."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from radscore.cli.exits import UsageError
from radscore.cli.options import natural, not_negative, number, positive
from radscore.cli.output import note
from radscore.cli.parser import looks_like_key

if TYPE_CHECKING:
    from radscore.answers import Limits

__all__ = [
    "ENDPOINT_OPTIONS",
    "add_budget_options",
    "add_endpoint_options",
    "budget_of",
    "check_key_name",
    "extra_of",
    "key_name",
    "limits_of",
    "warn_open",
]

_DEFAULT_API_KEY_ENV: Final = "OPENAI_API_KEY"
_LIMITS: Final = (
    "concurrency",
    "requests_per_minute",
    "tokens_per_minute",
    "retries",
    "timeout",
)
_BUDGET: Final = ("max_requests", "max_tokens_total", "max_cost", "price_in", "price_out")
#: All that have an effect with an endpoint alone.
ENDPOINT_OPTIONS: Final = ("api_key_env", *_LIMITS, *_BUDGET, "extra")


def add_endpoint_options(group: Any) -> None:
    """The key, how fast to ask, and how often to try."""
    group.add_argument(
        "--api-key-env",
        metavar="NAME",
        help=f"environment variable with the API key (default: {_DEFAULT_API_KEY_ENV})",
    )
    group.add_argument(
        "--concurrency", type=natural, metavar="N", help="requests in flight (default: 8)"
    )
    group.add_argument(
        "--requests-per-minute", type=positive, metavar="N", help="rate limit (default: none)"
    )
    group.add_argument(
        "--tokens-per-minute",
        type=positive,
        metavar="N",
        help="rate limit for prompts and answers together (default: none)",
    )
    group.add_argument(
        "--retries",
        type=_count,
        metavar="N",
        help="retries after transient errors (429, 5xx, lost connections, empty answers), each "
        "after a longer wait (default: 6)",
    )
    group.add_argument(
        "--timeout",
        type=positive,
        metavar="SECONDS",
        help="time limit for a request, including its whole answer (default: 300)",
    )


def add_budget_options(budget: Any) -> None:
    """What asking may cost, and what it does."""
    budget.add_argument(
        "--max-requests", type=natural, metavar="N", help="most requests, including retries"
    )
    budget.add_argument(
        "--max-tokens-total", type=natural, metavar="N", help="most tokens of prompts and answers"
    )
    budget.add_argument(
        "--max-cost",
        type=positive,
        metavar="X",
        help="most cost, in the currency of --price-in and --price-out, which it needs",
    )
    budget.add_argument(
        "--price-in", type=not_negative, metavar="X", help="price per million tokens of prompts"
    )
    budget.add_argument(
        "--price-out", type=not_negative, metavar="X", help="price per million tokens of answers"
    )


def _count(text: str) -> int:
    if (value := number(text)) < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, not {value}")
    return value


def key_name(args: argparse.Namespace) -> str:
    """The environment variable with the API key."""
    return args.api_key_env or _DEFAULT_API_KEY_ENV


def check_key_name(args: argparse.Namespace) -> None:
    """Refuses a key in place of a variable's name, and a variable that is not there."""
    name = args.api_key_env
    if name is not None and name not in os.environ:
        if looks_like_key(name) or not name.isidentifier():
            raise UsageError(
                "the value of --api-key-env looks like a key; put the key into an environment "
                "variable and give its name"
            )
        raise UsageError(f"--api-key-env: there is no environment variable {name}")


def limits_of(args: argparse.Namespace) -> Limits:
    """How fast to ask, as the arguments say."""
    from radscore.answers import Limits

    given = {name: getattr(args, name) for name in _LIMITS}
    return Limits(**{name: value for name, value in given.items() if value is not None})


def budget_of(args: argparse.Namespace) -> dict[str, Any]:
    """What it may cost."""
    return {name: getattr(args, name) for name in _BUDGET}


def extra_of(text: str | None) -> dict[str, Any]:
    """Further fields of each request."""
    if text is None:
        return {}
    try:
        extra = json.loads(text)
    except (ValueError, RecursionError):
        extra = None
    if not isinstance(extra, dict):
        raise UsageError("--extra must be a JSON object, such as '{\"top_k\": 50}'")
    return extra


def warn_open(endpoint: str, name: str) -> None:
    """Warns if a key travels over plain HTTP, which anybody on the way can read."""
    from radscore.answers.settings import api_key, endpoint_url

    parts = urlsplit(endpoint_url(endpoint))
    local = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if parts.scheme == "http" and not local and api_key(name):
        note(f"warning: the key in {name} is sent over http, where anybody on the way can read it")
