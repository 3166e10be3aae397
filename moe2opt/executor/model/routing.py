"""Which experts a model chooses for a text: counts and a trace, in the formats of placement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from moe2opt.executor.model.experts import Experts
from moe2opt.executor.model.folder import ModelFolder, open_folder
from moe2opt.executor.model.text import batches, read_texts, windows
from moe2opt.placement.experts.activation import trace_shares
from moe2opt.result import FloatArray, InputError, IntArray
from moe2opt.writing import replacing, write_frame


@dataclass(frozen=True, slots=True, eq=False)
class Routing:
    """Experts chosen for each token.

    Attributes
    ----------
    experts
        ``(tokens, L, k)`` experts, most wanted first.
    starts
        Positions where a sequence begins.
    domain
        ``(tokens,)`` position in `domains`.
    domains
        Names of the texts.
    layers
        ``(L,)`` numbers of the layers with experts.
    number
        Experts of a layer.
    """

    experts: IntArray
    starts: IntArray
    domain: IntArray
    domains: tuple[str, ...]
    layers: tuple[int, ...]
    number: int

    @property
    def shares(self) -> FloatArray:
        """``(L, E)`` share of tokens that use an expert; each domain counts alike."""
        return np.asarray(np.mean(list(self.by_domain().values()), axis=0))

    def by_domain(self) -> dict[str, FloatArray]:
        """Return ``(L, E)`` shares of each domain."""
        return {
            name: trace_shares(self.experts[self.domain == d], self.number)
            for d, name in enumerate(self.domains)
        }

    def counts(self, saliency: FloatArray | None = None) -> pd.DataFrame:
        """Return the table that `activation.counts` reads: layer, expert, domain, count.

        A saliency, ``(L, E)``, is divided among the domains.
        """
        rows = []
        for d, name in enumerate(self.domains):
            chosen = self.experts[self.domain == d]
            for row, layer in enumerate(self.layers):
                found = np.bincount(chosen[:, row].ravel(), minlength=self.number)
                rows += [(layer, e, name, int(n)) for e, n in enumerate(found)]
        table = pd.DataFrame(rows, columns=["layer", "expert", "domain", "count"])
        if saliency is not None:
            each = np.tile((saliency / len(self.domains)).ravel(), len(self.domains))
            table["saliency"] = [float(f"{value:.6g}") for value in each]
        return table


@dataclass(slots=True, eq=False)
class _Recorder:
    """Passes everything on and keeps what was chosen."""

    inner: Experts
    chosen: dict[int, list[Tensor]] = field(default_factory=dict)

    def apply(self, layer: int, hidden: Tensor, chosen: Tensor, weights: Tensor) -> Tensor:
        """Return what the inner experts return, see `Experts`."""
        self.chosen.setdefault(layer, []).append(chosen)
        return self.inner.apply(layer, hidden, chosen, weights)


def record_routing(
    folder: ModelFolder, texts: Mapping[str, Tensor], context: int = 256, most: int | None = None
) -> Routing:
    """Run texts through a model and return which experts it chooses.

    Parameters
    ----------
    folder
        The model; all of it must fit memory in fp32.
    texts
        ``(T,)`` tokens by domain.
    context
        Tokens of a sequence; each begins anew.
    most
        Most sequences of a domain.

    Raises
    ------
    InputError
        For a text that is too short, or a token outside the vocabulary.
    """
    decoder, recorder = folder.decoder(), _Recorder(folder.resident())
    lengths = []
    with torch.inference_mode():
        for tokens in texts.values():
            if len(tokens) and (last := int(tokens.max())) >= folder.spec.vocabulary:
                raise InputError(
                    f"text: token {last} is outside the model's vocabulary of "
                    f"{folder.spec.vocabulary}"
                )
            rows = windows(tokens, context, most)
            lengths.append(len(rows) * context)
            for batch in batches(rows):
                decoder.forward(batch[:, :-1], recorder)
    found = [torch.cat(recorder.chosen[layer]) for layer in folder.spec.moe_layers]
    return Routing(
        experts=torch.stack(found, dim=1).numpy(),
        starts=np.arange(0, sum(lengths), context),
        domain=np.repeat(np.arange(len(lengths)), lengths),
        domains=tuple(texts),
        layers=folder.spec.moe_layers,
        number=folder.spec.experts,
    )


def write_routing(routing: Routing, out: Path, saliency: FloatArray | None = None) -> None:
    """Write ``counts.csv`` and ``trace.npz``, as `activation` reads them.

    The trace has the arrays `experts`, `starts`, `domain` and `domains`.

    Raises
    ------
    InputError
        When they cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_frame(out / "counts.csv", routing.counts(saliency))
        with replacing(out / "trace.npz") as beside:
            np.savez_compressed(
                beside,
                experts=routing.experts.astype(np.min_scalar_type(routing.number - 1)),
                starts=routing.starts,
                domain=routing.domain.astype(np.uint8),
                domains=np.array(routing.domains),
            )
    except OSError as error:
        raise InputError(f"{out}: cannot be written: {error.strerror or error}") from error


def profile_routing(
    model: Path, files: list[Path], out: Path, context: int = 256, most: int | None = None
) -> Routing:
    """Record the routing of texts through a model folder and write it to `out`."""
    folder = open_folder(model)
    routing = record_routing(folder, read_texts(folder, files), context, most)
    write_routing(routing, out)
    return routing
