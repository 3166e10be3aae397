"""A gate with torch: a linear part and one hidden layer, trained with early stopping."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from moe2opt.result import FloatArray, InputError
from moe2opt.selection.gate.losses import Data
from moe2opt.selection.gate.model import Network
from moe2opt.selection.gate.settings import GateSettings

_BATCH = 256

#: An epoch counts as progress when the validation loss falls by more than this.
_LEAST_PROGRESS = 1e-5

Step = Callable[[str], None]


def fit_torch(
    train: Data, validation: Data, settings: GateSettings, on_step: Step
) -> tuple[Network, dict[str, Any]]:
    """Train until the validation loss stops falling; return the best network met on the way."""
    try:
        import torch
    except ModuleNotFoundError as error:
        raise InputError("gate.backend: torch is missing: pip install 'moe2opt[torch]'") from error
    with _reproducible(torch, settings.seed) as draws:
        model = _model(torch, train, settings)
        optimiser = torch.optim.AdamW(
            _groups(model, settings), lr=settings.learning_rate, betas=(0.9, 0.99)
        )
        loss = _loss(torch, settings.head)
        parts = [_tensors(torch, part, settings.head) for part in (train, validation)]
        history: list[float] = []
        best, state = math.inf, _copied(model)
        for epoch in range(settings.epochs):
            _epoch(torch, model, optimiser, loss, parts[0], draws)
            history.append(_evaluate(torch, model, loss, parts[1] or parts[0]))
            on_step(f"epoch {epoch + 1}: validation loss {history[-1]:.4f}")
            if history[-1] < best - _LEAST_PROGRESS:
                best, state = history[-1], _copied(model)
            elif len(history) - 1 - int(np.argmin(history)) >= settings.patience:
                break
    record = {"epochs": len(history), "best_epoch": int(np.argmin(history)) + 1}
    return _network(state), {**record, "validation_loss": history, "torch": torch.__version__}


@contextmanager
def _reproducible(torch: Any, seed: int) -> Iterator[Any]:
    """Seed torch and keep it to one thread; what the caller had comes back afterwards."""
    threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    try:
        yield torch.Generator().manual_seed(seed)
    finally:
        torch.set_num_threads(threads)
        torch.random.set_rng_state(state)


def _model(torch: Any, train: Data, settings: GateSettings) -> Any:
    """Return the modules; the linear part starts at the mean outcome of each LLM."""
    size, models = train.inputs.shape[1], train.models
    parts = torch.nn.ModuleDict({"linear": torch.nn.Linear(size, models)})
    seen = ~np.isnan(train.score)
    rate = (np.nansum(train.score, axis=0) + 0.5) / (seen.sum(axis=0) + 1.0)
    with torch.no_grad():
        parts["linear"].weight.zero_()
        parts["linear"].bias.copy_(torch.from_numpy(np.log(rate / (1 - rate))))
    if settings.hidden:
        parts["hidden"] = torch.nn.Linear(size, settings.hidden)
        parts["drop"] = torch.nn.Dropout(settings.dropout)
        parts["out"] = torch.nn.Linear(settings.hidden, models, bias=False)
        with torch.no_grad():
            parts["out"].weight.mul_(0.1)
    return parts


def _groups(model: Any, settings: GateSettings) -> list[dict[str, Any]]:
    """Return parameter groups: weights decay, biases do not."""
    named = list(model.named_parameters())
    decayed = [p for name, p in named if name.endswith("weight")]
    free = [p for name, p in named if not name.endswith("weight")]
    return [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": free, "weight_decay": 0.0},
    ]


def _forward(torch: Any, model: Any, inputs: Any) -> Any:
    logits = model["linear"](inputs)
    if "hidden" in model:
        logits = logits + model["out"](model["drop"](torch.relu(model["hidden"](inputs))))
    return logits


def _tensors(torch: Any, part: Data, head: str) -> tuple[Any, Any, Any] | None:
    """Return inputs, targets and mask as tensors; None for a part without outcomes."""
    seen = ~np.isnan(part.score)
    if not seen.any():
        return None
    targets = part.targets if head == "softmax" else np.nan_to_num(part.score)
    arrays = (part.inputs.astype(np.float32), targets.astype(np.float32), seen)
    return tuple(torch.from_numpy(array) for array in arrays)


def _loss(torch: Any, head: str) -> Callable[[Any, Any, Any], Any]:
    """Return the mean loss of logits against targets under a mask."""

    def sigmoid(logits: Any, targets: Any, seen: Any) -> Any:
        entropy = torch.nn.functional.binary_cross_entropy_with_logits
        return entropy(logits[seen], targets[seen]) if seen.any() else logits.sum() * 0.0

    def softmax(logits: Any, targets: Any, seen: Any) -> Any:
        some = seen.any(dim=1)
        if not some.any():
            return logits.sum() * 0.0
        masked = logits[some].masked_fill(~seen[some], -math.inf)
        log_p = torch.log_softmax(masked, dim=1).masked_fill(~seen[some], 0.0)
        return -(targets[some] * log_p).sum(dim=1).mean()

    return softmax if head == "softmax" else sigmoid


def _epoch(torch: Any, model: Any, optimiser: Any, loss: Any, part: Any, draws: Any) -> None:
    inputs, targets, seen = part
    model.train()
    for batch in torch.randperm(len(inputs), generator=draws).split(_BATCH):
        optimiser.zero_grad()
        value = loss(_forward(torch, model, inputs[batch]), targets[batch], seen[batch])
        value.backward()
        optimiser.step()


def _evaluate(torch: Any, model: Any, loss: Any, part: Any) -> float:
    inputs, targets, seen = part
    model.eval()
    with torch.no_grad():
        return float(loss(_forward(torch, model, inputs), targets, seen))


def _copied(model: Any) -> dict[str, FloatArray]:
    state = model.state_dict()
    return {name: value.numpy().astype(np.float64).copy() for name, value in state.items()}


def _network(state: dict[str, FloatArray]) -> Network:
    """Return the numpy network; torch stores weights as (outputs, inputs)."""
    models, size = state["linear.weight"].shape
    return Network(
        weight=state["linear.weight"].T.copy(),
        bias=state["linear.bias"],
        hidden_weight=state.get("hidden.weight", np.zeros((0, size))).T.copy(),
        hidden_bias=state.get("hidden.bias", np.zeros(0)),
        out_weight=state.get("out.weight", np.zeros((models, 0))).T.copy(),
    )
