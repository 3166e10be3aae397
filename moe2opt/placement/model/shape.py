"""What is known of a mixture-of-experts model: layers, experts and bytes, never its weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from moe2opt.placement.model.context import Context
from moe2opt.result import InputError
from moe2opt.schema.csv import NAME, NOTE, POSITIVE, TEXT, Column, read_table
from moe2opt.schema.source import did_you_mean

#: Routed experts of all layers together; tables of them are built.
MOST_EXPERTS = 1_000_000

#: Columns of the table of models.
COLUMNS: dict[str, Column] = {
    "model": NAME,
    "n_layers": Column("integer", least=0, most=10_000),
    "first_moe_layer": Column("integer", least=0, most=10_000),
    "moe_step": Column("integer", least=0, most=10_000),
    "experts": Column("integer", least=0, most=131_072),
    "top_k": Column("integer", least=0, most=131_072),
    "hidden": Column("integer", least=0, most=67_108_864),
    "expert_ffn": Column("integer", blank=True, least=0),
    "params_per_expert_m": POSITIVE,
    "dense_params_b": POSITIVE,
    "kv_entries_per_token": Column("integer", blank=True, least=0),
    "source": TEXT,
    "note": NOTE,
}

#: Further columns, of models whose layers do not all remember everything.
_WINDOWS = {
    "kv_window_entries_per_token": Column("integer", blank=True, least=0, optional=True),
    "window_tokens": Column("integer", blank=True, least=0, optional=True),
}


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a model.

    Attributes
    ----------
    name
        Name of the model.
    layers
        ``(L,)`` numbers of the layers that have routed experts, as the model counts them.
    n_layers
        Number of all layers.
    experts, top_k
        Routed experts per layer, and how many serve a token.
    hidden
        Width of an activation.
    params_per_expert
        Weights of one routed expert.
    dense_bytes
        Bytes of everything else.
    context
        What the layers remember, None when unknown.
    stored_bytes
        Bytes of one routed expert as stored, the mean over layers; None when only its shape is
        known.
    stored_parts
        ``(L, 3)`` bytes of gate, up and down of one expert in each layer as stored; empty where
        all layers are alike.
    table_bytes
        Bytes of the token table in `dense_bytes`, of which one row is read per token; 0 where it
        serves as the output too, or is not told apart.
    table_in_ram
        Whether the runtime of these files keeps that table in RAM.
    further_layers
        Layers after these that predict further tokens and are not loaded.
    source, note
        Where the figures come from, and what must be known about them.
    """

    name: str
    layers: tuple[int, ...]
    n_layers: int
    experts: int
    top_k: int
    hidden: int
    params_per_expert: float
    dense_bytes: float
    context: Context | None = None
    stored_bytes: float | None = None
    stored_parts: tuple[tuple[float, float, float], ...] = ()
    table_bytes: float = 0.0
    table_in_ram: bool = False
    further_layers: int = 0
    source: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError(f"model: '{self.name}' has no layer with routed experts")
        if len(self.layers) * self.experts > MOST_EXPERTS:
            raise InputError(
                f"model: '{self.name}' has {len(self.layers)} layers of {self.experts} experts; at "
                f"most {MOST_EXPERTS} experts in all"
            )
        if not 1 <= self.top_k <= self.experts:
            raise InputError(
                f"model: '{self.name}' uses {self.top_k} of {self.experts} experts per token"
            )

    @property
    def size(self) -> tuple[int, int]:
        """Layers with experts and experts per layer."""
        return len(self.layers), self.experts

    def expert_bytes(self, bits_per_weight: float) -> float:
        """Return the bytes of one expert at a precision."""
        return self.params_per_expert * bits_per_weight / 8

    @property
    def kv_bytes_per_token(self) -> float | None:
        """Bytes that each further token of context takes beyond any window, None when unknown."""
        return None if self.context is None else self.context.bytes_per_token

    def context_bytes(self, tokens: int, sequences: int = 1) -> float:
        """Return the bytes that a context of so many tokens reserves, all sequences together.

        Raises
        ------
        InputError
            When the model's source does not tell them.
        """
        if not tokens:
            return 0.0
        return self._known("context_tokens").reserved_bytes(tokens, sequences)

    def context_read_bytes(self, depth: int) -> float:
        """Return the bytes of the context that one token reads after `depth` others.

        Raises
        ------
        InputError
            When the model's source does not tell them.
        """
        return self._known("context_depth").read_bytes(depth) if depth else 0.0

    def _known(self, key: str) -> Context:
        if self.context is None:
            raise InputError(
                f"model.{key}: the size of the context of '{self.name}' is not known; "
                "reserve it with reserve_gib of the home tier"
            )
        return self.context


def builtin_table(name: str) -> Path:
    """Return a built-in table of the placement question.

    Raises
    ------
    InputError
        When the installation lacks it.
    """
    package = Path(__file__).resolve().parents[2]
    for root in (package / "problems", package.parent / "problems"):
        if (root / "placement" / "tables" / name).is_file():
            return root / "placement" / "tables" / name
    raise InputError(f"the built-in table {name} is missing; install moe2opt again")


def shape_from_table(path: Path, name: str, dense_bits: float, kv_bits: float) -> ModelShape:
    """Return the model of a row of a table of models.

    Raises
    ------
    InputError
        When the table is faulty or has no such row.
    """
    columns = {**COLUMNS, **_WINDOWS}
    rows = {row["model"]: row for row in read_table(path, columns, unique=("model",))}
    if name not in rows:
        hint = did_you_mean(name, list(rows))
        raise InputError(f"model.table: no model '{name}' in {path.name}{hint}")
    row = rows[name]
    entries = row["kv_entries_per_token"]
    step = max(1, row["moe_step"])
    return ModelShape(
        name=row["model"],
        layers=tuple(range(row["first_moe_layer"], row["n_layers"], step)),
        n_layers=row["n_layers"],
        experts=row["experts"],
        top_k=row["top_k"],
        hidden=row["hidden"],
        params_per_expert=row["params_per_expert_m"] * 1e6,
        dense_bytes=row["dense_params_b"] * 1e9 * dense_bits / 8,
        context=None
        if entries is None
        else Context(
            values=entries,
            window_values=row["kv_window_entries_per_token"] or 0,
            window=row["window_tokens"] or 0,
            bits=kv_bits,
        ),
        source=row["source"],
        note=row["note"] or "",
    )
