"""The plan for a runtime other than llama.cpp: its command, and what that takes and gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from moe2opt.content import Content
from moe2opt.errors import DAMAGE, InputError
from moe2opt.place.judge import Rate
from moe2opt.place.shown import memory_bars, memory_lines, rate_words
from moe2opt.view import View, table

if TYPE_CHECKING:
    import pandas as pd

ASKS = "Which setting of the runtime is fastest within the memory of cards and RAM?"


@dataclass(frozen=True, eq=False, repr=False)
class RuntimePlan(Content):
    """A command of a runtime with what it stands for.

    Attributes
    ----------
    name, model, runtime
        Names of the instance, of the model, and of the runtime.
    options
        What is set, in the runtime's words.
    devices, layers
        As in `PlacePlan`; ``experts_in_ram`` says how many of a layer's experts are in RAM.
    decode, prefill
        Tokens per second of answers and of prompts, as the runtime computes.
    tried
        Number of settings that it is the best of.
    command, files
        What is run, and the files that it reads.
    notes
        What must be known.
    """

    name: str
    model: str
    runtime: str
    options: dict[str, Any]
    devices: tuple[dict[str, Any], ...]
    layers: tuple[dict[str, Any], ...]
    decode: Rate
    prefill: Rate
    tried: int
    command: str
    files: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready content."""
        return {
            "instance": self.name,
            "model": self.model,
            "runtime": self.runtime,
            "options": dict(self.options),
            "devices": [dict(device) for device in self.devices],
            "layers": [dict(layer) for layer in self.layers],
            "decode_tok_s": self.decode.to_dict(),
            "prefill_tok_s": self.prefill.to_dict(),
            "baselines": [],
            "tried": self.tried,
            "command": self.command,
            "files": dict(self.files),
            "notes": list(self.notes),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RuntimePlan:
        """Rebuild a plan from `to_dict`; raise `InputError` for anything else."""
        try:
            return cls(
                name=data["instance"],
                model=data["model"],
                runtime=data["runtime"],
                options=dict(data["options"]),
                devices=tuple(dict(device) for device in data["devices"]),
                layers=tuple(dict(layer) for layer in data["layers"]),
                decode=Rate(**data["decode_tok_s"]),
                prefill=Rate(**data["prefill_tok_s"]),
                tried=int(data["tried"]),
                command=data["command"],
                files=dict(data["files"]),
                notes=tuple(data["notes"]),
            )
        except DAMAGE as error:
            raise InputError(f"plan: not understood: {type(error).__name__}: {error}") from error

    def to_frame(self) -> pd.DataFrame:
        """Return one row per layer."""
        import pandas as pd

        return pd.DataFrame(list(self.layers))

    def summary(self) -> str:
        """Return the plan in words: speed, memory per device, and the command."""
        return "\n".join(
            [
                f"{self.runtime}: {rate_words(self.decode)} tokens/s of answers, "
                f"{rate_words(self.prefill)} of prompts (as {self.runtime} computes, by the stated "
                f"model of speed; the fastest of {self.tried:,} settings)",
                "",
                *memory_lines(self.devices),
                "",
                self.command,
                *(f"  reads the file {name}, which --out writes" for name in self.files),
                *(f"  note: {note}" for note in self.notes),
            ]
        )

    def view(self) -> View:
        """Return what a page shows."""
        figures = (
            ("runtime", self.runtime),
            ("answers", f"{rate_words(self.decode)} tokens/s"),
            ("prompts", f"{rate_words(self.prefill)} tokens/s"),
            ("command", self.command),
        )
        set_ = table(
            "What is set", ("option", "value"), [(k, str(v)) for k, v in self.options.items()]
        )
        return View(ASKS, figures, memory_bars(self.devices), (set_,), self.notes)
