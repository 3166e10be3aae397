"""The files of a LiteLLM deployment: proxy configuration, launch scripts, router module."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from moe2opt.result import InputError
from moe2opt.selection.export.dispatch import GATE, TABLE
from moe2opt.selection.export.routing_table import RoutingTable
from moe2opt.selection.outcome_files import with_hint
from moe2opt.selection.serving_section import Serving

if TYPE_CHECKING:
    from moe2opt.selection.instance import SelectionInstance

PROXY, ROUTER = "litellm.yaml", "moe2opt_router.py"

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
            *("--host", "0.0.0.0", "--port", str(self.port)),
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
        When the ports of a host run out.
    """
    made: list[Deployment] = []
    for expert in experts:
        llm, precision, server = (str(expert[key]) for key in ("llm", "precision", "server"))
        host = serving.hosts.get(server, f"HOST-OF-{plain(server)}")
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
        name = _unused(plain(f"{llm}-{precision}-{server}"), made)
        path = str(PurePosixPath(serving.model_folder) / file)
        made.append(Deployment(name, llm, precision, server, host, port, path, tuple(missing)))
    return tuple(made)


def plain(text: str) -> str:
    """Return a text as letters, digits, dots, dashes and underscores."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-") or "x"


def _unused(name: str, made: Sequence[Deployment]) -> str:
    taken = {deployment.name for deployment in made}
    number = 2
    while (free := name if name not in taken else f"{name}-{number}") in taken:
        number += 1
    return free


def check_serving(serving: Serving, instance: SelectionInstance) -> None:
    """Check the names that a serving section uses.

    Raises
    ------
    InputError
        For a server, LLM or precision that the instance does not have, or no host name.
    """
    servers = [host.name for host in instance.hosts]
    llms = sorted({expert.llm for expert in instance.experts})
    precisions = sorted({expert.precision for expert in instance.experts})
    named = [("hosts", name, servers) for name in serving.hosts]
    named += [("model_files", name, llms) for name in serving.model_files]
    for llm, files in serving.model_files.items():
        named += [(f"model_files.{llm}", name, precisions) for name in files]
    for key, name, known in named:
        if name not in known:
            raise InputError(f"serving.{key}: unknown name '{name}'{with_hint(name, known)}")
    for server, host in serving.hosts.items():
        if not re.fullmatch(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]", host):
            raise InputError(f"serving.hosts.{server}: '{host}' is no host name or address")


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
    servers = dict.fromkeys(deployment.server for deployment in placed)
    scripts = {f"serve-{plain(server)}.sh": _script(server, placed, serving) for server in servers}
    return {
        PROXY: _proxy(table, placed, serving),
        ROUTER: _router(table, gated=gated),
        TABLE: json.dumps(table.to_dict(), indent=1, allow_nan=False) + "\n",
        **scripts,
    }


def _proxy(table: RoutingTable, placed: Sequence[Deployment], serving: Serving) -> str:
    lines = [
        f"# LiteLLM proxy of the selection {json.dumps(table.instance)}, from `moe2opt export`.",
        "# Start it here, where the router module is (the variable keeps it off the network):",
        "#   LITELLM_LOCAL_MODEL_COST_MAP=True litellm --config litellm.yaml",
        "model_list:",
    ]
    for own in placed:
        mark = f"  {_MARK}set serving.hosts" if own.host.startswith("HOST-OF-") else ""
        lines += [
            f"  - model_name: {json.dumps(serving.group)}",
            "    litellm_params:",
            f"      model: {json.dumps(f'openai/{own.name}')}",
            f"      api_base: {json.dumps(own.api_base)}{mark}",
            '      api_key: "none"',
            "    model_info:",
            f"      id: {json.dumps(own.name)}",
            *(f"      {key}: {json.dumps(getattr(own, key))}" for key in _ABOUT),
        ]
    module = ROUTER.removesuffix(".py")
    return "\n".join(
        [
            *lines,
            "litellm_settings:",
            f'  callbacks: ["{module}.router"]',
            "router_settings:",
            "  routing_strategy: simple-shuffle  # the router leaves one deployment to choose from",
            "  num_retries: 2  # an expert that fails cools down; the next best answers",
            "",
        ]
    )


_ABOUT = ("llm", "precision", "server")


def _script(server: str, placed: Sequence[Deployment], serving: Serving) -> str:
    lines = [
        "#!/bin/sh",
        f"# Starts the experts of server {json.dumps(server)}, from `moe2opt export`.",
        "set -e",
    ]
    for own in placed:
        if own.server == server:
            lines += [f"{_MARK}{what}" for what in own.placeholders if "file" in what]
            about = f"# {json.dumps(own.llm)} at {json.dumps(own.precision)}"
            lines += [about, f"{shlex.join(own.command(serving))} &"]
    return "\n".join([*lines, "wait", ""])


def _router(table: RoutingTable, *, gated: bool) -> str:
    return _ROUTER_TEXT.format(
        instance=plain(table.instance),
        mark=_MARK.strip(),
        gate=f"the gate in {GATE}/ and {TABLE}" if gated else f"{TABLE}, by category and price",
    )


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
