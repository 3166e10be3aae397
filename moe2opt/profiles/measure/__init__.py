"""Measure the machine that this runs on, and write what was measured as a profile.

`measure_machine` runs the steps of one session (`session`): memory (`memory`), disk (`disk`),
arithmetic (`arithmetic`), accelerator (`accelerator`) and power (`power`). `write_measurement`
writes the tables that a plan reads and ``machine.json``, which tells how each figure came about.
"""

from moe2opt.profiles.measure.figures import Effort as Effort
from moe2opt.profiles.measure.figures import Figure as Figure
from moe2opt.profiles.measure.figures import Measurement as Measurement
from moe2opt.profiles.measure.figures import Skipped as Skipped
from moe2opt.profiles.measure.session import FULL as FULL
from moe2opt.profiles.measure.session import QUICK as QUICK
from moe2opt.profiles.measure.session import Options as Options
from moe2opt.profiles.measure.session import measure_machine as measure_machine
from moe2opt.profiles.measure.writing import write_measurement as write_measurement
