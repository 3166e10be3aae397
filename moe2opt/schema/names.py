"""Names and paths in configuration files, the same for every section."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from moe2opt.text import LONGEST_NAME, fault_of_name


def _checked(text: str) -> str:
    if fault := fault_of_name(text, longest=None):
        raise PydanticCustomError("name", "{fault}", {"fault": fault})
    return text


#: What people call a thing: one line, every character of which can be seen.
Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_checked)]

#: Where a file is: the same, and longer.
FileName = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(_checked)]
