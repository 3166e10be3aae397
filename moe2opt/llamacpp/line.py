"""What a command line of llama.cpp says about memory."""

from __future__ import annotations

from dataclasses import dataclass

from moe2opt.errors import InputError

#: Bytes of a value of the context in each format (blocks of 32 values).
CACHE_BYTES = {
    "f32": 4.0, "f16": 2.0, "bf16": 2.0, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
    "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip

#: Tokens to which the number of cells is rounded up.
_CELLS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Settings of one run; defaults are those of `llama-server`.

    Attributes
    ----------
    context_tokens
        ``-c``: tokens of all sequences together.
    ubatch, batch
        ``-ub``, ``-b``: tokens computed, and handed over, at once.
    sequences
        ``-np``; 4 where `llama-server` is not told.
    unified
        Whether sequences share their cells (``-kvu``; the default where ``-np`` is not given).
    type_k, type_v
        ``-ctk``, ``-ctv``: formats of keys and values.
    flash_attention
        ``-fa``.
    full_window
        ``--swa-full``: window layers remember everything.
    all_logits
        Whether every token of a micro-batch gets its logits (`llama-bench`, `llama-perplexity`,
        `llama-fit-params`, and `llama-server` before build b9496).
    """

    context_tokens: int
    ubatch: int = 512
    batch: int = 2048
    sequences: int = 4
    unified: bool = True
    type_k: str = "f16"
    type_v: str = "f16"
    flash_attention: bool = True
    full_window: bool = False
    all_logits: bool = False

    def __post_init__(self) -> None:
        for name in ("context_tokens", "ubatch", "batch", "sequences"):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, not {getattr(self, name)}")
        for name in ("type_k", "type_v"):
            if getattr(self, name) not in CACHE_BYTES:
                known = ", ".join(CACHE_BYTES)
                raise InputError(f"{name}: no format '{getattr(self, name)}' (known: {known})")

    @property
    def tokens(self) -> int:
        """Tokens that are computed at once."""
        return min(self.ubatch, self.batch)

    @property
    def streams(self) -> int:
        """Contexts that are kept apart."""
        return 1 if self.unified else self.sequences

    @property
    def cells(self) -> int:
        """Tokens of all contexts together that have room."""
        return self.streams * padded(-(-self.context_tokens // self.streams))

    def window_cells(self, window: int) -> int:
        """Return the tokens that have room in a layer that remembers a window."""
        if self.full_window:
            return self.cells
        sharing = self.sequences if self.unified else 1
        own = min(self.cells // self.streams, window * sharing + self.tokens)
        return self.streams * padded(own)


def padded(tokens: int, multiple: int = _CELLS) -> int:
    """Return a number of tokens rounded up to a multiple."""
    return -(-tokens // multiple) * multiple
