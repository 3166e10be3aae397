"""Feature vectors from words alone, for prompts without embeddings.

Words and pairs of neighbouring words are hashed, weighted by inverse document frequency and reduced
by a truncated singular value decomposition. No model is needed; a sentence encoder is better.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from moe2opt.result import FloatArray

_BUCKETS = 2**16


def hashed_text(texts: Sequence[str], dimensions: int = 64) -> FloatArray:
    """Return one vector per text.

    Parameters
    ----------
    texts
        The prompts.
    dimensions
        Length of the vectors; fewer where there are fewer texts.

    Notes
    -----
    The weights and directions come from all the texts together, as those of an unlabelled corpus;
    no outcome enters.
    """
    from scipy import sparse
    from scipy.sparse.linalg import svds

    terms = [_terms(text) for text in texts]
    rows = np.repeat(np.arange(len(texts)), [len(found) for found in terms])
    columns = np.array([term for found in terms for term in found], dtype=np.int64)
    counts: Any = sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (len(texts), _BUCKETS))
    counts.data[:] = 1.0
    present = np.asarray(counts.sum(axis=0)).ravel()
    weighted = counts.multiply(np.log((1 + len(texts)) / (1 + present))).tocsr()
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scale = np.divide(1.0, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    weighted = sparse.diags_array(scale) @ weighted
    size = min(dimensions, len(texts) - 1)
    if size < 1:
        return np.zeros((len(texts), 0))
    start = np.random.default_rng(0).standard_normal(min(weighted.shape))
    # Threads only wait for each other on vectors as short as these: two take three times as long.
    with threadpool_limits(1):
        left, strength, _ = svds(weighted, k=size, v0=start)
    # The sign of a singular vector is arbitrary; fix it so that a repeated run agrees.
    sign = np.sign(left[np.abs(left).argmax(axis=0), np.arange(size)])
    vectors: FloatArray = left * (sign * strength)
    return vectors


def _terms(text: str) -> list[int]:
    words = re.findall(r"\w+|[^\w\s]", text.lower())
    pairs = (f"{a} {b}" for a, b in pairwise(words))
    return sorted({zlib.crc32(term.encode()) % _BUCKETS for term in (*words, *pairs)})
