"""The verb ``place``: from a model file and a machine to a command line that fits."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moe2opt.cli import flags
from moe2opt.cli.exits import Exit, exit_of
from moe2opt.cli.flags import Json, Quiet, at_least
from moe2opt.cli.folders import create, spare, writing
from moe2opt.cli.machine import config_of, in_flags, machine
from moe2opt.cli.output import put, put_json
from moe2opt.cli.target import told
from moe2opt.errors import InputError
from moe2opt.writing import write_text

if TYPE_CHECKING:
    from moe2opt.certify import Verdict
    from moe2opt.llamacpp import LlamaModel
    from moe2opt.place import PlaceConfig, PlaceInstance
    from moe2opt.place.confirm import Confirmed
    from moe2opt.place.runtimes.question import RuntimeInstance
    from moe2opt.result import Result

#: Files of a result besides the configuration that repeats it.
_FILES = ("result.json", "certificate.npz", "config.yaml")

_SPEED = "Rate in GB/s"

#: Times that a plan is made with what the runtime said of the one before.
_ROUNDS = 3

#: Devices up to which the default is a full proof, and the gap that ends the search on more: far
#: less than the model of speed knows, and the rest of such a search is long.
_FEW_DEVICES, _GAP_OF_MANY = 2, 0.005

#: Seconds for which a remedy is tried.
_TRIAL_S = 2.0


def place(
    model: Annotated[
        Path,
        typer.Argument(
            help="GGUF file (any shard) or its folder; or config.json of a model, or its folder.",
            show_default=False,
        ),
    ],
    quant: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="File type that a model in safetensors is quantised to, such as Q4_K_M.",
        ),
    ] = None,
    gpu: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|GIB[:GB_PER_S]",
            help="A device by name (RTX 4090) or by size and bandwidth (24:1008); repeat for more.",
        ),
    ] = None,
    unified: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|GIB:GB_PER_S",
            help="One memory for processor and device (Mac, Strix Halo), such as 128:256.",
        ),
    ] = None,
    device_share: Annotated[
        float | None,
        typer.Option(help="Share of a unified memory that the device may use; default 0.75."),
    ] = None,
    ram: Annotated[
        str | None,
        typer.Option(
            metavar="GIB[:KIND]",
            help="RAM in GiB, and its kind: 64:ddr5-6000 (two channels), 256:ddr4-3200x8.",
        ),
    ] = None,
    ram_gb_per_s: Annotated[
        float | None,
        typer.Option(
            help=f"{_SPEED} at which RAM was seen to be read; counts more than its kind.",
            callback=flags.positive,
        ),
    ] = None,
    context: Annotated[
        int, typer.Option("-c", "--context", min=1, help="Tokens that have room.")
    ] = 8192,
    depth: Annotated[
        int | None, typer.Option(min=0, help="Filled tokens at which speed counts; default half.")
    ] = None,
    cache_k: Annotated[str, typer.Option("-ctk", help="Format of keys.")] = "f16",
    cache_v: Annotated[str, typer.Option("-ctv", help="Format of values.")] = "f16",
    ubatch: Annotated[
        list[int] | None,
        typer.Option("-ub", min=1, help="Tokens computed at once; repeat to let it choose."),
    ] = None,
    batch: Annotated[int, typer.Option("-b", min=1, help="Tokens handed over at once.")] = 2048,
    parallel: Annotated[int, typer.Option(min=1, help="Sequences at once.")] = 1,
    prompt_tokens: Annotated[
        int, typer.Option(min=0, help="Tokens of a prompt that count, too; default answers alone.")
    ] = 0,
    answer_tokens: Annotated[int, typer.Option(min=1, help="Tokens of an answer.")] = 1,
    least_prefill: Annotated[
        float | None,
        typer.Option(help="Least tokens/s at which prompts are read.", callback=flags.positive),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="GiB kept free on every device.", callback=at_least(0))
    ] = 0.75,
    to: Annotated[
        str,
        typer.Option(
            metavar="FORMAT", help="llama.cpp, ktransformers, vllm, sglang, accelerate or json."
        ),
    ] = "llama.cpp",
    backend: Annotated[
        str, typer.Option(help="What the runtime calls its devices: CUDA, ROCm, Vulkan, SYCL.")
    ] = "CUDA",
    rpc: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST:PORT", help="ggml-rpc-server of a device; one for each --gpu."),
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option(
            metavar="PROGRAM",
            help="Ask this llama-server (or its folder) for its own figures; no weight is loaded.",
        ),
    ] = None,
    calibrate: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Output of llama-bench or llama-sweep-bench on this machine; repeat for more.",
        ),
    ] = None,
    activation: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="How often experts are used: an imatrix (GGUF), or layer, expert, count as "
            "CSV or Parquet.",
        ),
    ] = None,
    time_limit: Annotated[float | None, typer.Option(help="Seconds.", callback=at_least(0))] = None,
    gap: Annotated[
        float | None,
        typer.Option(
            help="Relative gap at which to stop; default 0, and 0.005 for three devices and more.",
            callback=at_least(0),
        ),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the problem as YAML here.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write result and configuration here.")
    ] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> Exit:
    """Find the fastest line of llama.cpp (or --to) for a model on a machine, prove it, print it.

    Only headers are read. Without --gpu and --ram the machine itself is asked. Memory is that of
    llama.cpp, to the byte for weights and context; speed is by the stated model, with an interval.
    """
    from moe2opt import progress
    from moe2opt.certify import certify
    from moe2opt.place.question import asked, named, read

    if check is not None and model.suffix == ".json":
        raise InputError("--check: the runtime reads GGUF files; convert the model first")
    runtime = _runtime(to, check)
    config = config_of(
        {
            "problem": "place",
            "name": "place",
            "model": str(model),
            "runtime": runtime,
            "quant": quant,
            **machine(gpu, ram, ram_gb_per_s, unified, device_share),
            "context": {
                "tokens": context, "depth": depth, "type_k": cache_k, "type_v": cache_v,
                "parallel": parallel,
            },
            "ubatch": ubatch or [512],
            "batch": batch,
            "goal": {
                "prompt_tokens": prompt_tokens, "answer_tokens": answer_tokens,
                "least_prefill_tok_s": least_prefill,
            },
            "margin_gib": margin,
            "backend": backend,
            "rpc": rpc or [],
        }
    )  # fmt: skip
    spare(save, model, activation, *(calibrate or ()), flag="--save")
    if out is not None:
        create(out, *_FILES)
    with told(quiet) as tell:
        with in_flags():
            config, own = named(config, model), read(config, model)
            config = _measured(config, own, calibrate, activation)
            target = asked(config, own)
        tell(target.describe())
        if gap is None:
            gap = _GAP_OF_MANY if len(target.case.machine.devices) > _FEW_DEVICES else 0.0
        limits = {"time_limit_s": time_limit, "rel_gap": gap}
        target, result, found = _solved(target, limits, check, tell)
        verdict = certify(target, result)
        tell(progress.report(result, checked=verdict.ok, failures=verdict.failures))
    _write(config, result, save, out)
    _show(target, result, verdict, found, "--json" if as_json else to, out, quiet=quiet)
    disagrees = found is not None and not found.agrees
    return Exit.REJECTED if disagrees else exit_of(result, verdict, None, None)


def _runtime(to: str, check: Path | None) -> str:
    """Return the runtime that a format is for."""
    from moe2opt.place.runtimes.question import RUNTIMES

    if to in ("llama.cpp", "json"):
        return "llama.cpp"
    if to not in RUNTIMES:
        from moe2opt.schema.source import did_you_mean

        raise InputError(
            f"--to: '{to}' is not known here; choose llama.cpp, {', '.join(RUNTIMES)} or json"
            f"{did_you_mean(to, list(RUNTIMES))}"
        )
    if check is not None:
        raise InputError(f"--check: it asks llama-server, and --to {to} is another runtime")
    return to


def _measured(
    config: PlaceConfig, read: LlamaModel, calibrate: list[Path] | None, activation: Path | None
) -> PlaceConfig:
    """Return a configuration with what was measured on its machine, and of its model."""
    from moe2opt.place.activation import activation_note, served_shares, used_experts
    from moe2opt.place.calibrate import calibrated, noted

    if calibrate:
        config = calibrated(config, read, calibrate)
    if activation is None:
        return config
    used = used_experts(activation, read)
    if config.runtime == "ktransformers":
        served = tuple(served_shares(used).tolist())
        config = config.model_copy(update={"served": served})
    return noted(config, activation_note(used, read, config.runtime))


def _show(
    target: PlaceInstance | RuntimeInstance,
    result: Result[Any],
    verdict: Verdict,
    found: Confirmed | None,
    form: str,
    out: Path | None,
    *,
    quiet: bool,
) -> None:
    """Print what was found: an object, the line alone, or all in words."""
    from moe2opt.cli import show
    from moe2opt.place import PlaceInstance
    from moe2opt.place.remedies import remedies
    from moe2opt.place.shown import may_lose, slower_words
    from moe2opt.solve import run

    def solvable(changed: PlaceInstance) -> bool:
        # Any plan will do, and why there is none is asked of the machine that was typed.
        return run(changed, explain=False, time_limit_s=_TRIAL_S, rel_gap=1.0).plan is not None

    lacks: tuple[str, ...] = ()
    if isinstance(target, PlaceInstance) and result.status == "INFEASIBLE":
        lacks = remedies(target, solvable)
    if form == "--json":
        plan = {} if result.plan is None else result.plan.to_dict()
        runtime = {} if found is None else {"runtime": found.to_dict()}
        helps = {"remedies": list(lacks)} if lacks else {}
        common = show.as_json(target, result, verdict)
        loses = [slower_words(result)] if result.plan is not None and may_lose(result) else []
        notes = [*plan.get("notes", ()), *common["notes"], *loses]
        put_json({**plan, **runtime, **helps, **common, "notes": notes})
    elif form != "json" and quiet and result.plan is not None:
        put(result.plan.command)
    elif form == "json" and result.plan is not None:
        put_json(result.plan.to_dict())
    else:
        show.show_result(target, result, verdict, conflict=not lacks)
        put("\n".join([*_confirmed(found), *_next_step(result, lacks, out)]))


def _solved(
    target: PlaceInstance | RuntimeInstance,
    limits: dict[str, Any],
    check: Path | None,
    tell: Callable[[str], None],
) -> tuple[PlaceInstance | RuntimeInstance, Result[Any], Confirmed | None]:
    """Solve, and ask the runtime; where it takes more than was kept for it, solve with that."""
    from moe2opt.place.confirm import confirm, corrected
    from moe2opt.place.runtimes.question import RuntimeInstance
    from moe2opt.solve import run

    for _ in range(_ROUNDS):
        result: Result[Any] = run(target, display=False, **limits)
        if check is None or result.plan is None or isinstance(target, RuntimeInstance):
            return target, result, None
        found = confirm(target, result.plan, check)
        if not found.lacking_bytes:
            break
        tell("The runtime takes more than was kept for it; again with what it says")
        target = corrected(target, found)
    return target, result, found


def _write(config: PlaceConfig, result: Result[Any], save: Path | None, out: Path | None) -> None:
    """Write what the flags ask for: the problem, and a folder that verifies."""
    if save is not None:
        write_text(save, _yaml(config, save), "--save ")
    if out is not None:
        with writing(out, *_FILES):
            write_text(out / "config.yaml", _yaml(config, out / "config.yaml"))
            result.save(out / "result.json")
            for name, text in getattr(result.plan, "files", {}).items():
                write_text(out / name, text)


def _confirmed(found: Confirmed | None) -> list[str]:
    """Return what the runtime says, in words."""
    if found is None:
        return []
    if found.agrees:
        return ["", "Confirmed by the runtime: weights and context of every device, and it fits."]
    lacking = [
        f"device {k}: {size / 2**20:,.0f} MiB more than was kept"
        for k, size in found.lacking_bytes.items()
    ]
    return [
        "",
        "The runtime says otherwise:",
        *(f"  {line}" for line in (*found.differences, *lacking)),
    ]


def _yaml(config: PlaceConfig, file: Path) -> str:
    """Return the file that asks the same question; the model's path is relative to it."""
    import io

    from ruamel.yaml import YAML

    content = config.model_dump(exclude_defaults=True, mode="json")
    model = Path(config.model).resolve()
    content["model"] = os.path.relpath(model, file.resolve().parent)
    content["command_model"] = config.command_model or config.model
    text = io.StringIO()
    YAML(typ="safe", pure=True).dump({"schema_version": 1, "problem": "place", **content}, text)
    return text.getvalue()


def _next_step(result: Result[Any], lacks: Sequence[str], out: Path | None) -> list[str]:
    """Return what would help, and what can be done with what was found."""
    from moe2opt.place.shown import may_lose, slower_words
    from moe2opt.progress import claim_words

    lines = list(lacks)
    if result.limit is not None:
        none = "This does not mean that no plan exists."
        longer = "" if result.limit == "INTERRUPTED" else " Next: a larger --time-limit"
        lines.append((none if result.plan is None else slower_words(result)) + longer)
    elif may_lose(result):
        lines.append(f"{slower_words(result)[:-1]}{claim_words(result)}.")
    elif result.plan is None and not lacks:
        lines.append(
            "Next: more RAM or devices, a shorter context (-c), or a smaller micro-batch (-ub)"
        )
    if out is not None:
        again = [str(out / "result.json"), str(out / "config.yaml"), "--allow-outside"]
        lines.append(f"Written to {out}. Check it again: moe2opt verify {shlex.join(again)}")
    elif not lines:
        lines.append(
            "The line above states everything that this plan assumes. --save keeps the problem"
        )
    return ["", *lines]
