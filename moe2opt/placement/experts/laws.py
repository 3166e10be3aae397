"""Synthetic laws of use, which always say that they are synthetic."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from moe2opt.placement.experts.activation import Activation
from moe2opt.placement.model.shape import ModelShape
from moe2opt.result import FloatArray, InputError
from moe2opt.schema.csv import COUNT, Column, read_table

_SPREAD = Column("number", least=0, most=20)
LAW: dict[str, Column] = {
    "layer": COUNT,
    "use_sigma": _SPREAD,
    "saliency_slope": Column("number", least=-20, most=20),
    "saliency_sigma": _SPREAD,
    "saliency_share": Column("number", least=0, most=1),
}


def from_law(path: Path, shape: ModelShape, seed: int) -> Activation:
    """Draw experts from a table of layers: log-normal use, saliency that follows it with noise.

    Raises
    ------
    InputError
        When the table is faulty or does not have exactly the layers of the model.
    """
    rows = {row["layer"]: row for row in read_table(path, LAW, unique=("layer",))}
    missing = [layer for layer in shape.layers if layer not in rows]
    if missing or len(rows) != len(shape.layers):
        what = f"layer {missing[0]} is missing" if missing else "it has layers without experts"
        raise InputError(f"activation.law: {path.name}: {what}")
    rng = np.random.default_rng(seed)
    shares, saliency = [], []
    for layer in shape.layers:
        row = rows[layer]
        use = row["use_sigma"] * rng.standard_normal(shape.experts)
        noise = row["saliency_sigma"] * rng.standard_normal(shape.experts)
        weight = np.exp(row["saliency_slope"] * use + noise)
        # The law is capped from its most used expert on.
        order = np.argsort(-use, kind="stable")
        share = np.empty_like(use)
        share[order] = _capped(np.exp(use[order]), shape.top_k)
        shares.append(share)
        saliency.append(row["saliency_share"] * weight / weight.sum())
    total = np.stack(saliency)
    return Activation(
        domains=("all",),
        weights=np.ones(1),
        shares=np.stack(shares)[None],
        saliency=total / total.sum(),
        note=f"activation: SYNTHETIC, drawn from the law of {path.name} per layer, seed {seed}",
        synthetic=True,
    )


def synthetic(
    layers: int, experts: int, top_k: int, exponent: float, seed: int, *, uniform: bool
) -> Activation:
    """Return a synthetic law: rank r is used in proportion to ``r ** -exponent``, shares ≤ 1."""
    law = np.arange(1, experts + 1, dtype=np.float64) ** -exponent
    law = _capped(law, top_k)
    if uniform:
        shares = np.full((layers, experts), top_k / experts)
        note = "activation: SYNTHETIC, every expert equally often"
    else:
        rng = np.random.default_rng(seed)
        shares = np.stack([rng.permutation(law) for _ in range(layers)])
        note = f"activation: SYNTHETIC, rank law with exponent {exponent:g}, seed {seed}"
    return Activation(
        domains=("all",),
        weights=np.ones(1),
        shares=shares[None],
        saliency=shares / shares.sum(),
        note=note,
        synthetic=True,
    )


def _capped(law: FloatArray, total: float) -> FloatArray:
    """Scale a decreasing law to the sum `total` with no entry above 1."""
    law = law * (total / law.sum())
    for _ in range(len(law)):
        full = law >= 1
        rest = law[~full].sum()
        if not full.any() or not rest:
            break
        law = np.where(full, 1.0, law * ((total - full.sum()) / rest))
        if (law <= 1 + 1e-12).all():
            break
    return np.minimum(law, 1.0)
