"""Sections that do not go together: every message names the key, and none is a traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

import moe2opt as mo
from moe2opt.schema import ConfigError

EXPONENTIAL = "lengths={distribution: exponential}"
QUEUE = "prompts_per_s: 1, wait_limit_s: 1"

#: (instance, overrides, message)
FAULTS = [
    ("tiny", ["objective=top_k"], "mixture.k: needed with objective 'top_k'"),
    ("tiny", ["objective=expected_max"],
     "objective: 'expected_max' does not go with `tables`"),
    ("tiny_gate", ["objective=expected_accuracy"],
     "objective: 'expected_accuracy' does not go with `experts`"),
    ("tiny", ["objective=masked"],
     "objective: expected 'expected_accuracy', 'expected_max', 'masked_softmax', 'top_k' or "
     "'vote', got 'masked'; did you mean 'masked_softmax'?"),
    ("tiny_gate", ["objective=top_k", "mixture.k=2", "routing.top_k=3"],
     "mixture.k: 2, but routing.top_k is 3"),
    ("tiny", ["objective=expected_accuracy", "mixture.k=2"],
     "mixture.k: only goes with objective 'top_k'"),
    ("tiny_gate", ["mixture.temperature=2"],
     "mixture.temperature: only goes with objective 'masked_softmax' or 'top_k'"),
    ("tiny", ["objective=masked_softmax", "mixture.k=2"],
     "mixture.k: only goes with objective 'top_k'"),
    ("tiny", ["mixture.temperature=0"], "mixture.temperature: must be at least 0.1, got 0"),
    ("tiny", ["mixture.k=0"], "mixture.k: must be at least 1, got 0"),
    ("tiny", ["energy.counts=largest"], "energy: largest: needed with counts 'largest'"),
    ("tiny", ["energy.largest=2"], "energy: largest: only goes with counts 'largest'"),
    ("tiny", ["energy.counts=al"],
     "energy.counts: expected 'all', 'one' or 'largest', got 'al'; did you mean 'all'?"),
    ("tiny", ["delay.statistic=quantile"], "delay: level: needed with statistic 'quantile'"),
    ("tiny", ["delay.level=0.9"], "delay: level: only goes with statistic 'quantile' or 'cvar'"),
    ("tiny", ["delay.statistic=cvar", "delay.level=1"], "delay.level: must be less than 1, got 1"),
    ("tiny", ["delay={counts: all, scope: category}", EXPONENTIAL],
     "delay: scope: 'category' does not go with counts 'all': everybody answers"),
    ("tiny", ["delay={statistic: cvar, level: 0.9}"],
     "lengths: needed for delay.statistic 'cvar'; the tables hold mean lengths only"),
    ("tiny", ["delay.counts=all"],
     "lengths: needed for delay.counts 'all'; the tables hold mean lengths only"),
    ("tiny", [f"queue={{{QUEUE}}}"],
     "lengths: needed for queue; the tables hold mean lengths only"),
    ("tiny", ["lengths={points: 30}"],
     "lengths.distribution: required with `tables`, which hold mean lengths only"),
    ("tiny", ["lengths={distribution: lognormal}"],
     "lengths: cv: needed with distribution 'lognormal'"),
    ("tiny", ["lengths={distribution: constant, cv: 1}"],
     "lengths: cv: only goes with distribution 'lognormal'"),
    ("tiny", ["lengths={distribution: normal}"],
     "lengths.distribution: expected 'lognormal', 'exponential' or 'constant', got 'normal'; did "
     "you mean 'lognormal'?"),
    ("tiny", ["queue={prompts_per_s: 0, wait_limit_s: 1}"],
     "queue.prompts_per_s: must be greater than 0, got 0"),
    ("tiny", ["queue={prompts_per_s: 1}"], "queue.wait_limit_s: required key is missing"),
    ("tiny", [f"queue={{{QUEUE}, load_share: 0.5, counts: all}}", EXPONENTIAL],
     "queue: load_share: only goes with counts 'one'"),
    ("tiny", ["sets=category"],
     "sets: expected 'one' or 'per_category', got 'category'; did you mean 'per_category'?"),
    ("tiny", ["sets=per_category", "robust.quantile=0.9"],
     "sets: 'per_category' does not go with robust"),
    ("tiny", ["sets=per_category", "objective=masked_softmax"],
     "sets: 'per_category' does not go with objective 'masked_softmax'"),
    ("tiny", ["sets=per_category", "energy.counts=one"],
     "sets: 'per_category' does not go with energy.counts 'one'"),
    ("tiny", ["sets=per_category", "delay.scope=everywhere"],
     "sets: 'per_category' does not go with delay.scope 'everywhere'"),
    ("tiny", ["sets=per_category", f"queue={{{QUEUE}}}", EXPONENTIAL],
     "sets: 'per_category' does not go with queue"),
    ("tiny_gate", ["routing.money_per_prompt=0.01"], "routing.money_per_prompt: needs `money`"),
    ("tiny_gate", ["sets=per_category"], "sets: 'per_category' does not go with `experts`"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "overrides", "message"), FAULTS)
def test_the_message_names_the_key(
    name: str, overrides: list[str], message: str, checkout: Path
) -> None:
    """Sections that contradict each other are refused with one message that says which."""
    with pytest.raises(ConfigError) as caught:
        mo.load(checkout / "problems" / "selection" / f"{name}.yaml", overrides=overrides)
    (complaint,) = caught.value.complaints
    words = str(caught.value).splitlines()[0]
    assert words.endswith(message)
    assert complaint.path or "1:1" in words


def test_unused_sections_are_no_error(checkout: Path) -> None:
    """`lengths` and an empty `mixture` may stay in a file whose scenario does not use them."""
    overrides = [EXPONENTIAL, "mixture={}"]
    instance = mo.load(checkout / "problems/selection/tiny.yaml", overrides=overrides)
    plain = mo.load(checkout / "problems/selection/tiny.yaml")
    assert instance.problem().fingerprint == plain.problem().fingerprint
    assert instance.caveats == plain.caveats


@pytest.mark.parametrize(("override", "words"), [
    ("objective=masked_softmax", "objective 'masked_softmax'"),
    ("energy={limit_j_per_prompt: 90, counts: largest, largest: 2}", "energy.counts 'largest'"),
    (f"queue={{{QUEUE}}}", "queue"),
    ("delay={limit_s: 9, counts: all}", "delay.counts 'all'"),
    ("delay={limit_s: 9, statistic: cvar, level: 0.9, sharing: shared}",
     "delay.statistic 'cvar' on shared servers"),
])  # fmt: skip
def test_grids_refuse_what_they_cannot_compare(override: str, words: str, checkout: Path) -> None:
    """A grid of baselines says which part of a file it does not know."""
    path = checkout / "problems/selection/tiny_gate.yaml"
    instance = mo.load(path, overrides=[override])
    message = f"grid: compares deployments on sums over experts only, not {words}"
    with pytest.raises(mo.InputError, match=message):
        instance.require_sums("grid")
