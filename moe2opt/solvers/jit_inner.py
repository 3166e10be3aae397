"""Inner kernels without machine code of their own.

numba turns every function that it compiles into machine code, also one that only other kernels
call, which take it over in LLVM's language, optimise and translate it again. A library that leaves
its own translation out saves a sixth of the time of compilation. Pipelines are numba's interface
for that (``pipeline_class``); the library's hooks are not public, so that other versions of numba
than those tried compile in the ordinary way.
"""

from __future__ import annotations

from typing import Any

import numba
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import AnalysisPass, register_pass
from numba.core.typed_passes import NativeLowering

#: The versions of numba whose libraries were tried: from, and before.
_TRIED = (0, 61), (0, 69)


def settings() -> dict[str, Any]:
    """Return what `numba.njit` needs to leave out machine code; nothing where that is not known."""
    release = tuple(int(part) for part in numba.__version__.split(".")[:2] if part.isdigit())
    return {"pipeline_class": _Pipeline} if _TRIED[0] <= release < _TRIED[1] else {}


class _Library(JITCodeLibrary):
    """Code that others link, in LLVM's language only."""

    def _optimize_final_module(self) -> None:
        """Leave it to the kernels that link this library."""

    def _finalize_final_module(self) -> None:
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return the null pointer: there is no machine code to point to."""
        self._ensure_finalized()
        return 0

    @property
    def codegen(self) -> Any:
        """The code generator, which must not look for this library's code either."""
        return _WithoutEnvironment(self._codegen)


class _WithoutEnvironment:
    """A code generator that leaves alone environments, which belong to machine code."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, env_name: str, env: Any) -> None:
        """Do nothing."""


@register_pass(mutates_CFG=False, analysis_only=True)
class _PrepareLibrary(AnalysisPass):
    """Provides the library before lowering would create an ordinary one."""

    _name = "prepare_library"

    def __init__(self) -> None:
        super().__init__()

    def run_pass(self, state: Any) -> bool:
        state.library = _Library(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return False


class _Pipeline(CompilerBase):
    """numba's own pipeline with another library."""

    def define_pipelines(self) -> list[Any]:
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        place = [one for one, _ in passes.passes].index(NativeLowering)
        passes.passes.insert(place, (_PrepareLibrary, "provide a library without machine code"))
        passes.finalize()
        return [passes]
