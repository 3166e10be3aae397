"""The verb ``outcomes``: published outcomes as an outcome folder with a file that runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moe2opt.cli.flags import Json, Quiet
from moe2opt.cli.folders import create
from moe2opt.cli.output import put, put_json
from moe2opt.errors import InputError


def outcomes(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="CSV, Parquet or JSON file, or LLMRouterBench's folder.",
            show_default=False,
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Write the problem here.")],
    name: Annotated[
        str | None, typer.Option(help="Name of the problem; that of the file when left out.")
    ] = None,
    score_max: Annotated[
        float, typer.Option(help="The largest score there can be; scores become 0..1.")
    ] = 1.0,
    models: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="Sizes of open LLMs: columns model, params_total_b."),
    ] = None,
    cost: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Prices in USD: prompts x LLMs.")
    ] = None,
    latency: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Seconds: prompts x LLMs.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Tokens of the answers: prompts x LLMs.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Import outcomes: who answered which prompt how well, for how much money, in what time.

    Knows the layouts of RouterBench, SPROUT, LLMRouterBench and RouterEval, tables with one row
    for each prompt and LLM, and plain tables of prompts x LLMs. Scores may be soft.
    """
    from moe2opt.selection.outcomes.importing import read_sizes, scaled, write_problem
    from moe2opt.selection.outcomes.layouts import companion, read_published
    from moe2opt.text import fault_of_name

    if not 0 < score_max < float("inf"):
        raise InputError(f"--score-max: {score_max:g} is not a positive number")
    label = name if name is not None else source.stem
    if fault := fault_of_name(label):
        raise InputError(f"--name: {fault}")
    own = {"--cost": cost, "--latency": latency, "--tokens": tokens}
    seen = {source.resolve(): "the scores"}
    for flag, file in own.items():
        if file is not None and (other := seen.setdefault(file.resolve(), flag)) != flag:
            raise InputError(f"{flag} {file}: is the file of {other}")
    create(out)
    published = read_published(source)
    for kind, file in zip(("usd", "seconds", "output_tokens"), own.values(), strict=True):
        if file is not None:
            published.tables[kind] = companion(file, published)
    score = scaled(published, source, score_max)
    sizes = {} if models is None else read_sizes(models, published.llms)
    written = write_problem(published, out, source=source, name=label, score=score, sizes=sizes)
    told = {
        "layout": published.layout,
        "prompts": len(published.prompts),
        "llms": list(published.llms),
        "categories": len(set(published.categories)),
        "known": sorted(published.tables),
        "files": [str(path) for path in written],
    }
    if as_json:
        put_json(told)
    elif not quiet:
        put(
            f"{published.layout}: {told['prompts']} prompts in {told['categories']} categories, "
            f"{len(published.llms)} LLMs; known: {', '.join(sorted(published.tables))}"
        )
        put(f"Written to {out}: {', '.join(str(path.relative_to(out)) for path in written)}")
        put(f"Next: moe2opt evaluate {written[0]}")
