"""What helps where nothing fits: least amounts that are tried."""

from __future__ import annotations

import re
from typing import Any

from llama_models import model

import moe2opt as mo
from moe2opt.place import PlaceConfig, PlaceInstance
from moe2opt.place.question import instance_of
from moe2opt.place.remedies import lacking_bytes, remedies

GIB = 2**30


def asked(name: str, **sections: Any) -> PlaceInstance:
    """Return the question about a model."""
    content = {"problem": "place", "model": "m.gguf"} | sections
    return instance_of(PlaceConfig.model_validate(content), model(name))


def solvable(instance: PlaceInstance) -> bool:
    """Tell whether there is a plan."""
    return mo.solve(instance, time_limit_s=5).plan is not None


def test_what_lacks_is_said_in_gib_and_helps() -> None:
    """Each amount alone makes a plan possible, and the RAM that lacks is proven to lack."""
    machine: dict[str, Any] = {"gpus": [{"gib": 12, "gb_per_s": 360}], "ram": {"gib": 32}}
    context = {"tokens": 65536}
    instance = asked("glm45-air", **machine, context=context)
    assert not solvable(instance)
    first, _, *lines = remedies(instance, solvable)
    lacking = lacking_bytes(instance.case) / GIB
    assert f"{lacking:.2f} GiB are lacking" in first
    more = next(int(m[1]) for line in lines if (m := re.search(r"(\d+) GiB more RAM", line)))
    assert lacking <= more <= lacking + 2
    assert solvable(
        asked("glm45-air", gpus=machine["gpus"], ram={"gib": 32 + more}, context=context)
    )
    assert any("a file of at most about" in line for line in lines)
    assert not any("(-c " in line for line in lines)  # even the least context does not fit


def test_the_largest_context_is_found() -> None:
    """A context that fits is named, and the next step no longer fits."""
    pool = {"gib": 16, "gb_per_s": 100}
    instance = asked("gpt-oss-20b", unified=pool, context={"tokens": 262144})
    told = "\n".join(remedies(instance, solvable))
    tokens = int(re.search(r"\(-c (\d+)\)", told)[1])  # type: ignore[index]
    assert solvable(asked("gpt-oss-20b", unified=pool, context={"tokens": tokens}))
    assert not solvable(asked("gpt-oss-20b", unified=pool, context={"tokens": tokens + 2048}))
    assert "4 GiB more memory" in told


def test_what_fits_lacks_nothing() -> None:
    """No amount is asked for where there is room."""
    instance = asked("llama31-8b", gpus=[{"gib": 24, "gb_per_s": 936}], ram={"gib": 32})
    assert lacking_bytes(instance.case) < 0


def test_a_floor_on_prompts_is_named() -> None:
    """Where memory is enough and prompts are too slow, the floor is blamed, not the room."""
    gpus, ram = [{"gib": 24, "gb_per_s": 936}], {"gib": 32}
    instance = asked("gpt-oss-20b", gpus=gpus, ram=ram, goal={"least_prefill_tok_s": 1e6})
    (told,) = remedies(instance, solvable)
    assert "no line that fits reads prompts at 1e+06 tokens/s" in told
