"""What llama.cpp does with a model: where its tensors lie, and the bytes of every device.

Formulas follow the source of llama.cpp (build b11434: `llama-kv-cache`, `llama-memory-recurrent`,
`llama-model`) and are tested against what the runtime itself measured.
"""

from moe2opt.llamacpp.context import context_bytes
from moe2opt.llamacpp.layout import ALL, CPU, Layout, homes_of
from moe2opt.llamacpp.line import CACHE_BYTES, Line
from moe2opt.llamacpp.memory import RPC, Backend, DeviceMemory, memory_of
from moe2opt.llamacpp.model import LlamaLayer, LlamaModel, read_llama

__all__ = [
    "ALL",
    "CACHE_BYTES",
    "CPU",
    "RPC",
    "Backend",
    "DeviceMemory",
    "Layout",
    "Line",
    "LlamaLayer",
    "LlamaModel",
    "context_bytes",
    "homes_of",
    "memory_of",
    "read_llama",
]
