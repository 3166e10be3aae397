"""Which candidates are kept, so that every class is served well: the question ``portfolio``.

Model variants for a fleet of devices, operating points to keep warm, experts to ship: one table of
class, candidate and value, costs and budgets of candidates, and every class takes the best kept.
"""

from moe2opt.portfolio.case import Case, Cell
from moe2opt.portfolio.plan import PortfolioPlan
from moe2opt.portfolio.question import PortfolioInstance
from moe2opt.portfolio.sections import PortfolioConfig

__all__ = ["Case", "Cell", "PortfolioConfig", "PortfolioInstance", "PortfolioPlan"]
