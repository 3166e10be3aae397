"""Configuration files: the typed union of all questions, scenarios, overrides, JSON Schema.

A question joins by one line in `moe2opt.questions`, or from another package by an entry point of
the group of that name; its own package says what its YAML sections are and how an instance is
built.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Protocol, Union, cast, runtime_checkable

from pydantic import Field, TypeAdapter, create_model

from moe2opt import library
from moe2opt.canonical import Instance, Plan, load_problem
from moe2opt.questions import QUESTIONS as QUESTIONS
from moe2opt.questions import Question as Question
from moe2opt.questions import known, question_names
from moe2opt.result import NUMERICAL_GAP, InputError
from moe2opt.schema import (
    Complaint,
    ConfigError,
    Document,
    Section,
    apply_overrides,
    complaint_about,
    parse_override,
    read_file,
    validate,
)
from moe2opt.schema.overrides import python_override
from moe2opt.schema.source import did_you_mean, quoted
from moe2opt.source import Source, source_of
from moe2opt.stored import Origin, origin_of, original_of


class SolverSection(Section):
    """How to solve; every value can be overruled on the command line or in the call of `solve`."""

    name: str = "auto"
    """Name of a solver, or `auto` to choose by the structure of the problem."""
    time_limit_s: float | None = Field(default=None, ge=0)
    """Stop after this many seconds; null for no limit."""
    rel_gap: float = Field(default=NUMERICAL_GAP, ge=0)
    """Stop once (bound - objective) / |objective| is at most this. Up to 1e-9, whole-numbered
    objectives are closed exactly; 0 closes all as far as floating point can tell."""
    seed: int = Field(default=0, ge=0)
    """Seed of everything random."""
    threads: int = Field(default=1, ge=1)
    """Threads of a solver that can use several."""
    node_limit: int | None = Field(default=None, ge=0)
    """Stop after this many nodes; null for no limit."""
    memory_limit_gib: float | None = Field(default=None, gt=0)
    """Stop when the process uses more memory than this (GiB); null for no limit."""
    bound: str = "auto"
    """Bound of the solver `brb`: `auto` or one of its names."""


ScenarioName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]


class FileKeys(Section):
    """Keys that every configuration file has besides those of its question."""

    schema_version: Literal[1]
    """Version of the file format."""
    description: str = ""
    """One line about the problem."""
    solver: SolverSection = SolverSection()
    """How to solve."""
    scenarios: dict[ScenarioName, dict[str, Any]] = Field(default_factory=dict)
    """Named overrides: dotted or nested keys and their values in that scenario."""


@runtime_checkable
class LoadedInstance(Instance[Plan], Protocol):
    """What `load` makes of a configuration: the question's own instance, which carries its file."""

    @property
    def source(self) -> Source:
        """File, scenario, overrides, effective data and solver section."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return what the instance of this question has besides."""


def load(
    path: str | Path,
    scenario: str | None = None,
    overrides: Mapping[str, Any] | Sequence[str] | None = None,
    *,
    allow_outside: bool = False,
) -> LoadedInstance:
    """Read a configuration or a canonical problem.

    Parameters
    ----------
    path
        A YAML configuration, a problem written by `moe2opt.save_problem` (.json, .npz), or the
        name of a built-in problem.
    scenario
        Name of a scenario of the file.
    overrides
        Values by dotted key, or texts ``key=value`` as for ``--set``.
    allow_outside
        Whether paths in the file may leave its folder.

    Returns
    -------
    LoadedInstance or Problem
        The question's own instance for a configuration, with the file as its attribute ``source``;
        the canonical problem for a problem file. A type checker is told the former;
        `moe2opt.load_problem` has the type of the latter.

    Raises
    ------
    InputError
        With every fault of the file and its place.
    """
    file = library.find(path)
    if file.suffix in (".json", ".npz"):
        if scenario is not None or overrides:
            raise InputError(f"{file}: a problem file has no scenarios and takes no overrides")
        return cast("LoadedInstance", load_problem(file))
    document, origin = read_file(file), origin_of(file)
    applied = scenario, _texts(overrides)
    if origin is not None and applied in ((None, ()), origin.applied):
        if found := _original(file, document, origin, allow_outside):
            return found
        applied, scenario, overrides = origin.applied, None, None
    question, model = _question(document)
    variants = _variants(document, model)
    document = _pick(variants, scenario)
    for override in _documents(overrides):
        document = apply_overrides(document, override)
    parsed = validate(document, model)
    instance = _build(question, parsed, document, file, allow_outside)
    named = instance.name if applied[0] is None else f"{instance.name}-{applied[0]}"
    effective = {key: value for key, value in document.data.items() if key != "scenarios"}
    source = Source(named, question.name, parsed.solver, file, *applied, effective)
    # Instances are frozen for everybody else.
    object.__setattr__(instance, "source", source)
    return cast("LoadedInstance", instance)


def _original(
    file: Path, document: Document, origin: Origin, allow_outside: bool
) -> LoadedInstance | None:
    """Return the original of an effective configuration, while it still gives the same one.

    Its paths lead where they led, and a file from elsewhere reaches nothing new.
    """
    original = original_of(file, origin)
    if original is None or origin_of(original) is not None:
        return None
    with suppress(InputError):
        found = load(original, *origin.applied, allow_outside=allow_outside)
        source = source_of(found)
        if source is not None and source.effective == document.data:
            return found
    return None


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of configuration files, all questions included."""
    models = tuple(_model(name) for name in question_names())
    union: Any = models[0]
    if len(models) > 1:
        union = Annotated[Union[models], Field(discriminator="problem")]  # noqa: UP007
    schema = TypeAdapter(union).json_schema()
    draft = "https://json-schema.org/draft/2020-12/schema"
    return {"$schema": draft, **schema, "title": "moe2opt configuration"}


def scenario_names(path: str | Path) -> tuple[str, ...]:
    """Return the names of a file's scenarios; raise `ConfigError` if it is no configuration."""
    file = library.find(path)
    if file.suffix in (".json", ".npz"):
        return ()
    document = read_file(file)
    _question(document)
    scenarios = document.data.get("scenarios")
    return tuple(scenarios) if isinstance(scenarios, dict) else ()


@cache
def _model(name: str) -> type[FileKeys]:
    """Return the class of whole files of a question: its own sections and the common keys."""
    sections = known(name).config
    model: type[FileKeys] = create_model(
        f"{name.title()}File", __base__=(FileKeys, sections), __doc__=sections.__doc__
    )
    return model


def _question(document: Document) -> tuple[Question, type[FileKeys]]:
    """Return the question that the file asks, by its key `problem`."""
    data = document.data
    if not isinstance(data, dict):
        message = f"expected a section (key: value lines), got {quoted(data)}"
        raise ConfigError([*document.complaints, Complaint(document.mark(()), (), message)])
    name = data.get("problem")
    names = list(QUESTIONS) if name in tuple(QUESTIONS) else question_names()
    if isinstance(name, str) and name in names:
        return known(name), _model(name)
    expected = " or ".join(f"'{known}'" for known in names)
    hint = did_you_mean(name, names) if isinstance(name, str) else ""
    message = f"expected {expected}, got {quoted(name)}{hint}"
    if "problem" not in data:
        message = f"required key is missing ({expected})"
    mark = document.mark(("problem",))
    raise ConfigError([*document.complaints, Complaint(mark, ("problem",), message)])


def _variants(document: Document, model: type[FileKeys]) -> dict[str | None, Document]:
    """Validate the file and each of its scenarios, so that no typo waits for its day."""
    scenarios = document.data.get("scenarios")
    names = list(scenarios) if isinstance(scenarios, dict) else []
    variants: dict[str | None, Document] = {None: document}
    for name in names:
        variants[name] = apply_overrides(document, document.part(("scenarios", name)))
    complaints = [c for variant in variants.values() for c in _complaints(variant, model)]
    if complaints:
        raise ConfigError(complaints)
    return variants


def _complaints(document: Document, model: type[FileKeys]) -> tuple[Complaint, ...]:
    try:
        validate(document, model)
    except ConfigError as error:
        return error.complaints
    return ()


def _pick(variants: dict[str | None, Document], scenario: str | None) -> Document:
    if scenario in variants:
        return variants[scenario]
    names = [name for name in variants if name is not None]
    file = variants[None].mark(()).source.name
    hint = did_you_mean(str(scenario), names)
    listed = ", ".join(names) or "none"
    raise InputError(f"{file}: no scenario '{scenario}' (scenarios: {listed}){hint}")


def _documents(overrides: Mapping[str, Any] | Sequence[str] | None) -> list[Document]:
    if isinstance(overrides, Mapping):
        return [python_override(key, value) for key, value in overrides.items()]
    documents: list[Document] = []
    complaints: list[Complaint] = []
    for text in overrides or ():
        try:
            documents.append(parse_override(text))
        except ConfigError as error:
            complaints += error.complaints
    if complaints:
        raise ConfigError(complaints)
    return documents


def _texts(overrides: Mapping[str, Any] | Sequence[str] | None) -> tuple[str, ...]:
    """Return overrides as texts that `parse_override` reads back."""
    given = () if overrides is None else overrides
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise InputError(f"overrides: expected a list of texts or a dictionary, got {overrides!r}")
    for text in given:
        if not isinstance(text, str):
            raise InputError(f"overrides: {text!r} is no text")
    if isinstance(overrides, Mapping):
        documents = [python_override(key, value) for key, value in overrides.items()]
        pairs = [pair for document in documents for pair in document.data.items()]
        return tuple(f"{key}={json.dumps(value)}" for key, value in pairs)
    return tuple(overrides or ())


def _build(
    question: Question, parsed: FileKeys, document: Document, file: Path, allow_outside: bool
) -> Instance:
    """Build the instance; a complaint that names a key gets its place, others the file's name."""
    try:
        own, folder = _own_sections(question.config, parsed), file.resolve().parent
        instance: Instance = question.build(own, folder, allow_outside=allow_outside)
        return instance
    except InputError as error:
        complaint = complaint_about(document, str(error))
        if not complaint.path:
            raise InputError(f"{file}: {error}") from error
        raise ConfigError([complaint]) from error


def _own_sections(model: type[Section], parsed: FileKeys) -> Section:
    """Return the part of a file that its question declared, as the question's own class."""
    written = parsed.model_fields_set & set(model.model_fields)
    keys = {name: model.model_fields[name].alias or name for name in written}
    return model.model_validate({key: getattr(parsed, name) for name, key in keys.items()})
