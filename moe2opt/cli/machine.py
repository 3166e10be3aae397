"""The machine and the settings that the flags of ``place`` say, and faults told by their flags."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from moe2opt.errors import InputError

if TYPE_CHECKING:
    from moe2opt.place import PlaceConfig

#: The flag that says a key of the configuration, or all keys below it.
_FLAGS = {
    "runtime": "--to",
    "quant": "--quant",
    "gpus": "--gpu",
    "ram": "--ram",
    "ram.gb_per_s": "--ram-gb-per-s",
    "unified": "--unified",
    "unified.device_share": "--device-share",
    "context.tokens": "-c",
    "context.depth": "--depth",
    "context.type_k": "-ctk",
    "context.type_v": "-ctv",
    "context.parallel": "--parallel",
    "ubatch": "-ub",
    "batch": "-b",
    "goal.prompt_tokens": "--prompt-tokens",
    "goal.answer_tokens": "--answer-tokens",
    "goal.least_prefill_tok_s": "--least-prefill",
    "margin_gib": "--margin",
    "backend": "--backend",
    "rpc": "--rpc",
}

#: What begins as a size does, and is no name.
_SIZE = re.compile(r"\s*[\d:.,+-]")


def machine(
    gpu: list[str] | None,
    ram: str | None,
    ram_gb_per_s: float | None,
    unified: str | None,
    device_share: float | None,
) -> dict[str, Any]:
    """Return the sections of the machine that was typed, or of this one."""
    speed = {} if ram_gb_per_s is None else {"gb_per_s": ram_gb_per_s}
    share = {} if device_share is None else {"device_share": device_share}
    if unified is not None:
        if gpu is not None or ram is not None:
            raise InputError("--unified stands for --gpu and --ram: give one or the other")
        own = _gpu(unified, "--unified")
        if "name" not in own and "gb_per_s" not in own:
            raise InputError(f"--unified '{unified}': give a name, or GiB and GB/s such as 128:256")
        return {"unified": {**own, **share}, "ram": speed}
    if gpu is None and ram is None:
        from moe2opt.place.detect import detected_gpus, detected_ram, detected_unified

        if (shared := detected_unified()) is not None:
            own = shared.model_dump(exclude_unset=True)
            return {"unified": {**own, **share}, "ram": speed}
        gpus = [found.model_dump(exclude_none=True) for found in detected_gpus()]
        size = detected_ram().model_dump(exclude_unset=True)
    else:
        gpus, size = [_gpu(text) for text in gpu or ()], {} if ram is None else _ram(ram)
    if share:
        raise InputError("--device-share: it is of a memory that is shared: give --unified")
    return {"gpus": gpus, "ram": {**size, **speed}}


def _ram(text: str) -> dict[str, Any]:
    size, colon, kind = text.partition(":")
    try:
        gib = float(size)
    except ValueError:
        gib = math.nan
    if not 0 < gib < 2**30 or (colon and not kind):
        raise InputError(f"--ram '{text}': give GiB, or GiB and a kind such as 64:ddr5-6000")
    return {"gib": gib} | ({"kind": kind} if kind else {})


def _gpu(text: str, flag: str = "--gpu") -> dict[str, Any]:
    size, colon, speed = text.partition(":")
    try:
        gib = float(size)
    except ValueError:
        if not _SIZE.match(text):
            return {"name": text}
        gib = math.nan
    try:
        rate = float(speed) if colon else None
    except ValueError:
        rate = math.nan
    if not 0 < gib < math.inf or (rate is not None and not 0 < rate < math.inf):
        more = "; repeat --gpu for more cards" if flag == "--gpu" else ""
        raise InputError(f"{flag} '{text}': give a name, or GiB and GB/s such as 24:1008{more}")
    return {"gib": gib} | ({} if rate is None else {"gb_per_s": rate})


def config_of(sections: dict[str, Any]) -> PlaceConfig:
    """Return the configuration that flags say; raise `InputError` with every fault by its flag."""
    from moe2opt.place import PlaceConfig
    from moe2opt.schema.source import ConfigError, Document, Mark, Marks, Source, dotted
    from moe2opt.schema.translate import validate

    here = Mark(Source("place"))
    try:
        return validate(Document(sections, {(): Marks(here, here)}), PlaceConfig)
    except ConfigError as error:
        faults = [f"{_flagged(dotted(found.path))}: {found.message}" for found in error.complaints]
        raise InputError("\n".join(faults)) from error


@contextmanager
def in_flags() -> Iterator[None]:
    """Name the flag in place of the key that a message of the block begins with."""
    try:
        yield
    except InputError as error:
        key, colon, rest = str(error).partition(": ")
        raise InputError(f"{_flagged(key)}{colon}{rest}") from error


def _flagged(key: str) -> str:
    """Return the flag of the longest key around a dotted one; the key itself where none is."""
    parts = key.split(".")
    around = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next((_FLAGS[name] for name in around if name in _FLAGS), key)
