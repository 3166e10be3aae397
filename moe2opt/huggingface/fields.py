"""Fields of a header or a configuration: each may lack, and has a type and a range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from moe2opt.errors import InputError

Width = Annotated[int, Field(ge=0, le=2**26)] | None
Many = Annotated[int, Field(ge=0, le=2**17)] | None
LayerCount = Annotated[int, Field(ge=0, le=10_000)] | None


class Header(BaseModel):
    """Fields that are understood; others are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    @classmethod
    def of(cls, fields: Mapping[str, Any], name: str) -> Self:
        """Return the checked fields; raise `InputError` that names the file and the field."""
        try:
            return cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"][:1])) or "header"
            raise InputError(f"{name}: {where}: {first['msg']}") from error
