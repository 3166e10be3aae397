"""Is the loss that plans are made with the loss that one measures? Random plans, compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from moe2opt.executor.store.formats import Format, format_of
from moe2opt.placement.assignment import FORMS, KEEP, MERGE, PRUNE, SHARE, Assignment
from moe2opt.placement.modes.groupings import dendrogram
from moe2opt.placement.question import PlacementInstance
from moe2opt.result import IntArray
from moe2opt.writing import replacing
from tinymoe.quality import Judged, losses, mean_loss, planned
from tinymoe.tables import whole_model

if TYPE_CHECKING:
    import pandas as pd

    from moe2opt.executor.model.folder import ModelFolder

OnStep = Callable[[str], None]

#: What a random plan does to experts; `mixed` does any of it, layer by layer.
KINDS = ("round", "prune", "merge", "share", "mixed")

_FORM_OF = {"prune": PRUNE, "merge": MERGE, "share": SHARE}


@dataclass(frozen=True, slots=True, eq=False)
class StudyPlan:
    """A plan whose loss is predicted and measured.

    Attributes
    ----------
    name, kind
        What it is.
    assignment
        What becomes of every expert.
    """

    name: str
    kind: str
    assignment: Assignment


def random_plans(instance: PlacementInstance, number: int, seed: int) -> list[StudyPlan]:
    """Return `number` plans, the kinds in turn, from nearly nothing done to nearly everything."""
    draw = np.random.default_rng(seed)
    found = []
    for k in range(number):
        kind = KINDS[k % len(KINDS)]
        strength = (k // len(KINDS) + draw.random()) / max(1, -(-number // len(KINDS)))
        found.append(StudyPlan(f"{kind} {k}", kind, _random(instance, kind, strength, draw)))
    return found


def _random(
    instance: PlacementInstance, kind: str, strength: float, draw: np.random.Generator
) -> Assignment:
    layers, experts = instance.shape.size
    form = np.full((layers, experts), KEEP)
    leader = np.tile(np.arange(experts), (layers, 1))
    least = instance.shape.top_k
    for row in range(layers):
        own = draw.choice(KINDS[:-1]) if kind == "mixed" else kind
        # Around the strength, so that layers differ.
        share = np.clip(strength * draw.uniform(0.4, 1.6), 0.0, 1.0)
        kept = experts - round(float(share) * 0.75 * (experts - least))
        if own != "round" and kept < experts:
            form[row], leader[row] = _reduced(instance, row, _FORM_OF[own], kept, draw)
    formats = _precisions(instance, strength if kind in ("round", "mixed") else 0.0, draw)
    formats = np.take_along_axis(formats, leader[:, :, None], axis=1)
    tier = np.where(form == PRUNE, -1, 0)[:, :, None]
    return Assignment(tier, formats, form, leader)


def _reduced(
    instance: PlacementInstance, row: int, form: int, kept: int, draw: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Return form and representative of a layer's experts with `kept` of them left."""
    own = np.arange(instance.shape.experts)
    if form == PRUNE:
        # Mostly the least salient ones, as plans do, but not always.
        noise = np.exp(draw.normal(0.0, 0.5, len(own)))
        order = np.argsort(instance.activation.saliency[row] * noise)
        dropped = np.isin(own, order[: len(own) - kept])
        return np.where(dropped, PRUNE, KEEP), own
    noise = np.exp(draw.normal(0.0, 0.3, (len(own), len(own))))
    distance = instance.distances[row] * np.sqrt(noise * noise.T)
    use = np.maximum(instance.activation.mixed[row], 1e-12)
    leader = dendrogram(distance, use, [kept])[kept]
    return np.where(leader == own, KEEP, form), leader


def _precisions(
    instance: PlacementInstance, strength: float, draw: np.random.Generator
) -> IntArray:
    """Return ``(L, E, 1)`` precisions: the first where nothing is rounded, narrower ones else."""
    wide = min(range(len(instance.precisions)), key=lambda q: instance.precisions[q].loss_nats)
    narrow = [q for q, p in enumerate(instance.precisions) if p.loss_nats > 0]
    size = (*instance.shape.size, 1)
    if not narrow or not strength:
        return np.full(size, wide, dtype=np.int64)
    chosen = draw.choice(narrow, size=size)
    return np.where(draw.random(size) < strength, chosen, wide).astype(np.int64)


def instance_formats(instance: PlacementInstance) -> list[Format]:
    """Return the weight formats of an instance's precisions."""
    return [format_of(p.name, p.bits_per_weight) for p in instance.precisions]


def measure_plans(
    folder: ModelFolder,
    instance: PlacementInstance,
    plans: Sequence[StudyPlan],
    text: Judged,
    on_step: OnStep = lambda _: None,
) -> pd.DataFrame:
    """Return predicted and measured loss of plans: name, kind, what was done, nats.

    Parameters
    ----------
    folder
        The model.
    instance
        Predicts; its precisions are those of the plans.
    plans
        Plans.
    text
        Text to measure on; the loss is the mean over its domains.
    on_step
        Gets a line per plan.
    """
    import pandas as pd

    decoder = folder.decoder()
    formats = instance_formats(instance)
    base = _measured(folder, instance, whole_model(folder, _widest(instance)), text, formats)
    rows = []
    for plan in plans:
        aggregation = instance.config.aggregation
        rank = 0.125 if aggregation is None else aggregation.rank_share
        shares = instance.activation.mixed
        model = planned(folder, decoder, plan.assignment, shares, formats, rank)
        measured = mean_loss(losses(*model, text)) - base
        predicted = instance.mode.loss(plan.assignment)
        rows.append((plan.name, plan.kind, *_done(instance, plan.assignment), predicted, measured))
        on_step(f"{plan.name}: predicted {predicted:.5f}, measured {measured:.5f} nats")
    columns = ["plan", "kind", "pruned", "merged", "shared", "mean_bits"]
    return pd.DataFrame(rows, columns=[*columns, "predicted_nats", "measured_nats"])


def _measured(
    folder: ModelFolder,
    instance: PlacementInstance,
    assignment: Assignment,
    text: Judged,
    formats: list[Format],
) -> float:
    shares = instance.activation.mixed
    return mean_loss(losses(*planned(folder, folder.decoder(), assignment, shares, formats), text))


def _widest(instance: PlacementInstance) -> int:
    return int(np.argmax([p.bits_per_weight for p in instance.precisions]))


def _done(instance: PlacementInstance, assignment: Assignment) -> Iterator[float]:
    """Yield experts pruned, merged and sharing, and mean bits of the stored ones."""
    for name in ("prune", "merge", "share"):
        yield int((assignment.form == FORMS.index(name)).sum())
    bits = np.array([p.bits_per_weight for p in instance.precisions])[assignment.precision]
    yield round(float(bits[assignment.stored == 1].mean()), 3)


def rank_correlation(table: pd.DataFrame) -> float:
    """Return Spearman's correlation of predicted and measured loss."""
    from scipy.stats import spearmanr

    return float(spearmanr(table.predicted_nats, table.measured_nats).statistic)


def fitted_scale(table: pd.DataFrame, kind: str) -> float:
    """Return the factor that makes predictions of a kind right on average, on a log scale."""
    rows = table[(table.kind == kind) & (table.predicted_nats > 0) & (table.measured_nats > 0)]
    return float(np.exp(np.mean(np.log(rows.measured_nats / rows.predicted_nats))))


def draw_study(table: pd.DataFrame, path: Path, title: str) -> None:
    """Draw measured against predicted loss, one colour per kind."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    least = 1e-5
    fig, ax = plt.subplots(figsize=(5.2, 4.6), layout="constrained")
    for kind, rows in table.groupby("kind"):
        ax.scatter(
            rows.predicted_nats.clip(least), rows.measured_nats.clip(least), s=22, label=kind
        )
    ends = [least, 2 * float(table[["predicted_nats", "measured_nats"]].to_numpy().max())]
    ax.plot(ends, ends, color="0.6", linewidth=1, zorder=0)
    ax.set(xscale="log", yscale="log", title=title)
    ax.set_xlabel("loss that plans are made with (nats per byte)")
    ax.set_ylabel("loss measured on held-out text (nats per byte)")
    ax.legend(frameon=False)
    with (
        mpl.rc_context({"svg.hashsalt": "moe2opt", "svg.fonttype": "none"}),
        replacing(path) as beside,
    ):
        fig.savefig(beside, metadata={"Date": None} if path.suffix == ".svg" else None)
    plt.close(fig)
