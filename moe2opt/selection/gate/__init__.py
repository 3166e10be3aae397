"""The gate: from the features of a prompt to one score per LLM, trained once on all LLMs."""

from moe2opt.selection.gate.measures import Measures as Measures
from moe2opt.selection.gate.measures import measure as measure
from moe2opt.selection.gate.model import Gate as Gate
from moe2opt.selection.gate.model import load_gate as load_gate
from moe2opt.selection.gate.settings import GateSettings as GateSettings
from moe2opt.selection.gate.train import train_gate as train_gate
from moe2opt.selection.outcomes.text import hashed_text as hashed_text
