"""The router class for LiteLLM: the trained gate picks among the deployments that are healthy.

LiteLLM asks every callback which deployments of a model may answer a request
(``CustomLogger.async_filter_deployments``), after it has taken out those that cool down. The class
here leaves one: the expert that the gate, masked to what is healthy, rates highest. LiteLLM is
imported when the class is first asked for.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from moe2opt.result import FloatArray, InputError
from moe2opt.selection.export.dispatch import Dispatcher, load_dispatcher

#: Turns the text of a prompt into its vector; None routes by category alone.
Embed = Callable[[str], Any]

#: Turns the text of a prompt into its category; None where it is unknown.
Categorise = Callable[[str], str | None]

_log = logging.getLogger(__name__)


def gate_router(
    folder: str | Path,
    *,
    embed: Embed | None = None,
    categorise: Categorise | None = None,
) -> Any:
    """Return a LiteLLM callback that routes as the exported plan says.

    Parameters
    ----------
    folder
        What ``moe2opt export --to litellm --out`` wrote.
    embed
        Text to vector, as in the outcome folder that the gate was trained on. None, or a None that
        it returns, routes by category and price.
    categorise
        Text to category, for requests whose ``metadata`` has no ``category``.

    Raises
    ------
    InputError
        When the folder is broken, or the vectors have another length than those of the training.
    ImportError
        When LiteLLM is not installed (extra ``serve``).
    """
    dispatcher = load_dispatcher(folder)
    if embed is not None:
        _check_length(dispatcher, embed("Which of these is a planet?"))
    return router_class()(dispatcher, embed, categorise)


@cache
def router_class() -> Any:
    """Return the class of the callbacks; LiteLLM is imported here."""
    from litellm.integrations.custom_logger import CustomLogger

    base: Any = CustomLogger

    class GateRouter(base):  # type: ignore[misc]
        """Leaves one deployment per request: the one that the gate rates highest."""

        def __init__(
            self, dispatcher: Dispatcher, embed: Embed | None, categorise: Categorise | None
        ) -> None:
            super().__init__()
            self.dispatcher, self.embed, self.categorise = dispatcher, embed, categorise

        async def async_filter_deployments(
            self,
            model: str,
            healthy_deployments: list[Any],
            messages: list[Any] | None,
            request_kwargs: dict[str, Any] | None = None,
            parent_otel_span: Any = None,
        ) -> list[Any]:
            """Return the deployment of the best healthy expert, alone.

            Deployments of other models, and requests that name one, are left as they are.
            """
            own = {name_of(d): d for d in healthy_deployments}
            able = set(own) & set(self.dispatcher.names)
            if len(own) < 2 or not able:
                return healthy_deployments
            best = choose(
                self.dispatcher, able, messages, request_kwargs, self.embed, self.categorise
            )
            return healthy_deployments if best is None else [own[best]]

        def install(self, router: Any) -> None:
            """Make a LiteLLM ``Router`` of a Python program use this, in its sync calls too.

            LiteLLM's sync calls ask no callback, so they are sent through the async way.
            """
            import litellm

            litellm.logging_callback_manager.add_litellm_callback(self)
            router.set_custom_routing_strategy(_both_ways(router))

    return GateRouter


def choose(
    dispatcher: Dispatcher,
    able: set[str],
    messages: Sequence[Any] | None,
    request: Mapping[str, Any] | None,
    embed: Embed | None = None,
    categorise: Categorise | None = None,
) -> str | None:
    """Return the expert for a request: its last user message, its category, who is able.

    A fault in `embed` or `categorise` is logged and costs the request its vector or category, not
    its answer.
    """
    text = prompt_of(messages)
    category = category_of(request)
    if category is None and categorise is not None:
        category = _safely(categorise, text)
    vector: FloatArray | None = None
    if embed is not None and dispatcher.gate is not None:
        vector = _safely(lambda words: _checked(dispatcher, embed(words)), text)
    return dispatcher.best(vector, category, able)


def name_of(deployment: Mapping[str, Any]) -> str:
    """Return the name of a deployment: its id, as the exported configuration gives it."""
    return str((deployment.get("model_info") or {}).get("id", ""))


def category_of(request: Mapping[str, Any] | None) -> str | None:
    """Return ``metadata.category`` of a request, None without one."""
    for key in ("metadata", "litellm_metadata"):
        found = ((request or {}).get(key) or {}).get("category")
        if isinstance(found, str):
            return found
    return None


def prompt_of(messages: Sequence[Any] | None) -> str:
    """Return the text of the last user message; empty without one."""
    for message in reversed(messages or ()):
        if message.get("role") == "user":
            content = message.get("content") or ""
            parts = [content] if isinstance(content, str) else [p.get("text", "") for p in content]
            return "\n".join(filter(None, parts))
    return ""


def _checked(dispatcher: Dispatcher, vector: Any) -> FloatArray | None:
    if vector is None:
        return None
    _check_length(dispatcher, vector)
    return np.asarray(vector, dtype=np.float64)


def _check_length(dispatcher: Dispatcher, vector: Any) -> None:
    """Raise unless the vector is one that the gate can read."""
    if vector is None or dispatcher.dimensions is None:
        return
    array = np.asarray(vector, dtype=np.float64)
    if array.shape != (dispatcher.dimensions,) or not np.isfinite(array).all():
        raise InputError(
            f"embed: shape {array.shape}; the gate was trained on vectors of length "
            f"{dispatcher.dimensions}"
        )


def _safely(function: Callable[[str], Any], text: str) -> Any:
    try:
        return function(text)
    except Exception:
        _log.warning("routing without what %s would tell", function, exc_info=True)
        return None


def _both_ways(router: Any) -> Any:
    """Return a routing strategy whose sync half runs the router's own async half."""
    from litellm.types.router import CustomRoutingStrategyBase

    base: Any = CustomRoutingStrategyBase
    ask = router.async_get_available_deployment
    threads = ThreadPoolExecutor(max_workers=1)

    class Strategy(base):  # type: ignore[misc]
        async_get_available_deployment = staticmethod(ask)

        @staticmethod
        def get_available_deployment(model: str, **rest: Any) -> Any:
            rest["request_kwargs"] = rest.get("request_kwargs") or {}
            return threads.submit(asyncio.run, ask(model=model, **rest)).result()

    return Strategy()
