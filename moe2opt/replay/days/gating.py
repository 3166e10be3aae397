"""A gate for the prompts of a day, trained on the outcomes that a policy knows by then."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moe2opt.replay.days.policies import Policy
from moe2opt.replay.days.world import Stage, World
from moe2opt.result import FloatArray, IntArray
from moe2opt.selection.gate import Gate, train_gate
from moe2opt.selection.outcomes.partition import Split

#: Of so many known prompts one is for validation.
_FOLDS = 5


def gate_of(policy: Policy, world: World, day: int) -> Gate:
    """Return a gate trained on what a policy knows, as the section `gate` asks for.

    Raises
    ------
    InputError
        When a gate cannot be trained in that way.
    """
    outcomes, settings = world.outcomes, world.instance.config.gate.settings()
    rows = np.flatnonzero(policy.heard.any(axis=1))
    known = replace(
        outcomes,
        prompts=tuple(outcomes.prompts[p] for p in rows),
        category=outcomes.category[rows],
        prompt_tokens=outcomes.prompt_tokens[rows],
        score=np.where(policy.heard, outcomes.score, np.nan)[rows],
        output_tokens=outcomes.output_tokens[rows],
        vectors=outcomes.vectors[rows],
        answers=None,
        margins=None,
    )
    order = np.random.default_rng([world.settings.seed, day]).permutation(len(rows))
    part = np.where(order % _FOLDS == _FOLDS - 1, 1, 0)
    shares = (1 - 1 / _FOLDS, 1 / _FOLDS, 0.0, 0.0)
    split = Split(part, shares, world.settings.seed)
    return train_gate(known, split, settings, offered=world.days[day].offered)


def gated_values(
    policy: Policy, world: World, stage: Stage, prompts: IntArray, day: int
) -> FloatArray:
    """Return ``(P, N)`` values of the experts on single prompts, 0 where one may not serve.

    An LLM that the gate does not know is worth what is believed of it in the category.
    """
    gate, outcomes = gate_of(policy, world, day), world.outcomes
    category = outcomes.category_of[prompts]
    chance = policy.beliefs[category]
    own = outcomes.columns(list(gate.llms))
    chance[:, own] = gate.scores(outcomes.vectors[prompts], outcomes.category[prompts])
    values = np.clip(chance[:, stage.columns] * stage.instance.factors, 0.0, 1.0)
    return np.where(stage.instance.barred[category], 0.0, values)
