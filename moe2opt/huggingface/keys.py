"""Keys of a `config.json`: checked when they are read, and what was not read is known."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from moe2opt.errors import InputError
from moe2opt.huggingface.fields import LayerCount, Many, Width

_Item = TypeVar("_Item", bool, str)

_MOST_LAYERS = 10_000

_LAYER_KEYS = re.compile(
    "num_hidden_layers|first_k_dense_replace|decoder_sparse_step|num_dense_layers|moe_layer_.*"
)
_WIDTH_KEYS = re.compile(
    "hidden_size|vocab_size|.*intermediate_size(_mlp)?|share_expert_dim|max_position_embeddings"
)
#: Keys whose lists say one number for every layer.
_LISTS = re.compile("moe_intermediate_size|moe_topk|num_shared_expert|num_experts")

_KINDS: tuple[Any, ...] = (LayerCount, Many, Width)
_AS_LAYERS, _AS_MANY, _AS_WIDTH = (TypeAdapter[int](kind) for kind in _KINDS)
_NUMBERS = TypeAdapter(list[int], config={"strict": True})

#: Keys whose names speak of sizes.
_SIZES = re.compile(
    r"expert|intermediate|hidden_size|head|lora|rank|_dim\b|_dims$|layer|shared|mtp|moe|mlp|ffn"
    r"|kernel|ssm|mamba|window|group"
)

#: Keys of such names that say nothing about weights or context: routing, training, dropout.
_HARMLESS = re.compile(
    r"n_group|topk_group|num_expert_group|num_limited_groups|router_.*|.*norm.*|.*loss.*|.*bias.*"
    r"|.*coef.*|.*dropout.*|.*init.*|.*scal.*|.*use_.*|.*drop.*|pretraining_tp|ep_size|.*_step_.*"
    r"|num_nextn_predict_layers|mtp_.*|max_window_layers|qk_head_dim|.*chunk_size|moe_router_.*"
    r"|.*rope_.*|.*theta.*|.*freq|partial_rotary_factor|original_.*|moe_top_?k|.*activation.*"
    r"|residual.*|.*multiplier.*|.*jitter.*|expert_parallel.*|layers_to_.*|mamba_expand|expand"
    r"|no_rope_layer.*|index_topk.*|num_experts_per_group|moe_group.*|.*_impl.*|gate_.*|moe_gate"
    r"|group_.*|rotary_dim|num_mtp_modules|num_beam_groups|num_hash_layers|projector_.*|vision_.*"
    r"|sliding_window_size|vocab_size_per_layer_input"
)


class Keys:
    """What a configuration says, read with types and ranges checked.

    Parameters
    ----------
    content
        The configuration; its `text_config` is read in place of what stands around it.
    name
        Name of the file, for messages.
    """

    def __init__(self, content: Mapping[str, Any], name: str) -> None:
        inner = content.get("text_config")
        self._content = {**content, **inner} if isinstance(inner, dict) else dict(content)
        self._name = name
        self._read: set[str] = set()

    def first(self, *names: str) -> int | None:
        """Return the first of these whole numbers that is told; equal ones of a list are one.

        Raises
        ------
        InputError
            For another type, an absurd size, or a list whose numbers differ.
        """
        found = None
        for name in names:
            self._read.add(name)
            value = self._content.get(name)
            if value is None or found is not None:
                continue
            if isinstance(value, list) and _LISTS.fullmatch(name):
                several = set(self.numbers(name))
                if len(several) != 1:
                    raise InputError(
                        f"{self._name}: {name}: {len(several)} different numbers; layers that "
                        "differ in it are not read"
                    )
                value = several.pop()
            found = self._checked(name, value)
        return found

    def numbers(self, name: str) -> list[int]:
        """Return whole numbers, empty where nothing is told; one frequency is a list of one."""
        self._read.add(name)
        value = self._content.get(name)
        if value is None:
            return []
        if not isinstance(value, list) and name == "moe_layer_freq":
            return [self._checked(name, value)]
        try:
            found = _NUMBERS.validate_python(value)
        except ValidationError as error:
            raise self._fault(name, error) from error
        if len(found) > _MOST_LAYERS:
            raise InputError(f"{self._name}: {name}: {len(found)} numbers")
        return found

    def flags(self, name: str) -> list[bool]:
        """Return a list of yes and no, empty where nothing is told."""
        return self._list_of(name, bool, "true and false")

    def listed(self, name: str) -> list[int]:
        """Return whole numbers of a text such as ``3,4,5``."""
        text = self.text(name)
        if not re.fullmatch(r"[\d, ]{0,60000}", text):
            raise InputError(f"{self._name}: {name}: {text!r:.40} is not a list of layers")
        return [int(word) for word in re.findall(r"\d{1,6}", text)]

    def text(self, name: str) -> str:
        """Return a text, empty where nothing is told."""
        self._read.add(name)
        value = self._content.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise InputError(f"{self._name}: {name}: Input should be a valid string")
        return value

    def words(self, name: str) -> list[str]:
        """Return a list of texts, empty where nothing is told."""
        return self._list_of(name, str, "words")

    def _list_of(self, name: str, kind: type[_Item], words: str) -> list[_Item]:
        self._read.add(name)
        value = self._content.get(name)
        if value is None:
            return []
        fits = isinstance(value, list) and all(isinstance(item, kind) for item in value)
        if not fits or len(value) > _MOST_LAYERS:
            raise InputError(f"{self._name}: {name}: Input should be a list of {words}")
        return list(value)

    def section(self, name: str) -> Keys:
        """Return the keys of a section, none where nothing is told."""
        self._read.add(name)
        value = self._content.get(name)
        if value is not None and not isinstance(value, dict):
            raise InputError(f"{self._name}: {name}: Input should be a section")
        return Keys(value or {}, f"{self._name}: {name}")

    def yes(self, name: str) -> bool:
        """Return whether something is told to be so."""
        self._read.add(name)
        value = self._content.get(name)
        if value is not None and not isinstance(value, bool):
            raise InputError(f"{self._name}: {name}: Input should be a valid boolean")
        return bool(value)

    def unread(self) -> list[str]:
        """Return the keys that speak of sizes and were not read."""
        return [
            name
            for name, value in self._content.items()
            if isinstance(name, str)
            and name not in self._read
            and not isinstance(value, bool | dict | float | str | None)
            and _SIZES.search(name)
            and not _HARMLESS.fullmatch(name)
            and value not in ([], 0)
        ]

    def _checked(self, name: str, value: Any) -> int:
        kind = _AS_LAYERS if _LAYER_KEYS.fullmatch(name) else _AS_MANY
        kind = _AS_WIDTH if _WIDTH_KEYS.fullmatch(name) else kind
        try:
            return int(kind.validate_python(value, strict=True))
        except ValidationError as error:
            raise self._fault(name, error) from error

    def _fault(self, name: str, error: ValidationError) -> InputError:
        return InputError(f"{self._name}: {name}: {error.errors()[0]['msg']}")
