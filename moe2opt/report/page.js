(function () {
  "use strict";
  const data = JSON.parse(document.getElementById("data").textContent);
  const SPACE = "http://www.w3.org/2000/svg";
  const PALETTE = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#8A8A8A", "#F0E442"];
  const MAP = [[0, 34, 78], [59, 73, 108], [112, 113, 115], [165, 156, 116], [225, 204, 85], [254, 232, 56]];
  const byId = (id) => document.getElementById(id);

  // ------------------------------------------------------------------ small helpers

  function node(name, attributes, text) {
    const made = document.createElementNS(SPACE, name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function number(value) {
    if (value === null || value === undefined) return "-";
    if (Math.abs(value) >= 1000) return Math.round(value).toLocaleString("en-GB");
    return String(Number(value.toPrecision(4)));
  }

  function fillTable(table, header, rows, numeric, caption) {
    table.replaceChildren();
    if (caption) table.createCaption().textContent = caption;
    const head = table.createTHead().insertRow();
    header.forEach((text, k) => {
      const cell = document.createElement("th");
      cell.scope = "col";
      cell.textContent = text;
      if (numeric[k]) cell.className = "figure";
      head.append(cell);
    });
    const body = table.createTBody();
    for (const row of rows) {
      const line = body.insertRow();
      row.forEach((text, k) => {
        const cell = document.createElement(k ? "td" : "th");
        if (!k) cell.scope = "row";
        if (numeric[k]) cell.className = "figure";
        cell.textContent = text;
        line.append(cell);
      });
    }
  }

  function span(values) {
    const found = values.filter((v) => v !== null && v !== undefined);
    if (!found.length) return [0, 1];
    const low = Math.min(...found), high = Math.max(...found);
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    return [low - room, high + room];
  }

  function ticks(low, high, most) {
    const raw = (high - low) / Math.max(1, most);
    const power = Math.pow(10, Math.floor(Math.log10(raw)));
    const step = power * [1, 2, 5, 10].find((m) => m * power >= raw);
    const found = [];
    for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step)
      found.push(Math.abs(v) < step * 1e-9 ? 0 : v);
    return found;
  }

  function logTicks(low, high, most) {
    const found = [];
    for (let power = Math.floor(low); power <= high; power++)
      for (const m of high - low > most / 3 ? [1] : [1, 2, 5]) {
        const v = m * Math.pow(10, power);
        if (Math.log10(v) >= low && Math.log10(v) <= high) found.push(v);
      }
    return found;
  }

  function watch(host, draw) {
    let width = 0;
    const again = () => {
      const now = Math.round(host.clientWidth);
      if (now && now !== width) { width = now; draw(); }
    };
    new ResizeObserver(again).observe(host);
    again();
  }

  // ------------------------------------------------------------------ curves

  // A series is {name, x, y, certified, look, dots}: y is null where no plan exists.
  function chart(host, spec) {
    const width = Math.max(240, host.clientWidth), height = Math.min(320, Math.max(220, width * 0.6));
    const left = 56, right = 12, top = 28, bottom = 44;
    const xs = spec.series.flatMap((s) => s.x);
    const log = Math.min(...xs) > 0 && Math.max(...xs) > 20 * Math.min(...xs);
    const [x0, x1] = span(log ? xs.map(Math.log10) : xs);
    const ys = spec.series.flatMap((s) => s.y).filter((y) => y !== null);
    const tall = Boolean(spec.yLog) && Math.min(...ys) > 0 && Math.max(...ys) > 20 * Math.min(...ys);
    const [y0, y1] = span(tall ? ys.map(Math.log10) : ys);
    const px = (x) => left + ((log ? Math.log10(x) : x) - x0) / (x1 - x0) * (width - left - right);
    const py = (y) => height - bottom - ((tall ? Math.log10(y) : y) - y0) / (y1 - y0) * (height - top - bottom);
    const root = node("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
    for (const v of log ? logTicks(x0, x1, width / 90) : ticks(x0, x1, width / 90)) {
      root.append(node("line", { class: "axis", x1: px(v), x2: px(v), y1: top, y2: height - bottom }));
      root.append(node("text", { x: px(v), y: height - bottom + 16, "text-anchor": "middle" }, number(v)));
    }
    for (const v of tall ? logTicks(y0, y1, 5) : ticks(y0, y1, 5)) {
      root.append(node("line", { class: "axis", x1: left, x2: width - right, y1: py(v), y2: py(v) }));
      root.append(node("text", { x: left - 6, y: py(v) + 4, "text-anchor": "end" }, number(v)));
    }
    root.append(node("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, spec.xLabel));
    root.append(node("text", { x: 4, y: 14 }, spec.yLabel));
    for (const series of spec.series) drawSeries(root, series, px, py, spec.end);
    if (spec.here && spec.here.y !== null)
      root.append(node("circle", { class: "here", cx: px(spec.here.x), cy: py(spec.here.y), r: 8 }));
    host.replaceChildren(root);
  }

  function drawSeries(root, series, px, py, end) {
    let path = "", last = null;
    series.x.forEach((x, k) => {
      const y = series.y[k];
      if (y === null) { last = null; return; }
      path += last === null ? `M${px(x)},${py(y)}` : `H${px(x)}V${py(y)}`;
      last = y;
    });
    if (last !== null && end !== undefined) path += `H${px(end)}`;
    root.append(node("path", { class: series.look, d: path }));
    if (series.dots === false) return;
    series.x.forEach((x, k) => {
      if (series.y[k] === null) return;
      const hollow = series.certified && !series.certified[k] ? " hollow" : "";
      root.append(node("circle", { class: `dot ${series.look}${hollow}`, cx: px(x), cy: py(series.y[k]), r: 3.5 }));
    });
  }

  function convergence(log) {
    const host = byId("convergence");
    const end = log.time[log.time.length - 1];
    watch(host, () => chart(host, {
      xLabel: "time (s)", yLabel: data.label, end: end,
      series: [
        { x: log.time, y: log.bound, look: "s1" },
        { x: log.time, y: log.value, look: "s0" },
      ],
    }));
  }

  function replay(found) {
    const host = byId("replay");
    const looks = ["line0", "line1", "line2", "line3", "line4", "line5"];
    const words = ["solid", "dashed", "dotted", "dash-dotted", "long dashes", "thin"];
    watch(host, () => chart(host, {
      xLabel: "time (s)", yLabel: "latency (s per token)", yLog: true,
      series: found.map((s, k) => ({ x: s.time, y: s.value, look: looks[k % 6], dots: false })),
    }));
    byId("replay-caption").textContent = found.map((s, k) => `${s.name}: ${words[k % 6]}`).join("; ") + ".";
  }

  function front(found) {
    const host = byId("front");
    watch(host, () => chart(host, {
      xLabel: found.axis.label, yLabel: found.label,
      series: [{ x: found.x, y: found.value, certified: found.certified, look: "s0" }],
      here: found.knee === null ? null : { x: found.x[found.knee], y: found.value[found.knee] },
    }));
    const rows = found.x.map((x, k) => [number(x), number(found.value[k]), number(found.bound[k]),
      found.certified[k] ? "yes" : "no"]);
    fillTable(byId("front-table"), [found.axis.label, found.label, "proven bound", "certified"], rows, [1, 1, 1, 0]);
  }

  // ------------------------------------------------------------------ maps

  function shade(share) {
    const at = Math.max(0, Math.min(1, share)) * (MAP.length - 1);
    const k = Math.min(MAP.length - 2, Math.floor(at));
    const mix = MAP[k].map((low, c) => Math.round(low + (MAP[k + 1][c] - low) * (at - k)));
    return `rgb(${mix.join(",")})`;
  }

  function places(found) {
    const host = byId("map");
    const row = Math.max(4, Math.min(14, 360 / found.rows.length));
    const draw = () => {
      const width = Math.max(240, host.clientWidth), left = 34, top = 22 * Math.ceil(found.places.length / Math.max(1, Math.floor(width / 130))) + 4;
      const height = top + row * found.rows.length + 22;
      const root = node("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
      const perRow = Math.max(1, Math.floor(width / 130));
      found.places.forEach((name, t) => {
        const x = 130 * (t % perRow), y = 22 * Math.floor(t / perRow);
        root.append(node("rect", { x: x, y: y + 2, width: 12, height: 12, fill: PALETTE[t % 8] }));
        root.append(node("text", { x: x + 16, y: y + 13 }, name.length > 17 ? name.slice(0, 16) + "…" : name));
      });
      const unit = (width - left) / found.cells;
      found.rows.forEach((runs, k) => {
        let x = left;
        if (k % Math.ceil(14 / row) === 0)
          root.append(node("text", { x: left - 4, y: top + row * k + Math.min(row, 10), "text-anchor": "end" }, String(found.names[k])));
        for (const [place, length] of runs) {
          const look = { x: x, y: top + row * k, width: unit * length, height: row - 0.5, "data-row": found.names[k] };
          root.append(node("rect", place < 0 ? { ...look, class: "none" } : { ...look, fill: PALETTE[place % 8] }));
          x += unit * length;
        }
      });
      root.append(node("text", { x: left, y: height - 6 }, found.axis));
      host.replaceChildren(root);
    };
    watch(host, draw);
  }

  // ------------------------------------------------------------------ the explorer

  function explorer(found) {
    const sizes = found.axes.map((axis) => axis.values.length);
    const inputs = [byId("budget-0"), byId("budget-1")];
    const at = (i, j) => found.cells[i * sizes[1] + j];
    const place = () => inputs.map((input) => Number(input.value));
    const values = found.cells.map((cell) => cell.v).filter((v) => v !== null);
    const low = Math.min(...values), high = Math.max(...values);

    function words(cell) {
      if (cell.v === null)
        return cell.s === "INFEASIBLE" ? (cell.c ? "No plan exists for these budgets: certified." : "No plan exists, says the solver; not certified.")
          : "No plan was found for these budgets; nothing is proven.";
      const proof = cell.s === "OPTIMAL" ? (cell.c ? "certified optimal" : "optimal, not certified")
        : `gap ${cell.g}${cell.c ? ", bound certified" : ", not certified"}`;
      return `${found.label}: ${number(cell.v)} (${proof}).`;
    }

    // What the plan uses of the two budgets, where the grid tells.
    function use(cell, i, j) {
      return found.axes.map((axis, k) => cell.u[k] === null ? "" :
        `The plan uses ${number(cell.u[k])} of ${number(axis.values[k ? j : i])}: ${axis.label}. `).join("");
    }

    function names(cell) {
      if (cell.p === null) return [];
      return found.plans[cell.p].rows.map((row) => row.slice(0, 3).join(" "));
    }

    function change(i, j) {
      if (!i || at(i - 1, j).p === null || at(i, j).p === null) return "";
      const before = names(at(i - 1, j)), now = names(at(i, j));
      const come = now.filter((n) => !before.includes(n)), gone = before.filter((n) => !now.includes(n));
      const step = `Against ${number(found.axes[0].values[i - 1])} ${found.axes[0].label}: `;
      if (!come.length && !gone.length) return step + "the same rows.";
      return step + [...come.map((n) => `+ ${n}`), ...gone.map((n) => `− ${n}`)].join("; ") + ".";
    }

    function line(j) {
      return found.axes[0].values.map((_, i) => at(i, j).v);
    }

    function drawCurve(i, j) {
      const x = found.axes[0].values, y = line(j), last = sizes[1] - 1;
      const host = byId("curve");
      const here = `${found.axes[1].label} at most ${number(found.axes[1].values[j])}`;
      chart(host, {
        xLabel: found.axes[0].label, yLabel: found.label,
        series: [
          { x: x, y: line(last), look: "s2", dots: false },
          { x: x, y: line(0), look: "s2", dots: false },
          { x: x, y: y, certified: x.map((_, k) => at(k, j).c), look: "s0" },
        ],
        here: { x: x[i], y: y[i] },
      });
      host.setAttribute("aria-label", `${found.label} by ${found.axes[0].label}, ${here}`);
      byId("curve-caption").textContent = `Curve for ${here}. Filled points are certified, hollow ones are not; thin lines: the smallest and the largest of these budgets.`;
      const rows = x.map((v, k) => [number(v), number(y[k]), number(at(k, j).b), at(k, j).c ? "yes" : "no"]);
      fillTable(byId("curve-table"), [found.axes[0].label, found.label, "proven bound", "certified"], rows, [1, 1, 1, 0]);
    }

    function drawMap(i, j) {
      const host = byId("budget-map");
      const width = Math.max(240, host.clientWidth), left = 56, bottom = 44, top = 28;
      const height = Math.min(320, Math.max(220, width * 0.6));
      const w = (width - left - 12) / sizes[0], h = (height - top - bottom) / sizes[1];
      const root = node("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
      for (let a = 0; a < sizes[0]; a++) for (let b = 0; b < sizes[1]; b++) {
        const cell = at(a, b), x = left + w * a, y = height - bottom - h * (b + 1);
        const look = { x: x, y: y, width: w, height: h, "data-a": a, "data-b": b };
        const share = high > low ? (cell.v - low) / (high - low) : 1;
        root.append(node("rect", cell.v === null ? { ...look, class: "cell none" } : { ...look, class: "cell", fill: shade(share) }));
        if (!cell.c) root.append(node("circle", { class: "ring", cx: x + w / 2, cy: y + h / 2, r: Math.min(w, h) / 4 }));
      }
      const every = (n, room) => Math.ceil(n / Math.max(1, Math.floor(room)));
      for (let a = 0; a < sizes[0]; a += every(sizes[0], (width - left) / 60))
        root.append(node("text", { x: left + w * (a + 0.5), y: height - bottom + 16, "text-anchor": "middle" }, number(found.axes[0].values[a])));
      for (let b = 0; b < sizes[1]; b += every(sizes[1], (height - top - bottom) / 18))
        root.append(node("text", { x: left - 6, y: height - bottom - h * (b + 0.5) + 4, "text-anchor": "end" }, number(found.axes[1].values[b])));
      root.append(node("text", { x: (left + width) / 2, y: height - 6, "text-anchor": "middle" }, found.axes[0].label));
      root.append(node("text", { x: 4, y: 14 }, found.axes[1].label));
      root.append(node("rect", { class: "here", x: left + w * i, y: height - bottom - h * (j + 1), width: w, height: h }));
      host.replaceChildren(root);
    }

    function show() {
      const [i, j] = place(), cell = at(i, j);
      found.axes.forEach((axis, k) => {
        const text = number(axis.values[k ? j : i]);
        byId(`value-${k}`).textContent = text;
        inputs[k].setAttribute("aria-valuetext", `${text}, ${axis.label}`);
      });
      byId("now").textContent = words(cell);
      const plan = cell.p === null ? { header: [], rows: [], numeric: [] } : found.plans[cell.p];
      fillTable(byId("explored"), plan.header, plan.rows, plan.numeric);
      byId("change").textContent = use(cell, i, j) + change(i, j);
      drawCurve(i, j);
      drawMap(i, j);
    }

    inputs.forEach((input) => input.addEventListener("input", show));
    byId("budget-map").addEventListener("click", (event) => {
      const cell = event.target.closest("[data-a]");
      if (!cell) return;
      inputs[0].value = cell.dataset.a;
      inputs[1].value = cell.dataset.b;
      show();
    });
    watch(byId("curve"), show);
  }

  if (data.map) places(data.map);
  if (data.explorer) explorer(data.explorer);
  if (data.front) front(data.front);
  if (data.replay) replay(data.replay);
  if (data.convergence) convergence(data.convergence);
})();
