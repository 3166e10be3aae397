"""``profile --routing``: which experts a model chooses for texts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from moe2opt.cli.exits import Exit, say
from moe2opt.cli.output import print_table, put
from moe2opt.result import InputError


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asked of ``profile --routing``.

    Attributes
    ----------
    model
        Folder with a model in Hugging Face format.
    texts
        Files, each a domain named after it.
    out
        Folder for ``counts.csv`` and ``trace.npz``.
    context
        Tokens of a sequence.
    as_json, quiet
        Flags.
    """

    model: Path
    texts: Sequence[Path]
    out: Path | None
    context: int
    as_json: bool
    quiet: bool


def run_routing(request: Request) -> int:
    """Run the texts through the model, write counts and trace, and print how uneven use is."""
    if not request.texts:
        raise InputError("profile --routing: give a text with --text FILE")
    if request.out is None:
        raise InputError("profile --routing: give a folder for the counts with --out DIR")
    import numpy as np

    from moe2opt.executor import profile_routing

    routing = profile_routing(
        request.model, list(request.texts), request.out, context=request.context
    )
    rows = []
    for d, (name, shares) in enumerate(routing.by_domain().items()):
        quarter = -(-routing.number // 4)
        ranked = np.sort(shares, axis=1)[:, ::-1]
        busiest = float(ranked[:, 0].mean())
        covered = float((ranked[:, :quarter].sum(axis=1) / ranked.sum(axis=1)).mean())
        rows.append((name, int((routing.domain == d).sum()), busiest, covered))
    if request.as_json:
        keys = ("text", "tokens", "busiest_expert_share", "share_of_busiest_quarter")
        found = [dict(zip(keys, row, strict=True)) for row in rows]
        put(json.dumps({"layers": len(routing.layers), "experts": routing.number, "texts": found}))
        return Exit.OK
    print_table(
        ("text", "tokens", "busiest expert", "uses of busiest quarter"),
        [(name, str(n), f"{100 * b:.1f} %", f"{100 * c:.1f} %") for name, n, b, c in rows],
    )
    if not request.quiet:
        say(
            f"wrote counts.csv and trace.npz to {request.out}: activation: {{counts: counts.csv}} "
            "in a placement configuration reads them"
        )
    return Exit.OK
