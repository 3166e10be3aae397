"""Caches of experts, replayed token by token on traces of what a router asked for."""

from moe2opt.caching.policies import compare as compare_caches
from moe2opt.caching.settings import TokenSettings
from moe2opt.caching.trace import ExpertTrace

__all__ = ["ExpertTrace", "TokenSettings", "compare_caches"]
