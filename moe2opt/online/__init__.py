"""Plans that follow the network, the user and the load; caches of experts replayed on traces."""

from moe2opt.online.compare import Comparison
from moe2opt.online.compare import compare as compare_policies
from moe2opt.online.expert_trace import ExpertTrace
from moe2opt.online.policies import ReplaySettings
from moe2opt.online.token_policies import TokenSettings
from moe2opt.online.token_policies import compare as compare_caches
from moe2opt.online.trace import Trace, build_trace
from moe2opt.online.trace_files import open_trace

__all__ = [
    "Comparison",
    "ExpertTrace",
    "ReplaySettings",
    "TokenSettings",
    "Trace",
    "build_trace",
    "compare_caches",
    "compare_policies",
    "open_trace",
]
