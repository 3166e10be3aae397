"""The verb ``problems``: name, one line and scenarios of every built-in problem."""

from __future__ import annotations

from moe2opt.cli.flags import Json, Quiet
from moe2opt.cli.output import print_table, put, put_json


def problems(as_json: Json = False, quiet: Quiet = False) -> None:
    """List the built-in problems."""
    from moe2opt.library import builtins

    found = [(builtin.name, *builtin.summary()) for builtin in builtins()]
    if as_json:
        rows = [{"name": n, "description": d, "scenarios": list(s)} for n, d, s in found]
        put_json({"problems": rows})
        return
    print_table(("name", "description", "scenarios"), [(n, d, ", ".join(s)) for n, d, s in found])
    if found and not quiet:
        put(f"Solve one: moe2opt solve {found[0][0].split('/')[-1]}")
