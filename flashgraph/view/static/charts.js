// Charts: steps over time with uPlot, and the timeline of requests on a canvas.
import uPlot from "./uplot.js";
import { clock, colour, el, many, panel, score, shape, share, swatch, table, twin } from "./parts.js";

/** A line chart of `series` [{label, stroke, points}] over x; `update(data, t)` redraws it. */
function lines(body, series, { height = 190, x = clock, y = (v) => v, min = null, max = null } = {}) {
  const held = el("div");
  body.append(held);
  let chart = null, shown = "";
  const draw = (data) => {
    const width = Math.max(220, held.clientWidth || 600), look = `${width} ${matchMedia("(prefers-color-scheme: dark)").matches}`;
    if (chart && look === shown) { chart.setData(data); return; }
    if (chart) chart.destroy();
    shown = look;
    const axis = { stroke: colour("--faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { stroke: colour("--line") }, font: "11px system-ui, sans-serif" };
    chart = new uPlot({
      width, height, legend: { show: false }, cursor: { drag: { x: false, y: false } },
      scales: { x: { time: false }, y: { range: (_, low, high) => [min ?? low ?? 0, Math.max(max ?? (high === null ? 1 : high * 1.06), (min ?? low ?? 0) + 1e-6)] } },
      axes: [{ ...axis, size: 26, values: (_, found) => found.map(x) }, { ...axis, size: 44, values: (_, found) => found.map(y) }],
      series: [{}, ...series.map((one) => ({
        label: one.label, stroke: () => colour(one.stroke), width: one.width ?? 2, dash: one.dash, spanGaps: true,
        paths: one.points ? () => null : uPlot.paths.stepped({ align: 1 }),
        points: { show: Boolean(one.points), size: 6, fill: colour("--panel"), stroke: () => colour(one.stroke) },
      }))],
    }, data, held);
  };
  return draw;
}

export function scorePanel(width) {
  const { node, body, note } = panel("Score", "", width);
  const draw = lines(body, [
    { label: "best", stroke: "--accent" }, { label: "from", stroke: "--accent", width: 1, dash: [3, 3] }, { label: "to", stroke: "--accent", width: 1, dash: [3, 3] },
    { label: "candidate", stroke: "--faint", points: true },
  ], { y: (v) => v.toFixed(2), min: 0 });
  let shown = null;
  const other = twin(() => table([["time", (p) => clock(p[0]), true], ["calls", (p) => many(p[1]), true], ["score", (p) => score(p[2]), true], ["interval", (p) => (p[4] === null ? "" : `${score(p[4])} to ${score(p[5])}`)], ["artifact", (p) => p[3] ?? "", true]], shown.curve));
  body.append(el("div", { class: "legend", text: "line: the best confirmed one and the interval of its evidence · rings: every candidate at its admission" }), other.node);
  return { node, update(view) {
    const curve = view.log.curve.filter((p) => p[0] <= view.t), all = view.artifacts.filter((a) => a.mean !== null);
    shown = { curve };
    const rows = [...curve.map((p) => [p[0], p[2], p[4], p[5], null]), ...all.map((a) => [a.at, null, null, null, a.mean])];
    const last = curve[curve.length - 1];
    if (last) rows.push([view.t, last[2], last[4], last[5], null]);
    rows.push([0, null, null, null, null], [view.log.end, null, null, null, null]);
    rows.sort((a, b) => a[0] - b[0]);
    draw([0, 1, 2, 3, 4].map((k) => rows.map((row) => row[k])));
    note(last ? `the best confirmed one: ${score(last[2])} at ${clock(last[0])}` : "no champion yet");
    other.update();
  } };
}

const HATCH = new Map();
function hatched(context, stroke) {
  if (!HATCH.has(stroke)) {
    const tile = document.createElement("canvas");
    tile.width = tile.height = 4;
    const pen = tile.getContext("2d");
    pen.strokeStyle = stroke; pen.lineWidth = 1;
    pen.globalAlpha = 0.3; pen.fillStyle = stroke; pen.fillRect(0, 0, 4, 4); pen.globalAlpha = 0.8;
    pen.beginPath(); pen.moveTo(0, 4); pen.lineTo(4, 0); pen.stroke();
    HATCH.set(stroke, context.createPattern(tile, "repeat"));
  }
  return HATCH.get(stroke);
}

function sized(canvas, width, height) {
  const ratio = devicePixelRatio || 1;
  canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  return pen;
}

/** Every request by slot (or by stage), under the line of requests out and the server's limit. */
export function timelinePanel(width, { height = 230, choose = null } = {}) {
  const { node, body, note } = panel("Timeline", "", width);
  const canvas = el("canvas", { role: "img", "aria-label": "Requests over time; the table below has the same" });
  const legend = el("div", { class: "legend" });
  let rowsBy = "slot", shown = null;
  const by = el("select", { "aria-label": "Rows of the timeline", on: { change: () => { rowsBy = by.value; if (shown) draw(shown); } } },
    el("option", { value: "slot", text: "by slot" }), el("option", { value: "stage", text: "by stage" }));
  const other = twin(() => table([["call", (c) => c.id, true], ["stage", (c) => c.stage], ["sent", (c) => c.start.toFixed(2), true], ["seconds", (c) => (c.end === null ? "" : (c.end - c.start).toFixed(2)), true], ["end", (c) => c.how], ["tokens", (c) => many(c.tokens), true]], shown.log.calls.filter((c) => c.start <= shown.t).slice(-500).reverse()));
  node.querySelector("h2").append(by);
  body.append(canvas, legend, other.node);
  let spots = [];
  canvas.addEventListener("click", (event) => {
    if (!choose) return;
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    const found = spots.find((s) => x >= s[0] - 1 && x <= s[1] + 1 && y >= s[2] && y <= s[3] + 1);
    if (found) choose(found[4]);
  });

  function draw(view) {
    shown = view;
    const wide = Math.max(220, canvas.parentNode.clientWidth), left = 34, top = 52, bottom = 18;
    const { log, t } = view, end = Math.max(log.end, 1e-3), x = (at) => left + ((wide - left - 6) * at) / end;
    const stages = [...new Set(log.calls.map((c) => c.stage))];
    const lanes = rowsBy === "slot" ? Math.max(1, log.slots) : Math.max(1, stages.length);
    const tall = Math.max(2, Math.min(14, Math.floor((height - top - bottom) / lanes)));
    const full = rowsBy === "slot" ? Math.max(height, 0) : top + bottom + lanes * 22;
    const laneHeight = rowsBy === "slot" ? (full - top - bottom) / lanes : 22;
    const pen = sized(canvas, wide, full);
    pen.font = "11px system-ui, sans-serif"; pen.fillStyle = colour("--faint"); pen.strokeStyle = colour("--line"); pen.lineWidth = 1;
    for (let k = 0; k <= 6; k += 1) {
      const at = (end * k) / 6, place = Math.round(x(at)) + 0.5;
      pen.beginPath(); pen.moveTo(place, 0); pen.lineTo(place, full - bottom); pen.stroke();
      pen.textAlign = k === 0 ? "left" : k === 6 ? "right" : "center"; pen.fillText(clock(at), place, full - 5);
    }
    const counts = concurrency(log.calls, t), limits = log.limits.filter((one) => one[0] <= t);
    const most = Math.max(1, ...counts.map((c) => c[1]), ...limits.map((one) => one[2])), up = (n) => top - 8 - ((top - 14) * n) / most;
    pen.textAlign = "right"; pen.fillText(String(most), left - 4, 14); pen.fillText("0", left - 4, top - 6);
    pen.strokeStyle = colour("--ink"); pen.beginPath(); pen.moveTo(x(0), up(0));
    let before = 0;
    for (const [at, n] of counts) { pen.lineTo(x(at), up(before)); pen.lineTo(x(at), up(n)); before = n; }
    pen.lineTo(x(Math.min(t, end)), up(before)); pen.stroke();
    if (limits.length) {
      pen.strokeStyle = colour("--bad"); pen.setLineDash([3, 2]); pen.beginPath();
      limits.forEach(([at, , limit], k) => { if (k) { pen.lineTo(x(at), up(limits[k - 1][2])); pen.lineTo(x(at), up(limit)); } else pen.moveTo(x(at), up(limit)); });
      pen.lineTo(x(Math.min(t, end)), up(limits[limits.length - 1][2])); pen.stroke(); pen.setLineDash([]);
    }
    spots = [];
    const fills = new Map(stages.map((stage) => [stage, view.palette.of(stage)]));
    for (const call of log.calls) {
      if (call.start > t) break;
      const lane = rowsBy === "slot" ? call.slot : stages.indexOf(call.stage);
      const over = call.end === null || call.end > t, from = x(call.start), to = Math.max(from + 1, x(over ? Math.min(t, end) : call.end));
      const y = top + lane * laneHeight, high = Math.max(1, laneHeight - (laneHeight > 3 ? 1 : 0)), fill = fills.get(call.stage);
      pen.fillStyle = over || call.how === "done" ? fill : hatched(pen, fill);
      pen.fillRect(from, y, to - from, rowsBy === "slot" ? Math.min(high, Math.max(tall, high)) : high);
      if (choose) spots.push([from, to, y, y + high, call.id]);
    }
    if (rowsBy === "stage") { pen.fillStyle = colour("--ink"); pen.textAlign = "left"; stages.forEach((stage, k) => pen.fillText(stage, left + 3, top + k * 22 + 14)); }
    const now = Math.round(x(Math.min(t, end))) + 0.5;
    pen.strokeStyle = colour("--accent"); pen.lineWidth = 1.5; pen.beginPath(); pen.moveTo(now, 4); pen.lineTo(now, full - bottom); pen.stroke();
    legend.replaceChildren(...stages.map((stage) => el("span", { class: "key" }, swatch(view.palette.css(stage)), el("span", { text: stage }))),
      el("span", { class: "key", text: "solid: answered · hatched: cut off · line above: requests out, dashed: limit" }));
    note(`${many(log.calls.length)} requests in ${log.slots} slots · ${bound(view)}`);
    other.update();
  }
  return { node, update: draw };
}

/** What held the run back until now, in words: the share of the time with all slots in use. */
function bound(view) {
  const counts = concurrency(view.log.calls, view.t);
  if (!counts.length) return "no requests yet";
  const limits = view.log.limits;
  let limit = limits.length ? limits[0][2] : Math.max(...counts.map((c) => c[1])), full = 0, idle = 0, k = 0;
  counts.forEach(([at, n], place) => {
    while (k < limits.length && limits[k][0] <= at) { limit = limits[k][2]; k += 1; }
    const length = (place + 1 < counts.length ? counts[place + 1][0] : Math.min(view.t, view.log.end)) - at;
    if (n >= limit * 0.95) full += length; else if (n === 0) idle += length;
  });
  const total = Math.max(1e-9, Math.min(view.t, view.log.end));
  return `full ${share(full, total)} of the time, idle ${share(idle, total)}`;
}

function concurrency(calls, t) {
  const moves = [];
  for (const call of calls) {
    if (call.start > t) break;
    moves.push([call.start, 1]);
    if (call.end !== null && call.end <= t) moves.push([call.end, -1]);
  }
  moves.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const found = [];
  let out = 0;
  for (const [at, by] of moves) {
    out += by;
    if (found.length && found[found.length - 1][0] === at) found[found.length - 1][1] = out; else found.push([at, out]);
  }
  return found;
}

/** Lines of descent by time and score. */
export function lineagePanel(width, choose, height = 250) {
  const { node, body } = panel("Lineage", "across: time · up: mean score · thick: the best one's line · dashed ring: provisional", width);
  const held = el("div");
  let shown = null;
  const other = twin(() => artifactTable(shown, choose));
  body.append(held, other.node);
  return { node, update(view) {
    shown = view;
    const wide = Math.max(240, held.clientWidth || 480), left = 34, bottom = 20, end = Math.max(view.log.end, 1e-3);
    const all = view.artifacts.filter((a) => a.mean !== null && (!view.pool || a.pool === view.pool));
    const most = Math.max(0.05, ...all.map((a) => a.mean)) * 1.08, least = Math.min(0, ...all.map((a) => a.mean));
    const x = (a) => left + 8 + ((wide - left - 24) * a.at) / end, y = (v) => 10 + (height - bottom - 20) * (1 - (v - least) / (most - least));
    const svg = shape("svg", { width: wide, height, viewBox: `0 0 ${wide} ${height}`, role: "img", "aria-label": "Lineage; the table below has the same" });
    for (let k = 0; k <= 4; k += 1) {
      const v = least + ((most - least) * k) / 4;
      svg.append(shape("line", { x1: left, x2: wide, y1: y(v), y2: y(v), stroke: "var(--line)" }), shape("text", { x: left - 4, y: y(v) + 4, "text-anchor": "end", class: "faint", text: v.toFixed(2) }));
    }
    svg.append(shape("text", { x: left, y: height - 4, class: "faint", text: "0:00" }), shape("text", { x: wide - 4, y: height - 4, "text-anchor": "end", class: "faint", text: clock(end) }));
    const known = new Map(all.map((a) => [a.id, a])), line = new Set(), steps = new Set();
    let step = view.state.champion && known.get(view.state.champion.artifact);
    while (step && !line.has(step.id)) { line.add(step.id); const from = step; step = step.parents.map((id) => known.get(id)).filter((a) => a && a.id < step.id).sort((a, b) => b.mean - a.mean)[0]; if (step) steps.add(`${step.id} ${from.id}`); }
    for (const a of all) for (const id of a.parents) {
      const parent = known.get(id), main = steps.has(`${id} ${a.id}`);
      if (parent) svg.append(shape("line", { x1: x(parent), y1: y(parent.mean), x2: x(a), y2: y(a.mean), stroke: main ? "var(--accent)" : "var(--line)", "stroke-width": main ? 2.5 : 1 }));
    }
    const few = all.length <= 150;
    for (const a of all) {
      const main = line.has(a.id);
      const dot = shape("circle", { cx: x(a), cy: y(a.mean), r: few ? 8 : 3, fill: main ? "var(--accent)" : "var(--panel)", stroke: a.state === "retracted" ? "var(--bad)" : main ? "var(--accent)" : "var(--faint)", "stroke-width": a.lag ? 2 : 1.2, "stroke-dasharray": a.state === "provisional" ? "2 2" : null });
      dot.append(shape("title", { text: `artifact ${a.id}, ${a.state}, ${score(a.mean)} on ${a.scores.length} samples, lag ${a.lag}` }));
      dot.addEventListener("click", () => choose(a));
      svg.append(dot);
      if (few) svg.append(shape("text", { x: x(a), y: y(a.mean) + 3.5, "text-anchor": "middle", "pointer-events": "none", style: null, fill: "currentColor", class: "faint", text: String(a.id) }));
      if (few && main) svg.lastChild.setAttribute("class", "in");
    }
    held.replaceChildren(svg);
    other.update();
  } };
}

export function artifactTable(view, choose, picked) {
  return table([["artifact", (a) => a.id, true], ["pool", (a) => a.pool], ["state", (a) => a.state], ["mean", (a) => score(a.mean), true], ["tried", (a) => a.scores.length, true], ["admitted", (a) => clock(a.at), true], ["lag", (a) => a.lag, true], ["parents", (a) => a.parents.join(", ")]],
    [...view.artifacts].reverse(), { pick: choose, picked, label: "Artifacts" });
}

/** Candidates by samples; a cell without a score is not tried, which is not zero. */
export function matrixPanel(width) {
  const { node, body, note } = panel("Candidates × samples", "", width);
  const canvas = el("canvas", { role: "img", "aria-label": "Scores of candidates by sample; the table below has the same" });
  let shown = [];
  const other = twin(() => table([["artifact", (a) => a.id, true], ["solved", (a) => a.scores.filter(([, v]) => v >= 1).length, true], ["tried", (a) => a.scores.length, true], ["samples in order of number", (a) => a.scores.map(([k, v]) => `${k}: ${Number(v).toFixed(2)}`).join("  ")]], shown));
  body.append(canvas, el("div", { class: "legend" }, el("span", { class: "key" }, swatch("var(--s3)"), el("span", { text: "1" })), el("span", { class: "key" }, swatch("var(--s2)"), el("span", { text: "0" })), el("span", { class: "key" }, swatch("var(--none)"), el("span", { text: "not tried" }))), other.node);
  return { node, update(view) {
    const all = (shown = view.artifacts.filter((a) => a.scores.length && (!view.pool || a.pool === view.pool)));
    const sums = new Map();
    for (const a of all) for (const [k, v] of a.scores) { const s = sums.get(k) || [0, 0]; sums.set(k, [s[0] + v, s[1] + 1]); }
    const columns = [...sums.keys()].sort((a, b) => sums.get(b)[0] / sums.get(b)[1] - sums.get(a)[0] / sums.get(a)[1]);
    const place = new Map(columns.map((k, n) => [k, n]));
    const wide = Math.max(220, body.clientWidth || 400), left = 30, cell = Math.max(1, Math.min(14, (wide - left) / Math.max(1, columns.length)));
    const tall = Math.max(2, Math.min(11, 240 / Math.max(1, all.length)));
    const pen = sized(canvas, wide, Math.max(24, all.length * tall + 2));
    const none = colour("--none"), [zero, one] = [colour("--s2"), colour("--s3")];
    pen.font = "10px system-ui, sans-serif"; pen.textAlign = "right";
    const every = Math.max(1, Math.ceil(12 / tall)), gap = cell > 3 ? 1 : 0;
    all.forEach((a, row) => {
      pen.globalAlpha = 1; pen.fillStyle = none; pen.fillRect(left, row * tall, cell * columns.length, Math.max(1, tall - gap));
      if (row % every === 0) { pen.fillStyle = colour("--faint"); pen.fillText(String(a.id), left - 5, row * tall + Math.min(9, tall)); }
      for (const [k, v] of a.scores) {
        pen.fillStyle = v >= 0.5 ? one : zero; pen.globalAlpha = 0.35 + 0.65 * Math.min(1, Math.abs(v - 0.5) * 2);
        pen.fillRect(left + place.get(k) * cell, row * tall, Math.max(1, cell - gap), Math.max(1, tall - gap));
      }
    });
    note(`${all.length} candidates in order of admission × ${columns.length} samples, the easiest first`);
    other.update();
  } };
}

export function curvesPanel(runs, by) {
  const { node, body, note } = panel("Best score", `by ${by}`);
  const strokes = runs.map((_, k) => `--s${(k * 3 + 3) % 8}`);
  const draw = lines(body, runs.map((run, k) => ({ label: run.name, stroke: strokes[k] })), { height: 320, x: by === "seconds" ? clock : many, y: (v) => v.toFixed(2), min: 0 });
  body.append(el("div", { class: "legend" }, ...runs.map((run, k) => el("span", { class: "key" }, swatch(`var(${strokes[k]})`), el("span", { text: `${run.name}: ${score(run.best)}` })))));
  const at = by === "seconds" ? 0 : 1;
  const other = twin(() => table([["run", (r) => r[0]], [by, (r) => (at ? many(r[1]) : clock(r[1])), true], ["score", (r) => score(r[2]), true]], runs.flatMap((run) => run.curve.map((p) => [run.name, p[at], p[2]]))));
  body.append(other.node);
  const update = () => {
    const whole = (run) => (run.curve.length ? [...run.curve, [run.seconds, run.calls, run.curve[run.curve.length - 1][2]]] : []);
    const rows = runs.flatMap((run, k) => whole(run).map((p) => [p[at], ...runs.map((_, j) => (j === k ? p[2] : null))]));
    rows.sort((a, b) => a[0] - b[0]);
    draw([...Array(runs.length + 1).keys()].map((k) => rows.map((row) => row[k])));
    note(`by ${by}`);
  };
  return { node, update };
}
