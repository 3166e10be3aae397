"""Plans applied to weights: what is merged, shared, dropped and rounded is what was asked for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from executor.conftest import Make

from moe2opt.placement.assignment import DISTIL, KEEP, MERGE, PRUNE, SHARE, Assignment
from moe2opt.result import InputError

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch", reason="changes weights: needs torch")
pytest.importorskip("safetensors", reason="reads a model: needs safetensors")

from tinymoe.applying import apply_plan, residual, with_residual
from tinymoe.quality import Judged, losses, mean_loss, planned
from tinymoe.tables import distances_from, measure_tables, pair_changes, probe, saliency_of

from moe2opt.executor.model.experts import feed_forward
from moe2opt.executor.model.folder import open_folder
from moe2opt.executor.store.formats import Format
from moe2opt.executor.store.merging import matching, merge, permuted

SHARES = np.array([[0.8, 0.6, 0.4, 0.2]] * 3)


def assignment(form: list[int], leader: list[int], precision: int = 0) -> Assignment:
    """Return the same forms in every layer of the tiny model."""
    forms, leaders = np.tile(form, (3, 1)), np.tile(leader, (3, 1))
    tier = np.where(forms == PRUNE, -1, 0)[:, :, None]
    return Assignment(tier, np.full((3, 4, 1), precision), forms, leaders)


def expert(seed: int, width: int = 24, hidden: int = 16) -> dict[str, Any]:
    """Return random matrices."""
    draw = torch.Generator().manual_seed(seed)
    return {
        "gate": torch.randn(width, hidden, generator=draw),
        "up": torch.randn(width, hidden, generator=draw),
        "down": torch.randn(hidden, width, generator=draw),
    }


def test_a_permuted_expert_is_found_again() -> None:
    """The same expert with its inner units in another order merges into exactly itself."""
    own = expert(0)
    order = np.random.default_rng(1).permutation(24)
    other = permuted(own, order)
    inputs = torch.randn(5, 16)
    assert torch.allclose(feed_forward(own, inputs), feed_forward(other, inputs), atol=1e-4)
    assert (order[matching(own, other)] == np.arange(24)).all()
    merged = merge({0: own, 1: other}, 0, [0, 1], np.array([0.9, 0.1]))
    assert torch.allclose(merged["gate"], own["gate"], atol=1e-6)


def test_use_is_the_weight_of_a_merge() -> None:
    """The merged matrix is the use-weighted mean of the matched ones."""
    own = {0: expert(0), 1: expert(1), 2: expert(2)}
    merged = merge(own, 0, [0, 2], np.array([0.6, 0.5, 0.2]))
    matched = permuted(own[2], matching(own[0], own[2]))
    for part, matrix in merged.items():
        assert torch.allclose(matrix, 0.75 * own[0][part] + 0.25 * matched[part], atol=1e-6)


@pytest.mark.parametrize(("share", "rank"), [(0.25, 2), (1.7, 16)])
def test_residuals_are_as_small_as_they_say(share: float, rank: int) -> None:
    """The factors have the rank that the share pays for; with full rank nothing is lost."""
    base, own = expert(0), expert(1)
    for left, right in residual(base, own, share).values():
        assert left.shape[1] == right.shape[0] == rank
    target, found = permuted(own, matching(base, own)), with_residual(base, own, share)
    for part, matrix in target.items():
        lost, far = ((matrix - other[part]).norm() for other in (found, base))
        assert float(lost) < (1e-5 if rank == 16 else 0.9) * float(far)


def test_forms_decide_who_serves(make: Make) -> None:
    """Merged experts share their weights, a sharing one has its own, kept ones are as stored."""
    folder = open_folder(make())
    plan = assignment([KEEP, MERGE, KEEP, SHARE], [0, 0, 2, 2])
    served = apply_plan(folder, folder.spec, plan, SHARES)
    first, second = served.expert_weights(1, 0), served.expert_weights(1, 1)
    assert first["up"] is second["up"]
    assert not torch.equal(first["up"], folder.expert_weights(1, 0)["up"])
    assert torch.equal(served.expert_weights(1, 2)["up"], folder.expert_weights(1, 2)["up"])
    assert not torch.equal(served.expert_weights(1, 3)["up"], folder.expert_weights(1, 3)["up"])


def test_precisions_round_what_serves(make: Make) -> None:
    """int4 weights are off by less than an eighth of the stored ones, int8 by a hundredth."""
    folder = open_folder(make())
    stored = folder.expert_weights(0, 0)["gate"]
    for form, limit in ((Format("int4", 16), 0.12), (Format("int8", 16), 0.01)):
        plan = assignment([KEEP] * 4, [0, 1, 2, 3])
        served = apply_plan(folder, folder.spec, plan, SHARES, formats=[form])
        change = served.expert_weights(0, 0)["gate"] - stored
        assert 0 < float(change.norm() / stored.norm()) < limit


def test_a_pruned_model_runs_on_what_is_left(make: Make) -> None:
    """Pruned experts have no weights and are not asked for."""
    folder = open_folder(make())
    plan = assignment([PRUNE, KEEP, KEEP, KEEP], [0, 1, 2, 3])
    decoder, experts = planned(folder, folder.decoder(), plan, SHARES, [Format("fp32")])
    assert (0, 0) not in experts.weights and (0, 1) in experts.weights
    assert decoder.forward(torch.arange(30), experts).isfinite().all()


def test_distilled_experts_cannot_be_run(make: Make) -> None:
    """There are no weights for an expert that was trained anew; that is said."""
    folder = open_folder(make())
    with pytest.raises(InputError, match="distil"):
        apply_plan(
            folder, folder.spec, assignment([KEEP, DISTIL, KEEP, KEEP], [0, 0, 2, 3]), SHARES
        )


def test_tables_are_those_of_their_definition(make: Make) -> None:
    """The loss of one dropped expert is that of the whole model run anew; alike are near."""
    folder = open_folder(make())
    draw = torch.Generator().manual_seed(5)
    text = Judged({n: torch.randint(0, 64, (3, 33), generator=draw) for n in ("a", "b")})
    tables = measure_tables(folder, text, SHARES, [Format("int4", 16)])
    decoder = folder.decoder()

    def loss(form: list[int], leader: list[int]) -> float:
        one = assignment([KEEP] * 4, [0, 1, 2, 3])
        one.form[1], one.representative[1] = form, leader
        one.tier[1, :, 0] = np.where(np.array(form) == PRUNE, -1, 0)
        model = planned(folder, decoder, one, SHARES, [Format("fp32")])
        return mean_loss(losses(*model, text)) - tables.base

    assert tables.pruned[1, 2] == pytest.approx(loss([0, 0, PRUNE, 0], [0, 1, 2, 3]), abs=1e-6)
    whole = probe(folder, decoder, text)
    assert whole.loss(2, decoder, {}) == pytest.approx(tables.base, abs=1e-6)
    whole.weights[0, 3] = whole.weights[0, 1]
    change = pair_changes(whole, 0, SHARES[0])
    assert change[1, 3] == pytest.approx(0.0, abs=1e-9) and change[0, 2] > 1e-6
    assert (change == change.T).all()
    assert saliency_of(tables).sum() == pytest.approx(1.0)
    assert (distances_from(tables, SHARES) >= 0).all()
