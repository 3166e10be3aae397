"""Command line: argv → one public function per verb → exit code."""

import sys

try:
    from moe2opt.cli.app import app as app
    from moe2opt.cli.app import main as main
except KeyboardInterrupt:  # nothing has begun yet that could be kept
    print("interrupted", file=sys.stderr)
    raise SystemExit(130) from None
