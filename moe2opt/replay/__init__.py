"""Plans that follow the network, the user and the load: policies replayed on traces."""

from moe2opt.replay.compare import Comparison
from moe2opt.replay.compare import compare as compare_policies
from moe2opt.replay.policies import ReplaySettings
from moe2opt.replay.traces.files import open_trace
from moe2opt.replay.traces.trace import Trace, build_trace

__all__ = [
    "Comparison",
    "ReplaySettings",
    "Trace",
    "build_trace",
    "compare_policies",
    "open_trace",
]
