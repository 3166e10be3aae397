"""Command line: argv → one public function per verb → exit code."""

from moe2opt.cli.app import app as app
from moe2opt.cli.app import main as main
