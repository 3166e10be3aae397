"""The verb ``schema``."""

from __future__ import annotations

from moe2opt.cli.flags import Json, Quiet
from moe2opt.cli.output import put_json


def schema(as_json: Json = False, quiet: Quiet = False) -> None:
    """Print the JSON Schema of configuration files (always JSON)."""
    from moe2opt.config import json_schema

    put_json(json_schema())
