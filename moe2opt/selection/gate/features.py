"""Prompt features: standardised vectors beside a one-hot category."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from moe2opt.result import FloatArray, InputError

#: Size of the one-hot entries. Large beside the standardised vectors, so that a penalty on weights
#: hardly touches what the categories say: their accuracies are the safest knowledge there is.
CATEGORY_SCALE = 30.0


@dataclass(frozen=True, slots=True, eq=False)
class FeatureMap:
    """Turns vectors and categories into the gate's input.

    Attributes
    ----------
    mean, scale
        ``(D,)`` of the training vectors.
    categories
        Categories with an input of their own; empty when the category is no feature.
    """

    mean: FloatArray
    scale: FloatArray
    categories: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of inputs."""
        return len(self.mean) + len(self.categories)

    def __call__(self, vectors: FloatArray, category: npt.NDArray[np.str_]) -> FloatArray:
        """Return the ``(P, size)`` inputs; an unknown category has none of its own.

        Raises
        ------
        InputError
            When the vectors have another length than those of the training.
        """
        if vectors.ndim != 2 or vectors.shape[1] != len(self.mean):
            raise InputError(
                f"features: shape {vectors.shape}; the gate was trained on vectors of length "
                f"{len(self.mean)}"
            )
        known = np.asarray(category)[:, None] == np.array(self.categories, dtype=np.str_)
        parts = [(vectors - self.mean) / self.scale]
        if self.categories:
            parts.append(CATEGORY_SCALE * known)
        return np.hstack(parts)


def fit_features(
    vectors: FloatArray, category: npt.NDArray[np.str_], *, use_category: bool
) -> FeatureMap:
    """Return the map whose inputs have mean 0 and deviation 1 on these prompts."""
    scale = vectors.std(axis=0)
    names = tuple(str(name) for name in np.unique(category)) if use_category else ()
    if not names and not vectors.shape[1]:
        raise InputError("gate: neither feature vectors nor the category; nothing to learn from")
    return FeatureMap(vectors.mean(axis=0), np.where(scale > 0, scale, 1.0), names)
