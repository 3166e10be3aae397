"""The page in a real browser that has no network: it moves, it fits, it can be read."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moe2opt.pareto import Axis, Front, FrontPoint, Grid
from moe2opt.report import write_report
from moe2opt.result import Result

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::ResourceWarning")]

#: Seconds are not measured here; the page draws at once, the browser after a frame.
SETTLED = "return new Promise(done => requestAnimationFrame(() => setTimeout(done, 50)))"

PHONE = (360, 740)
DESK = (1200, 900)
SCHEMES = ("light", "dark")


def opened(browser: Any, path: Path, size: tuple[int, int] = DESK, scheme: str = "light") -> Any:
    """Open a page at a size and in a colour scheme, all its details unfolded."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size[0] < 600}
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    browser.get_log("browser")
    browser.get(path.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    browser.execute_script(SETTLED)
    return browser


@pytest.fixture(scope="module")
def page(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the page of `tiny` with its grid."""
    return write_report(tiny_folder, tmp_path_factory.mktemp("page") / "report.html")[1]


def move(browser: Any, slider: int, position: int) -> None:
    """Move a slider as a user does, by an input event."""
    browser.execute_script(
        "const s = document.getElementById('budget-' + arguments[0]);"
        "s.value = arguments[1]; s.dispatchEvent(new Event('input'));",
        slider,
        position,
    )


def text(browser: Any, name: str) -> str:
    """Return the text of an element."""
    return str(browser.execute_script(f"return document.getElementById('{name}').innerText"))


def rows(browser: Any, table: str) -> list[list[str]]:
    """Return the body of a table as texts."""
    found: list[list[str]] = browser.execute_script(
        f"return [...document.querySelectorAll('#{table} tbody tr')]"
        ".map(r => [...r.cells].map(c => c.innerText))"
    )
    return found


def test_explorer_shows_every_cell_of_the_grid(
    browser: Any, page: Path, grid_of_tiny: Grid
) -> None:
    """At each position of both sliders the page shows status, value and plan of that cell."""
    opened(browser, page)
    for i, j in itertools.product(*map(range, grid_of_tiny.shape)):
        move(browser, 0, i)
        move(browser, 1, j)
        cell, now = grid_of_tiny[i, j], text(browser, "now")
        plan = grid_of_tiny.plan_of(cell)
        if plan is None:
            assert now == "No plan exists for these budgets: certified."
            assert rows(browser, "explored") == []
            continue
        assert f" {cell.objective:.4g} " in now
        assert ("certified optimal" in now) == cell.certified
        used, limit = cell.used["energy_j_per_prompt"], cell.budgets[0]
        assert text(browser, "change").startswith(
            f"The plan uses {used:.4g} of {limit:.4g}: energy"
        )
        shown = [row[:3] for row in rows(browser, "explored")]
        assert shown == [[e["llm"], e["precision"], e["server"]] for e in plan["experts"]]


def test_curve_and_map_follow_the_sliders(browser: Any, page: Path, grid_of_tiny: Grid) -> None:
    """Moving the second budget changes the curve, its table and the marked cell of the map."""
    opened(browser, page)
    seen = []
    for j in range(grid_of_tiny.shape[1]):
        move(browser, 1, j)
        mark = browser.execute_script(
            "const r = document.querySelector('#budget-map .here');return r.getAttribute('y')"
        )
        seen.append((tuple(map(tuple, rows(browser, "curve-table"))), mark))
        column = [row[1] for row in rows(browser, "curve-table")]
        values = grid_of_tiny.objectives[:, j]
        assert column == ["-" if v == float("-inf") else f"{v:.4g}" for v in values]
    assert len(set(seen)) == len(seen)


def test_uncertified_cell_is_hollow(browser: Any, page: Path, grid_of_tiny: Grid) -> None:
    """The curve through the cell that is not certified has one hollow point; others have none."""
    opened(browser, page)
    hollow = []
    for j in range(grid_of_tiny.shape[1]):
        move(browser, 1, j)
        hollow.append(browser.execute_script(
            "return document.querySelectorAll('#curve .hollow').length"))  # fmt: skip
    assert hollow == [0, 0, 1]
    assert browser.execute_script("return document.querySelectorAll('.ring').length") == 1


def test_sliders_work_by_keyboard_and_speak(browser: Any, page: Path) -> None:
    """An arrow key moves a focused slider; its spoken value and the live sentence change."""
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    opened(browser, page)
    slider = browser.find_element(By.ID, "budget-0")
    before = (slider.get_attribute("aria-valuetext"), text(browser, "now"))
    slider.send_keys(Keys.ARROW_LEFT)
    after = (slider.get_attribute("aria-valuetext"), text(browser, "now"))
    assert before[0] == "80, energy (J per prompt)"
    assert after[0] == "60, energy (J per prompt)"
    assert before[1] != after[1]
    live = "return document.getElementById('now').getAttribute('aria-live')"
    assert browser.execute_script(live) == "polite"


def test_press_on_the_map_moves_the_sliders(browser: Any, page: Path) -> None:
    """A press on a cell of the map brings both sliders to its budgets."""
    from selenium.webdriver.common.by import By

    opened(browser, page)
    browser.find_element(By.CSS_SELECTOR, "[data-a='4'][data-b='0']").click()
    assert [text(browser, "value-0"), text(browser, "value-1")] == ["200", "2"]


def test_every_control_and_picture_has_a_name(browser: Any, page: Path) -> None:
    """In the tree that screen readers see, nothing that can be used or looked at lacks a name."""
    opened(browser, page)
    tree = browser.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"slider", "image", "img", "region", "button", "link", "table", "DisclosureTriangle"}
    nodes = [n for n in tree if not n["ignored"] and n["role"]["value"] in roles]
    used = {n["role"]["value"] for n in nodes}
    assert {"slider", "region", "link", "DisclosureTriangle"} <= used
    assert {"image", "img"} & used
    nameless = [n["role"]["value"] for n in nodes if not n.get("name", {}).get("value")]
    assert set(nameless) <= {"table"}
    headings = browser.execute_script(
        "return [...document.querySelectorAll('h1,h2,h3')].map(h => Number(h.tagName[1]))"
    )
    assert headings[0] == 1
    assert all(b <= a + 1 for a, b in itertools.pairwise(headings))


def test_nothing_is_logged_and_nothing_is_loaded(browser: Any, page: Path) -> None:
    """The page opens without a network: no error in the console, no other resource asked for."""
    opened(browser, page)
    move(browser, 0, 4)
    assert browser.get_log("browser") == []
    loaded = browser.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
        ".filter(n => !n.startsWith('data:'))"
    )
    assert loaded == []


@pytest.mark.parametrize("width", [320, 360, 768])
def test_narrow_screens_need_no_sideways_scrolling(browser: Any, page: Path, width: int) -> None:
    """At the width of a phone the page is no wider than the screen, before and after a move."""
    opened(browser, page, (width, 740))
    move(browser, 0, 4)
    browser.execute_script(SETTLED)
    wide = "return [document.documentElement.scrollWidth, document.documentElement.clientWidth]"
    content, screen = browser.execute_script(wide)
    assert content <= screen <= width


#: Contrast of every text with what lies behind it (WCAG 2.2, 1.4.3), and whether it is large.
CONTRAST = """
const channel = c => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const light = c => 0.2126 * channel(c[0]) + 0.7152 * channel(c[1]) + 0.0722 * channel(c[2]);
const parse = s => { const n = s.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
const behind = e => { for (let p = e; p; p = p.parentElement) {
  const c = parse(getComputedStyle(p).backgroundColor); if (c[3] > 0) return c; } return [255, 255, 255, 1]; };
const found = [];
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
for (let t = walk.nextNode(); t; t = walk.nextNode()) {
  const e = t.parentElement;
  if (!t.data.trim() || ['SCRIPT', 'STYLE', 'NOSCRIPT'].includes(e.tagName)) continue;
  if (!e.getClientRects().length) continue;
  const style = getComputedStyle(e), svg = e.namespaceURI.endsWith('svg');
  const ink = parse(svg ? style.fill : style.color), paper = behind(e);
  const [a, b] = [light(ink), light(paper)].sort((p, q) => q - p);
  const size = parseFloat(style.fontSize), bold = Number(style.fontWeight) >= 700;
  found.push([(a + 0.05) / (b + 0.05), size >= 24 || (bold && size >= 18.66), t.data.trim().slice(0, 40)]);
}
return found;
"""  # noqa: E501


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_has_contrast(browser: Any, page: Path, scheme: str) -> None:
    """Every text stands out from its background as WCAG AA asks, in both schemes."""
    opened(browser, page, DESK, scheme)
    found = browser.execute_script(CONTRAST)
    weak = [(round(ratio, 2), words) for ratio, large, words in found
            if ratio < (3.0 if large else 4.5)]  # fmt: skip
    assert len(found) > 100
    assert weak == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_curves_have_contrast(browser: Any, page: Path, scheme: str) -> None:
    """Curves, points and bars stand out from the card behind them by 3 to 1 (WCAG 1.4.11)."""
    opened(browser, page, DESK, scheme)
    script = (
        CONTRAST.split("const found")[0]
        + """
    const ink = (selector, key) => parse(getComputedStyle(document.querySelector(selector))[key]);
    const paper = behind(document.querySelector('#curve'));
    return [['path.s0', 'stroke'], ['.dot.s0', 'fill'], ['path.s1', 'stroke'], ['.used', 'fill']]
      .map(([s, k]) => { const [a, b] = [light(ink(s, k)), light(paper)].sort((p, q) => q - p);
        return (a + 0.05) / (b + 0.05); });
    """
    )
    assert min(browser.execute_script(script)) >= 3.0


def test_schemes_differ(browser: Any, page: Path) -> None:
    """The page has a light and a dark scheme, as the reader's system asks."""
    shade = "return getComputedStyle(document.body).backgroundColor"
    seen = {opened(browser, page, DESK, scheme).execute_script(shade) for scheme in SCHEMES}
    assert len(seen) == 2


def test_names_are_shown_and_not_run(browser: Any, copy_of_tiny: Path) -> None:
    """An instance and a server that are named like a script appear as text and run nothing."""
    evil = '<script>window.pwned=1</script><img src=x onerror="window.pwned=1">'
    for name in ("result.json", "grid.json", "config.yaml"):
        path = copy_of_tiny / name
        words = path.read_text(encoding="utf-8")
        quoted = evil.replace('"', '\\"')
        words = words.replace('"slow"', f'"{quoted}"').replace('"tiny"', f'"{quoted}"')
        path.write_text(words, encoding="utf-8")
    path = write_report(copy_of_tiny)[1]
    opened(browser, path)
    move(browser, 0, 4)
    assert text(browser, "explored").count(evil) >= 1
    assert browser.execute_script("return document.querySelector('h1').innerText") == evil
    assert browser.execute_script("return window.pwned === undefined")
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0


def test_folder_without_a_grid_says_how_to_get_one(browser: Any, copy_of_tiny: Path) -> None:
    """Without a grid there is no slider but the command that adds one."""
    (copy_of_tiny / "grid.json").unlink()
    report, path = write_report(copy_of_tiny)
    opened(browser, path)
    assert not report.explorer
    assert "moe2opt report DIR --grid" in text(browser, "no-explorer")
    assert browser.execute_script("return document.querySelectorAll('input').length") == 0
    assert browser.get_log("browser") == []


def with_replay(folder: Path) -> None:
    """Write a replay of two policies."""
    sums = {"latency_mean_s": 0.5, "latency_p95_s": 0.9, "regret": 0.25, "replans": 3}
    trace = {"name": "walk", "source": "drawn", "synthetic": True, "steps": 3}
    summary = {"instance": "mobile", "trace": trace, "policies": {"static": sums, "lru": sums}}
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    for policy, latencies in (("static", [0.5, 90.0, 0.7]), ("lru", [0.5, None, 0.6])):
        lines = [json.dumps({"t_s": k, "latency_s": v}) for k, v in enumerate(latencies)]
        (folder / f"steps_{policy}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def with_front(folder: Path) -> None:
    """Write a front whose last point is not certified."""
    points = tuple(
        FrontPoint((k,), (b,), "OPTIMAL", None, v, v, sure)
        for k, (b, v, sure) in enumerate(
            [(1.0, float("-inf"), True), (2.0, 0.3, True), (60.0, 0.4, False)]
        )
    )
    axis = Axis("energy_j_per_prompt", "row", (1.0, 2.0, 60.0))
    Front("f", axis, points).save(folder / "front.json")


@pytest.mark.parametrize(
    ("write", "chart", "curves"),
    [(with_replay, "replay", 2), (with_front, "front", 1)],
    ids=["replay", "front"],
)
def test_pages_without_a_result_draw_their_curves(
    browser: Any, tmp_path: Path, write: Callable[[Path], None], chart: str, curves: int
) -> None:
    """The page of a replay or of a front has its curves, fits a phone and logs nothing."""
    write(tmp_path)
    opened(browser, write_report(tmp_path)[1], PHONE)
    paths = browser.execute_script(
        f"return [...document.querySelectorAll('#{chart} path')].map(p => p.getAttribute('d'))"
    )
    assert len(paths) == curves
    assert all("NaN" not in path and path.startswith("M") for path in paths)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") == PHONE[0]
    weak = [words for ratio, large, words in browser.execute_script(CONTRAST)
            if ratio < (3.0 if large else 4.5)]  # fmt: skip
    assert weak == []


def test_placement_page_shows_where_experts_live(
    browser: Any, tmp_path: Path, solve_into: Callable[..., Result]
) -> None:
    """The map of a placement has a row per layer, filled from edge to edge, and fits a phone."""
    plan = solve_into(tmp_path, "three_tier_edge").plan
    opened(browser, write_report(tmp_path)[1], PHONE, "dark")
    boxes = browser.execute_script(
        "return [...document.querySelectorAll('#map rect[data-row]')].map(r => "
        "[r.dataset.row, Number(r.getAttribute('width'))])"
    )
    widths: dict[str, float] = {}
    for layer, width in boxes:
        widths[layer] = widths.get(layer, 0.0) + width
    assert list(widths) == [str(layer) for layer in plan.layers]
    assert max(widths.values()) == pytest.approx(min(widths.values()))
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.documentElement.scrollWidth") == PHONE[0]
