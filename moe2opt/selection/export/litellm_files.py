"""The files of a LiteLLM deployment: proxy configuration, launch scripts, router module."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from moe2opt.result import InputError
from moe2opt.selection.case import Case
from moe2opt.selection.export.dispatch import GATE, TABLE
from moe2opt.selection.export.routing_table import RoutingTable
from moe2opt.selection.outcomes.files import with_hint
from moe2opt.selection.sections import Serving
from moe2opt.selection.sections.config import API
from moe2opt.text import fault_of_name, shown

PROXY, ROUTER, START = "litellm.yaml", "moe2opt_router.py", "proxy.sh"

#: Variables with the key that the proxy sends to the servers, and the key of its own clients.
KEY, MASTER_KEY = "MOE2OPT_API_KEY", "LITELLM_MASTER_KEY"

#: Texts that start like this stand for a variable of the environment in LiteLLM's files.
_VARIABLE = "os.environ/"

#: Characters of a name that becomes part of the name of a file.
_LONGEST = 120

_LOOPBACK = "127.0.0.1"

_MARK = "# PLACEHOLDER: "


@dataclass(frozen=True, slots=True)
class Deployment:
    """One expert behind the proxy.

    Attributes
    ----------
    name
        Its name towards the proxy, and the alias that its server knows.
    llm, precision, server
        What is deployed where.
    host, port
        Where the proxy reaches it.
    listen
        Address that its server listens on.
    file
        Weight file on the server.
    placeholders
        What the operator has still to fill in, in words.
    """

    name: str
    llm: str
    precision: str
    server: str
    host: str
    port: int
    listen: str
    file: str
    placeholders: tuple[str, ...]

    @property
    def api_base(self) -> str:
        """Address of its OpenAI-compatible interface."""
        return f"http://{self.host}:{self.port}/v1"

    def command(self, serving: Serving) -> list[str]:
        """Return the words that start its ``llama-server``."""
        return [
            *("llama-server", "--model", self.file, "--alias", self.name),
            *("--ctx-size", str(serving.context_tokens), "--parallel", "1"),
            *("--n-gpu-layers", str(serving.gpu_layers)),
            *("--host", self.listen.strip("[]"), "--port", str(self.port)),
        ]


def deployments(
    experts: Sequence[Mapping[str, Any]], serving: Serving, formats: Mapping[str, str]
) -> tuple[Deployment, ...]:
    """Return where each deployed expert runs.

    Parameters
    ----------
    experts
        Mappings with ``llm``, ``precision`` and ``server``, such as a stored plan's experts.
    serving
        Hosts, ports and files.
    formats
        Name of the weight format of each precision, such as ``Q4_K_M``.

    Raises
    ------
    InputError
        When the ports of a host run out, or a name is none.
    """
    made: list[Deployment] = []
    for k, expert in enumerate(experts):
        llm, precision, server = (
            _named(f"plan.experts.{k}.{key}", expert[key]) for key in ("llm", "precision", "server")
        )
        if precision == API:
            raise InputError(
                f"plan.experts.{k}: {llm} is behind the API {server}: nothing is started for it; "
                "write its entry of the proxy by hand"
            )
        host = serving.hosts.get(server, f"HOST-OF-{plain(server)}")
        listen = serving.listen or serving.hosts.get(server, _LOOPBACK)
        port = serving.first_port + sum(other.host == host for other in made)
        if port > 65535:
            raise InputError(f"serving.first_port: no port left on {host}")
        missing = []
        if server not in serving.hosts:
            missing.append(f"host name of server '{server}' (serving.hosts)")
        file = serving.model_files.get(llm, {}).get(precision)
        if file is None:
            file = f"{plain(llm)}-{formats.get(precision, plain(precision))}.gguf"
            missing.append(f"weight file of {llm} at {precision} (serving.model_files)")
        name = _free(plain(f"{llm}-{precision}-{server}"), [own.name for own in made])
        path = str(PurePosixPath(serving.model_folder) / file)
        made.append(
            Deployment(name, llm, precision, server, host, port, listen, path, tuple(missing))
        )
    return tuple(made)


def _named(where: str, value: object) -> str:
    """Return a name that may stand in generated files; they are quoted all the same."""
    fault = fault_of_name(value) if isinstance(value, str) else f"{value!r:.40} is no name"
    if fault is None and str(value).startswith(_VARIABLE):
        fault = f"LiteLLM would read what starts with {_VARIABLE} as a variable"
    if fault is not None:
        raise InputError(f"{where}: {fault}")
    return str(value)


def plain(text: str) -> str:
    """Return a text as at most `_LONGEST` letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-")[:_LONGEST] or "x"


def _free(name: str, taken: Sequence[str]) -> str:
    """Return the name, with a number where it is taken."""
    number = 2
    while (free := name if name not in taken else f"{name}-{number}") in taken:
        number += 1
    return free


def check_serving(serving: Serving, case: Case) -> None:
    """Check the names that a serving section uses.

    Raises
    ------
    InputError
        For a server, LLM or precision that the instance does not have, or no host name.
    """
    servers = [host.name for host in case.hosts]
    llms = sorted({expert.llm for expert in case.experts})
    precisions = sorted({expert.precision for expert in case.experts})
    named = [("hosts", name, servers) for name in serving.hosts]
    named += [("model_files", name, llms) for name in serving.model_files]
    for llm, files in serving.model_files.items():
        named += [(f"model_files.{llm}", name, precisions) for name in files]
    for key, name, known in named:
        if name not in known:
            raise InputError(f"serving.{key}: unknown name '{name}'{with_hint(name, known)}")
    addresses = [(f"hosts.{server}", host) for server, host in serving.hosts.items()]
    for key, host in [*addresses, ("listen", serving.listen or _LOOPBACK)]:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]", host):
            raise InputError(f"serving.{key}: '{host}' is no host name or address")


def litellm_files(
    table: RoutingTable, placed: Sequence[Deployment], serving: Serving, *, gated: bool
) -> dict[str, str]:
    """Return the text of each file by its name.

    Parameters
    ----------
    table
        What the router reads.
    placed
        Where the experts run, in the order of the table.
    serving
        Group, context and layers.
    gated
        Whether a gate is beside the files.
    """
    scripts: dict[str, str] = {}
    for server in dict.fromkeys(deployment.server for deployment in placed):
        name = _free(f"serve-{plain(server)}", [file.removesuffix(".sh") for file in scripts])
        scripts[f"{name}.sh"] = _script(server, placed, serving)
    _named("serving.group", serving.group)
    return {
        PROXY: _proxy(table, placed, serving),
        ROUTER: _router(table, gated=gated),
        TABLE: json.dumps(table.to_dict(), indent=1, allow_nan=False) + "\n",
        START: _START_TEXT,
        **scripts,
    }


def _proxy(table: RoutingTable, placed: Sequence[Deployment], serving: Serving) -> str:
    lines = [
        f"# LiteLLM proxy of the selection {_text(table.instance)}, from `moe2opt export`.",
        f"# Start it with {START}, which asks for both keys and listens on {_LOOPBACK}.",
        "model_list:",
    ]
    for own in placed:
        mark = f"  {_MARK}set serving.hosts" if own.host.startswith("HOST-OF-") else ""
        lines += [
            f"  - model_name: {_text(serving.group)}",
            "    litellm_params:",
            f"      model: {_text(f'openai/{own.name}')}",
            f"      api_base: {_text(own.api_base)}{mark}",
            f"      api_key: {_text(_VARIABLE + KEY)}",
            "    model_info:",
            f"      id: {_text(own.name)}",
            *(f"      {key}: {_text(getattr(own, key))}" for key in _ABOUT),
        ]
    module = ROUTER.removesuffix(".py")
    return "\n".join(
        [
            *lines,
            "general_settings:",
            f"  master_key: {_text(_VARIABLE + MASTER_KEY)}",
            "litellm_settings:",
            f'  callbacks: ["{module}.router"]',
            "router_settings:",
            "  routing_strategy: simple-shuffle  # the router leaves one deployment to choose from",
            "  num_retries: 2  # an expert that fails cools down; the next best answers",
            "",
        ]
    )


_ABOUT = ("llm", "precision", "server")


def _text(text: str) -> str:
    """Return a text in double quotes, as JSON and YAML read it and no comment is ended by it."""
    return json.dumps(shown(text), ensure_ascii=False)


def _script(server: str, placed: Sequence[Deployment], serving: Serving) -> str:
    lines = [
        "#!/bin/sh",
        f"# Starts the experts of server {_text(server)}, from `moe2opt export`.",
        "set -e",
        f': "${{{KEY}:?must hold the key that the proxy sends}}"',
        f'export LLAMA_API_KEY="${KEY}"  # llama-server takes it from there',
    ]
    for own in placed:
        if own.server == server:
            lines += [f"{_MARK}{shown(what)}" for what in own.placeholders if "file" in what]
            about = f"# {_text(own.llm)} at {_text(own.precision)}"
            lines += [about, f"{shlex.join(own.command(serving))} &"]
    return "\n".join([*lines, "wait", ""])


def _router(table: RoutingTable, *, gated: bool) -> str:
    return _ROUTER_TEXT.format(
        instance=plain(table.instance),
        mark=_MARK.strip(),
        gate=f"the gate in {GATE}/ and {TABLE}" if gated else f"{TABLE}, by category and price",
    )


_START_TEXT = f"""\
#!/bin/sh
# Starts the proxy for this machine alone; --host ADDRESS opens it to others.
set -e
: "${{{KEY}:?must hold the key that the servers were started with}}"
: "${{{MASTER_KEY}:?must hold the key that clients send, such as sk-...}}"
export LITELLM_LOCAL_MODEL_COST_MAP=True  # keeps it from fetching a price list
cd "$(dirname "$0")"
exec litellm --config {PROXY} --host {_LOOPBACK} "$@"
"""

_ROUTER_TEXT = '''\
"""Routes the requests of {instance} with {gate}; named in litellm.yaml."""

from pathlib import Path

from moe2opt.selection.export.litellm_router import gate_router


def embed(text):
    {mark} return the vector of a prompt, made like those of the outcome folder.
    return None  # None routes by the category in `metadata`, or by what is best over all


def categorise(text):
    {mark} return the category of a prompt whose request has no `metadata.category`.
    return None  # None stands for all categories by their shares


router = gate_router(Path(__file__).parent, embed=embed, categorise=categorise)
'''
