"""Several policies through the same days: decide, serve, learn, and add up."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from moe2opt.replay.days.gating import gated_values
from moe2opt.replay.days.policies import (
    GATED,
    HINDSIGHT,
    Decision,
    Policy,
    decide,
    fresh,
    hear,
    kept,
    learn,
    loading,
    solved,
    usual,
)
from moe2opt.replay.days.settings import DaysSettings
from moe2opt.replay.days.stream import Day
from moe2opt.replay.days.world import Stage, World
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.selection.plan.parts import hourly_price
from moe2opt.selection.question import GatedInstance
from moe2opt.source import name_of
from moe2opt.writing import ours, write_frame, write_text

#: Told when a policy is through: policy, days done, days in all.
Progress = Callable[[str, int, int], None]

CLAIRVOYANT = "clairvoyant"

#: What records say of money, where the days have one currency.
MONEY = ("money_per_prompt", "money_per_hour")


@dataclass(frozen=True, slots=True, eq=False)
class DaysComparison:
    """Policies through the same days.

    Attributes
    ----------
    world
        The selection and its days.
    records
        One record per day and policy.
    bounds
        What no policy that routes by category can exceed on each day; None without.
    interrupted
        Whether Ctrl-C came before all policies were through.
    """

    world: World
    records: dict[str, list[dict[str, Any]]]
    bounds: tuple[float, ...] | None
    interrupted: bool = False

    def summaries(self) -> dict[str, dict[str, Any]]:
        """Return the sums of every policy by name."""
        return {name: self._summary(own) for name, own in self.records.items() if own}

    def _summary(self, own: Sequence[dict[str, Any]]) -> dict[str, Any]:
        prompts = np.array([record["prompts"] for record in own], dtype=np.float64)

        def mean(key: str) -> float:
            return float(np.average([record[key] for record in own], weights=prompts))

        most = None
        if self.bounds is not None:
            most = float(np.average(self.bounds[: len(own)], weights=prompts))
        accuracy = mean("accuracy")
        return {
            "days": len(own),
            "prompts": int(prompts.sum()),
            "accuracy": accuracy,
            "regret": None if most is None else most - accuracy,
            "energy_j_per_prompt": mean("energy_j_per_prompt"),
            **{key: mean(key) for key in MONEY if self.world.currency is not None},
            "loaded_gib": sum(record["loaded_gib"] for record in own),
            "days_changed": sum(record["loaded_gib"] > 0 for record in own[1:]),
            "days_proven": sum(record["proven"] for record in own),
        }

    def to_frame(self) -> pd.DataFrame:
        """Return one row per policy."""
        return pd.DataFrame.from_dict(self.summaries(), orient="index").rename_axis("policy")

    def days_frame(self) -> pd.DataFrame:
        """Return one row per policy and day."""
        rows = [{"policy": name, **record} for name, own in self.records.items() for record in own]
        frame = pd.DataFrame(rows)
        frame["experts"] = ["; ".join(experts) for experts in frame["experts"]]
        if self.bounds is not None:
            frame["bound_of_all"] = [self.bounds[day] for day in frame["day"]]
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "instance": self.world.instance.name,
            "days": len(self.world.days),
            "settings": asdict(self.world.settings),
            "currency": self.world.currency,
            "clairvoyant": None if self.bounds is None else list(self.bounds),
            "policies": self.summaries(),
            "records": self.records,
        }


def with_outcomes(instance: Any) -> GatedInstance:
    """Return an instance that can be replayed from day to day; raise `InputError` otherwise."""
    if not isinstance(instance, GatedInstance):
        name = name_of(instance)
        raise InputError(
            f"replay: '{name}': days need a selection with `experts: {{outcomes: FOLDER}}`"
        )
    return instance


def compare_days(
    instance: Any,
    days: Sequence[Day],
    policies: Sequence[str] | None = None,
    *,
    against: str | None = CLAIRVOYANT,
    settings: DaysSettings | None = None,
    allow_outside: bool = False,
    out: str | Path | None = None,
    progress: Progress | None = None,
) -> DaysComparison:
    """Send a selection through a stream of days under several policies.

    Every prompt goes to the deployed expert that the policy believes best in its category, or by
    its gate. While an expert is loaded, its prompts go to the best one that was there already, or
    are lost.

    Parameters
    ----------
    instance
        A selection with single outcomes, from `moe2opt.load`.
    days
        The stream, such as `read_days` returns.
    policies
        Names in `moe2opt.replay.days.policies.POLICIES`, all of them when left out; with
        ``routing.days: gate`` in the configuration also ``gated``.
    against
        ``clairvoyant`` for an upper bound on every policy, None for none.
    settings
        How the replay runs; the defaults when left out.
    allow_outside
        Whether paths may leave the folder of the configuration.
    out
        Folder for ``days.csv`` and ``summary.json``.
    progress
        Told of each policy that is through.

    Returns
    -------
    DaysComparison
        Accuracies are those of the published answers times what the precision keeps.

    Raises
    ------
    InputError
        For an unknown policy, or an instance that is no such selection.
    moe2opt.errors.NoPlanError
        When no deployment keeps the budgets of some day.
    """
    instance = with_outcomes(instance)
    known = usual(instance.config.routing.days == "gate")
    names = [*dict.fromkeys(known if policies is None else policies)]
    unknown = [name for name in names if name not in known]
    if GATED in unknown:
        raise InputError("policy 'gated': needs routing.days: gate in the configuration")
    if unknown or not names:
        wrong = f"unknown policy '{unknown[0]}'" if unknown else "there is no policy"
        raise InputError(f"{wrong}; choose from {', '.join(known)}")
    if against not in (None, CLAIRVOYANT):
        raise InputError(f"against '{against}': it must be clairvoyant or none")
    world = World(instance, tuple(days), settings or DaysSettings(), allow_outside)
    folder = None if out is None else ours(Path(out), ("days.csv", "summary.json"))
    stages = world.stages
    bounds = None
    if against is not None:
        bounds = tuple(_bound(world, stage, day) for day, stage in enumerate(stages))
    records: dict[str, list[dict[str, Any]]] = {}
    interrupted = False
    try:
        for name in names:
            records[name] = _through(world, name, progress)
    except KeyboardInterrupt:
        interrupted = True
    found = DaysComparison(world, records, bounds, interrupted)
    if folder is not None:
        write_frame(folder / "days.csv", found.days_frame())
        write_text(folder / "summary.json", json.dumps(found.to_dict(), indent=1))
    return found


def _through(world: World, name: str, progress: Progress | None) -> list[dict[str, Any]]:
    """Send a policy through all days."""
    policy, records = fresh(name, world), []
    for day, stage in enumerate(world.stages):
        records.append(_lived(world, policy, stage, day))
    if progress is not None:
        progress(name, len(records), len(records))
    return records


def _bound(world: World, stage: Stage, day: int) -> float:
    """Return what no deployment that routes by category can exceed on a day."""
    return solved(stage.problem(world.means(day), world.mix(day)), day)[0].bound


def _lived(world: World, policy: Policy, stage: Stage, day: int) -> dict[str, Any]:
    """Let a policy decide, serve the day's prompts, and learn from them."""
    _try_newcomers(world, policy, day)
    decision = decide(policy, world, stage, day)
    record = {"day": day, "prompts": len(world.parts[day + 1])}
    record |= _served(world, policy, stage, decision, day)
    policy.deployed = tuple(stage.keys[i] for i in decision.chosen)
    return record


def _try_newcomers(world: World, policy: Policy, day: int) -> None:
    """Run the LLMs that came today on past prompts, drawn at random."""
    come = world.days[day].come
    if come and policy.name != HINDSIGHT:
        past = np.concatenate(world.parts[: day + 1])
        rng = np.random.default_rng([world.settings.seed, day])
        hear(policy, world, rng.permutation(past)[: world.settings.trial], come)


def _served(
    world: World, policy: Policy, stage: Stage, decision: Decision, day: int
) -> dict[str, Any]:
    """Serve the day's prompts, learn, and return what came of it."""
    chosen, prompts = decision.chosen, world.parts[day + 1]
    category = world.outcomes.category_of[prompts]
    stays = np.isin(chosen, kept(policy, stage))
    worth = stage.values(policy.beliefs)[category]
    if policy.name == GATED:
        worth = gated_values(policy, world, stage, prompts, day)
    worth = worth[:, chosen]
    lead, other = _leaders(worth), _leaders(np.where(stays, worth, 0.0))
    gone = np.where(stays, 0.0, loading(world, stage)[chosen]) if policy.deployed else stays * 0.0
    late = gone[lead]
    score = _scores(world, stage, prompts, chosen[lead])
    backup = np.where(other >= 0, _scores(world, stage, prompts, chosen[other]), 0.0)
    served = np.where(lead >= 0, (1 - late) * score + late * backup, 0.0)
    joules = np.where(lead >= 0, stage.instance.energy_j[category, chosen[lead]], 0.0)
    if policy.name == HINDSIGHT:
        pass  # it knows them
    elif world.settings.feedback == "all":
        hear(policy, world, prompts, world.days[day].offered)
    else:
        answered = lead >= 0
        learn(policy, world, prompts[answered], stage.columns[chosen[lead[answered]]])
    fresh_gib = [stage.instance.experts[i].memory_gib for i in chosen[~stays]]
    return {
        "experts": [stage.instance.experts[i].label for i in chosen],
        "accuracy": float(served.mean()),
        "energy_j_per_prompt": float(joules.mean()),
        **_paid(world, stage, chosen, category, lead),
        "loaded_gib": float(sum(fresh_gib)),
        "promised": decision.promised,
        "bound": decision.bound if np.isfinite(decision.bound) else None,
        "proven": decision.proven,
    }


def _paid(
    world: World, stage: Stage, chosen: IntArray, category: IntArray, lead: IntArray
) -> dict[str, float]:
    """Return the expected money per prompt, and that per hour; nothing without a currency."""
    price = stage.instance.price
    if world.currency is None or price is None:
        return {}
    paid = np.where(lead >= 0, price[category, chosen[lead]], 0.0)
    figures = (float(paid.mean()), hourly_price(stage.instance, chosen))
    return dict(zip(MONEY, figures, strict=True))


def _leaders(worth: FloatArray) -> IntArray:
    """Return the ``(P,)`` best column of each prompt, -1 where none may serve."""
    best = worth.argmax(axis=1)
    return np.where(worth.max(axis=1) > 0, best, -1)


def _scores(world: World, stage: Stage, prompts: IntArray, experts: IntArray) -> FloatArray:
    """Return what each prompt's expert scores, less what its precision loses."""
    factors = stage.instance.factors[experts]
    return np.asarray(world.score[prompts, stage.columns[experts]] * factors)
