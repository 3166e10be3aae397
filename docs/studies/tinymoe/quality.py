"""Loss of a model on text, as it is and with a plan applied to its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from moe2opt.executor.model.decoder import Decoder
from moe2opt.executor.model.experts import Experts, ResidentExperts
from moe2opt.executor.model.folder import ModelFolder
from moe2opt.executor.model.text import batches, byte_tokens, token_losses, windows
from moe2opt.executor.store.formats import Format
from moe2opt.placement.assignment import PRUNE, Assignment
from moe2opt.result import FloatArray, InputError
from tinymoe.applying import Served, apply_plan


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Text to judge a model on.

    Attributes
    ----------
    windows
        ``(N, T + 1)`` tokens by domain.
    """

    windows: Mapping[str, Tensor]


def text_files(folder: Path) -> dict[str, bytes]:
    """Return the ``.txt`` files of a folder by name, each a domain.

    Raises
    ------
    InputError
        When there are none.
    """
    found = {path.stem: path.read_bytes() for path in sorted(folder.glob("[!.]*.txt"))}
    if not found:
        raise InputError(f"text: there is no .txt file in {folder.name}")
    return found


def judged_bytes(folder: Path, context: int = 256, most: int | None = None) -> Judged:
    """Return the texts of a folder as windows of bytes, for models without a tokenizer."""
    return Judged(
        {
            name: windows(byte_tokens(text), context, most)
            for name, text in text_files(folder).items()
        }
    )


def losses(decoder: Decoder, experts: Experts, text: Judged) -> dict[str, float]:
    """Return the mean loss in nats per token of each domain."""
    with torch.inference_mode():
        found = {}
        for name, rows in text.windows.items():
            parts = [
                token_losses(decoder.forward(batch[:, :-1], experts), batch)
                for batch in batches(rows)
            ]
            found[name] = float(torch.cat(parts).double().mean())
        return found


def mean_loss(by_domain: Mapping[str, float]) -> float:
    """Return the mean over domains, each counting alike."""
    return math.fsum(by_domain.values()) / len(by_domain)


def planned(
    folder: ModelFolder,
    decoder: Decoder,
    assignment: Assignment,
    shares: FloatArray,
    formats: list[Format],
    rank_share: float = 0.125,
) -> tuple[Decoder, ResidentExperts]:
    """Return the model with a plan applied to its weights, all in memory.

    Parameters
    ----------
    folder, decoder
        The model and its part without experts.
    assignment, shares, formats, rank_share
        See `tinymoe.applying.apply_plan`.
    """
    served: Served = apply_plan(
        folder, folder.spec, assignment, shares, rank_share=rank_share, formats=formats
    )
    return decoder.without(assignment.form == PRUNE), ResidentExperts(served.weights)
