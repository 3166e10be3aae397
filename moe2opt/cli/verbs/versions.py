"""The verb ``versions``."""

from __future__ import annotations

import platform

from moe2opt.cli.flags import Json, Quiet
from moe2opt.cli.output import put, put_json


def versions(as_json: Json = False, quiet: Quiet = False) -> None:
    """Print versions and platform, for bug reports."""
    from moe2opt.solve import versions as installed

    found = {**installed(), "platform": platform.platform()}
    if as_json:
        put_json(found)
        return
    for name, version in found.items():
        put(f"{name:10} {version}")
