"""How many of the draws by the thousand are made: one in four, or all when asked."""

from __future__ import annotations

import os

#: Set to `all`, this environment variable asks for every draw of the slow suites.
VARIABLE = "MOE2OPT_DRAWS"


def share_of(full: int) -> int:
    """Return the part of a full number of draws that is made, at least one."""
    return full if os.environ.get(VARIABLE) == "all" else max(1, full // 4)
