"""The verb ``init``: a runnable copy of a built-in problem, to be changed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.flags import Json, Quiet
from moe2opt.cli.output import put, put_json


def init(
    name: Annotated[str, typer.Argument(help="Name of a built-in problem.", show_default=False)],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to copy it.", show_default=False)
    ],
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Copy a built-in problem and its tables into a folder, as a start for your own."""
    from moe2opt.library import copy_to

    written = copy_to(name, folder)
    if as_json:
        put_json({"config": str(written[0]), "files": [str(path) for path in written]})
    elif not quiet:
        put("\n".join(f"Written: {path}" for path in written))
        put(f"Next: moe2opt solve {written[0]}")
