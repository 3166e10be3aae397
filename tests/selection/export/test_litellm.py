"""The exported files under LiteLLM's own loader and router: mock answers, no network."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from moe2opt.result import InputError
from moe2opt.selection.export.litellm_router import gate_router

from .conftest import STRICT, Served

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
litellm = pytest.importorskip("litellm", reason="needs the extra `serve`")
pytestmark = [
    pytest.mark.slow,
    # What LiteLLM leaves open is its own.
    pytest.mark.filterwarnings("ignore"),
]

Serve = Callable[..., Served]


@pytest.fixture(autouse=True)
def callbacks() -> Iterator[None]:
    """Leave LiteLLM without callbacks of ours."""
    before = list(litellm.callbacks)
    yield
    litellm.callbacks = before


def proxy_of(served: Served) -> dict[str, Any]:
    """Return the exported configuration; every deployment says its own name, without a network."""
    content = YAML(typ="safe").load((served.folder / "litellm.yaml").read_text())
    for model in content["model_list"]:
        model["litellm_params"]["mock_response"] = model["model_info"]["id"]
    return dict(content)


def router_of(content: dict[str, Any]) -> Any:
    """Return LiteLLM's router for an exported configuration."""
    return litellm.Router(model_list=content["model_list"], **content["router_settings"])


def asked(text: str, category: str | None = None) -> dict[str, Any]:
    """Return the arguments of a request."""
    metadata = {} if category is None else {"category": category}
    return {
        "model": "moe2",
        "messages": [{"role": "user", "content": text}],
        "metadata": metadata,
    }


def said(response: Any) -> str:
    """Return the text of an answer."""
    return str(response.choices[0].message.content)


def encoder(served: Served) -> Callable[[str], Any]:
    """Return an encoder of prompts that are called by their row."""
    vectors = served.instance.outcomes.vectors
    return lambda text: vectors[int(text)] if text.isdigit() else vectors[0]


def test_router_follows_the_gate(serve: Serve) -> None:
    """Through LiteLLM's router each test prompt is answered by the expert of the evaluation."""
    served = serve(*STRICT)
    callback = gate_router(served.folder, embed=encoder(served))
    litellm.callbacks = [callback]
    router, outcomes = router_of(proxy_of(served)), served.instance.outcomes
    prompts = served.instance.split.members("test")[:25]

    async def run() -> list[str]:
        category = outcomes.category
        calls = [router.acompletion(**asked(str(p), str(category[p]))) for p in prompts]
        return [said(response) for response in await asyncio.gather(*calls)]

    wanted = [
        callback.dispatcher.best(outcomes.vectors[p], str(outcomes.category[p])) for p in prompts
    ]
    assert asyncio.run(run()) == wanted
    assert len(set(wanted)) > 1


def test_failing_expert_is_masked(serve: Serve) -> None:
    """When the best expert fails, the request is answered by the next best."""
    served = serve()
    callback = gate_router(served.folder)
    litellm.callbacks = [callback]
    content = proxy_of(served)
    best = callback.dispatcher.best(None, "code")
    for model in content["model_list"]:
        if model["model_info"]["id"] == best:
            model["litellm_params"]["mock_response"] = "litellm.RateLimitError"
    router = router_of(content)
    answer = said(asyncio.run(router.acompletion(**asked("any", "code"))))
    others = set(callback.dispatcher.names) - {best}
    assert answer == callback.dispatcher.best(None, "code", others)


def test_sync_calls_are_routed_when_installed(serve: Serve) -> None:
    """`install` makes the calls of a program without asyncio follow the gate too."""
    served = serve()
    callback = gate_router(served.folder, categorise=lambda text: text)
    router = router_of(proxy_of(served))
    callback.install(router)
    for category in ("code", "prose", "sums"):
        wanted = callback.dispatcher.best(None, category)
        assert {said(router.completion(**asked(category))) for _ in range(6)} == {wanted}
    assert said(asyncio.run(router.acompletion(**asked("prose")))) == callback.dispatcher.best(
        None, "prose"
    )


def test_other_models_are_left_alone(serve: Serve) -> None:
    """Deployments that the plan does not know are balanced by LiteLLM as before."""
    served = serve()
    litellm.callbacks = [gate_router(served.folder)]
    content = proxy_of(served)
    for name in ("a", "b"):
        content["model_list"].append(
            {
                "model_name": "other",
                "litellm_params": {
                    "model": f"openai/{name}",
                    "api_key": "none",
                    "mock_response": name,
                },
                "model_info": {"id": name},
            }
        )
    router = router_of(content)

    async def run() -> set[str]:
        request = {**asked("any"), "model": "other"}
        return {said(await router.acompletion(**request)) for _ in range(40)}

    assert asyncio.run(run()) == {"a", "b"}


def test_vectors_of_another_length_are_refused(serve: Serve) -> None:
    """An encoder that does not fit the gate fails when the proxy starts, not per request."""
    with pytest.raises(InputError, match="trained on vectors of length"):
        gate_router(serve().folder, embed=lambda text: np.zeros(3))


def test_proxy_loads_the_folder(serve: Serve) -> None:
    """LiteLLM's proxy reads the configuration, imports the router module and routes by it."""
    server = pytest.importorskip(
        "litellm.proxy.proxy_server",
        reason="needs LiteLLM's own extra `proxy`",
        exc_type=ImportError,
    )
    served = serve()
    path = str(served.folder / "litellm.yaml")
    config = server.ProxyConfig()
    router, models, _ = asyncio.run(config.load_config(router=None, config_file_path=path))
    assert [m["model_name"] for m in models] == ["moe2"] * len(served.result.plan.experts)
    (callback,) = [c for c in litellm.callbacks if type(c).__name__ == "GateRouter"]
    for deployment in router.model_list:
        name = deployment["model_info"]["id"]
        deployment["litellm_params"]["mock_response"] = name
    for category in ("code", "prose"):
        answer = said(asyncio.run(router.acompletion(**asked("any", category))))
        assert answer == callback.dispatcher.best(None, category)
