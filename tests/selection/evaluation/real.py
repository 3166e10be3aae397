"""Outcome folders made from the third-party data beside the checkout."""

from __future__ import annotations

from importlib import util
from pathlib import Path

#: Deployment of a real outcome folder without any budget that binds.
FREE = """\
schema_version: 1
problem: selection
name: real
experts: {{outcomes: outcomes, max_params_b: 14{more}}}
precisions: [{{name: fp16}}]
servers:
  - {{name: box, device: Jetson AGX Orin 64GB, count: 16, uplink_mbps: 100, downlink_mbps: 100}}
gate: {{backend: {backend}}}
splits: {{seed: {seed}}}
"""


def mmlu_pro(data: Path, folder: Path) -> Path:
    """Link the MMLU-Pro outcomes into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (data / "routing" / "mmlu_pro").iterdir():
        (folder / path.name).symlink_to(path)
    return folder


def routerdc(data: Path, folder: Path) -> Path:
    """Write the outcomes of the seven specialists as docs/background/evaluation.md says."""
    path = Path(__file__).resolve().parents[3] / "docs" / "studies" / "specialist_outcomes.py"
    spec = util.spec_from_file_location("specialist_outcomes", path)
    assert spec is not None
    assert spec.loader is not None
    script = util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return Path(script.write(data / "routing" / "routerdc" / "split2_model7.parquet", folder))
