"""The waist of the hourglass: three canonical problems, all maximised.

Everything above compiles to one of these, and every solver and the certificate checker know
nothing else.
"""

from moe2opt.canonical import parts as parts
from moe2opt.canonical.choice import MultipleChoiceProblem as MultipleChoiceProblem
from moe2opt.canonical.facility import FacilityProblem as FacilityProblem
from moe2opt.canonical.monotone import MonotoneProblem as MonotoneProblem
from moe2opt.canonical.question import Instance as Instance
from moe2opt.canonical.question import Plan as Plan
from moe2opt.canonical.question import Question as Question
from moe2opt.canonical.ratio import MaskedSoftmax as MaskedSoftmax
from moe2opt.canonical.ratio import masked_softmax_ceiling as masked_softmax_ceiling
from moe2opt.canonical.ratio import masked_softmax_problem as masked_softmax_problem
from moe2opt.canonical.relax import RELAXATION_TOLERANCE as RELAXATION_TOLERANCE
from moe2opt.canonical.relax import just_below as just_below
from moe2opt.canonical.relax import relaxed as relaxed
from moe2opt.canonical.relax import row_count as row_count
from moe2opt.canonical.relax import row_limit as row_limit
from moe2opt.canonical.relax import row_usage as row_usage
from moe2opt.canonical.relax import without_rows as without_rows
from moe2opt.canonical.rounding import rounded_budget as rounded_budget
from moe2opt.canonical.rounding import rounded_net as rounded_net
from moe2opt.canonical.rounding import rounded_row as rounded_row
from moe2opt.canonical.rounding import violated_rows as violated_rows
from moe2opt.canonical.selftest import CounterExample as CounterExample
from moe2opt.canonical.selftest import find_counterexample as find_counterexample
from moe2opt.canonical.separable import ChoiceView as ChoiceView
from moe2opt.canonical.separable import choice_view as choice_view
from moe2opt.canonical.sets import at_most_one_sets as at_most_one_sets
from moe2opt.canonical.sets import partition as partition
from moe2opt.canonical.storage import Problem as Problem
from moe2opt.canonical.storage import load_problem as load_problem
from moe2opt.canonical.storage import save_problem as save_problem
from moe2opt.canonical.types import Merged as Merged
from moe2opt.canonical.types import interchangeable_rows as interchangeable_rows
from moe2opt.canonical.types import merge as merge
from moe2opt.canonical.types import pack as pack
from moe2opt.canonical.undominated import undominated as undominated
from moe2opt.canonical.validate import BIGGEST_EXACT as BIGGEST_EXACT
from moe2opt.canonical.validate import indicators as indicators
from moe2opt.canonical.validate import is_integral as is_integral
from moe2opt.view import View as View
