"""What a gate is and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from moe2opt.result import InputError

Head = Literal["sigmoid", "softmax"]
Backend = Literal["auto", "torch", "sklearn"]
Calibration = Literal["platt", "temperature", "isotonic", "none"]


#: Settings that mean nothing without torch.
TORCH_ONLY = ("hidden", "epochs", "patience", "learning_rate", "weight_decay", "dropout")


@dataclass(frozen=True, slots=True)
class GateSettings:
    """How to train a gate.

    Attributes
    ----------
    head
        ``sigmoid``: one probability of a correct answer per LLM, binary cross-entropy;
        ``softmax``: a distribution over the LLMs, cross-entropy.
    backend
        ``sklearn``: the mean of every LLM, a table of categories or a linear model, chosen by
        cross-validation; ``torch``: linear part and one hidden layer, early stopping, unless the
        table is as good; ``auto``: ``sklearn``, which needs nothing and was never worse.
    calibration
        How scores become probabilities, fitted on the validation part.
    category
        Whether the category of a prompt is a feature.
    hidden
        Width of the hidden layer (torch); 0 for none.
    epochs, patience
        Most passes over the data, and how many without improvement end the training (torch).
    learning_rate, weight_decay, dropout
        Of the optimiser AdamW and of the hidden layer (torch).
    seed
        Seed of everything random.
    """

    head: Head = "sigmoid"
    backend: Backend = "auto"
    calibration: Calibration = "platt"
    category: bool = True
    hidden: int = 64
    epochs: int = 100
    patience: int = 6
    learning_rate: float = 1e-3
    weight_decay: float = 3.0
    dropout: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if self.head == "softmax" and self.calibration not in ("platt", "isotonic"):
            raise InputError(
                f"gate.calibration: '{self.calibration}' leaves a distribution over the LLMs; the "
                "softmax head needs 'platt' or 'isotonic' to give probabilities of correct answers"
            )

    @property
    def resolved_backend(self) -> Literal["torch", "sklearn"]:
        """The backend that ``auto`` stands for."""
        return "sklearn" if self.backend == "auto" else self.backend
