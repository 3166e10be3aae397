"""A small question of its own, to show what a new question has to bring."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Union

from pydantic import Field, field_validator

from moe2opt.canonical import FacilityProblem, Question
from moe2opt.result import InputError
from moe2opt.schema import Section


class Steady(Section):
    """A source that gives a fixed amount."""

    kind: Literal["steady"]
    amount: int


class Table(Section):
    """A source that gives listed amounts."""

    kind: Literal["table"]
    amounts: tuple[float, float] | int


class Item(Section):
    """Something to pick."""

    name: str
    value: float = Field(default=1.0, ge=0)
    tags: tuple[str, ...] = Field(default=(), max_length=2)


class ToyConfig(Section):
    """Pick items."""

    problem: Literal["toy"]
    items: tuple[Item, ...]
    source: Annotated[Union[Steady, Table], Field(discriminator="kind")] | None = None  # noqa: UP007
    by_level: dict[int, float] = Field(default_factory=dict)
    file: str = ""

    @field_validator("file")
    @classmethod
    def _short(cls, file: str) -> str:
        if len(file) > 10:
            raise ValueError("is too long a name")
        return file


class ToyInstance:
    """An instance whose plan is the list of picked names."""

    def __init__(self, config: ToyConfig, folder: Path) -> None:
        self.config, self.folder, self.name = config, folder, "toy"
        values = [[item.value for item in config.items]]
        ones = [[1.0] * len(config.items)]
        self._problem = FacilityProblem(values, ones, [1.0])

    def problem(self) -> FacilityProblem:
        """Return the problem."""
        return self._problem

    def decode(self, x: object) -> list[str]:
        """Return the picked names."""
        return [item.name for item, one in zip(self.config.items, x, strict=True) if one]  # type: ignore[call-overload]

    def evaluate(self, plan: list[str]) -> float:
        """Return the value of the best picked item."""
        return max((item.value for item in self.config.items if item.name in plan), default=0.0)

    def check(self, plan: list[str]) -> list[str]:
        """Return nothing: every plan is fine."""
        return []

    def row_names(self) -> list[str]:
        """Return the only budget."""
        return ["items"]

    def cover_names(self) -> list[str]:
        """Return nothing."""
        return []

    def describe(self) -> str:
        """Return one line."""
        return f"{len(self.config.items)} items"


def build(config: ToyConfig, folder: Path, *, allow_outside: bool = False) -> ToyInstance:
    """Return the instance; complain about files in two ways."""
    if config.file == "outside" and not allow_outside:
        raise InputError("file: 'outside' leaves the folder")
    if config.file == "broken":
        raise InputError("table.csv line 3: not a number")
    return ToyInstance(config, folder)


QUESTION = Question(name="toy", config=ToyConfig, build=build)
