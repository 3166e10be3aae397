"""The waist of the hourglass: three canonical problems, all maximised.

Everything above compiles to one of these, and every solver and the certificate checker know
nothing else.
"""

from moe2opt.canonical.choice import MultipleChoiceProblem as MultipleChoiceProblem
from moe2opt.canonical.facility import FacilityProblem as FacilityProblem
from moe2opt.canonical.instance import Instance as Instance
from moe2opt.canonical.monotone import MonotoneProblem as MonotoneProblem
from moe2opt.canonical.selftest import CounterExample as CounterExample
from moe2opt.canonical.selftest import find_counterexample as find_counterexample
from moe2opt.canonical.storage import Problem as Problem
from moe2opt.canonical.storage import load_problem as load_problem
from moe2opt.canonical.storage import save_problem as save_problem
