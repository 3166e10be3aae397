"""The verbs that only print: problems, schema, versions."""

from __future__ import annotations

import json
import platform

from moe2opt.cli.output import put
from moe2opt.cli.show import print_table


def list_problems(*, as_json: bool, quiet: bool) -> None:
    """Print name, one line and scenarios of every built-in problem."""
    from moe2opt.library import builtins

    found = [(builtin.name, *builtin.summary()) for builtin in builtins()]
    if as_json:
        rows = [{"name": n, "description": d, "scenarios": list(s)} for n, d, s in found]
        put(json.dumps({"problems": rows}, indent=1))
        return
    print_table(("name", "description", "scenarios"), [(n, d, ", ".join(s)) for n, d, s in found])
    if found and not quiet:
        put(f"Solve one: moe2opt solve {found[0][0].split('/')[-1]}")


def print_schema() -> None:
    """Print the JSON Schema of configuration files."""
    from moe2opt.config import json_schema

    put(json.dumps(json_schema(), indent=1))


def print_versions(*, as_json: bool) -> None:
    """Print versions and platform."""
    from moe2opt.solve import versions

    found = {**versions(), "platform": platform.platform()}
    if as_json:
        put(json.dumps(found, indent=1))
        return
    for name, version in found.items():
        put(f"{name:10} {version}")
