"""The door of the question ``portfolio``: what the rest of moe2opt asks of it."""

from __future__ import annotations

from moe2opt.canonical.question import Question, TextExport
from moe2opt.portfolio.plan import ASKS, PortfolioPlan
from moe2opt.portfolio.question import PortfolioInstance, build
from moe2opt.portfolio.sections import PortfolioConfig


def _csv(plan: PortfolioPlan, instance: PortfolioInstance | None) -> TextExport:
    """Return one line per kept candidate, as a plan among the baselines is read."""
    del instance
    return TextExport.of_rows([(plan.column,), *((name,) for name in plan.kept)], plan.notes)


def _json(plan: PortfolioPlan, instance: PortfolioInstance | None) -> TextExport:
    """Return what is kept, and who serves each class, as one object."""
    del instance
    return TextExport.of_json({"kept": plan.kept, "serves": plan.serves}, plan.notes)


QUESTION = Question(
    name="portfolio",
    asks=ASKS,
    config=PortfolioConfig,
    build=build,
    plan_from_dict=PortfolioPlan.from_dict,
    exporters={"csv": _csv, "json": _json},
)
