"""What a model remembers of the tokens so far: bytes that are reserved, and bytes that are read."""

from __future__ import annotations

from dataclasses import dataclass

from moe2opt.llamacpp import Line

#: Bytes of a value of a recurrent state, whatever the format of the context.
_STATE_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Values that the layers keep, all layers together.

    Attributes
    ----------
    values
        Values per token of the layers that remember everything: keys and values, or their latent.
    window_values, window
        Values per token of the layers that remember a window, and the tokens of that window.
    state_values
        Values of recurrent states, whatever the number of tokens.
    bits
        Bits of a value of `values` and `window_values`.
    cells
        Whether room is made as llama.cpp makes it, in cells of 256 tokens.
    """

    values: int
    window_values: int = 0
    window: int = 0
    state_values: int = 0
    bits: float = 16.0
    cells: bool = False

    @property
    def bytes_per_token(self) -> float:
        """Bytes that each further token takes beyond the window."""
        return self.values * self.bits / 8

    def reserved_bytes(self, tokens: int, sequences: int = 1) -> float:
        """Return the bytes of contexts with room for so many tokens of all sequences together.

        A window layer has room for its window and the micro-batch that is computed.
        """
        line = Line(context_tokens=tokens, sequences=sequences, unified=False)
        if self.cells:
            full, window = line.cells, line.window_cells(self.window)
        else:
            full, window = tokens, min(tokens, sequences * (self.window + line.tokens))
        kept = full * self.values + window * self.window_values
        return kept * self.bits / 8 + sequences * self.state_values * _STATE_BYTES

    def read_bytes(self, depth: int) -> float:
        """Return the bytes that one token reads after `depth` others."""
        seen = depth * self.values + min(depth, self.window) * self.window_values
        return seen * self.bits / 8 + self.state_values * _STATE_BYTES
