// The panels that are no charts: numbers, the pipeline, tokens, losses, news.
import { clock, el, many, money, panel, score, shape, share, swatch, table, twin } from "./parts.js";

export function tilesPanel() {
  const node = el("section", { class: "panel tiles", "aria-label": "The run in numbers" });
  return { node, update({ state, t, log, standing, artifacts }) {
    const limits = (standing && standing.limits) || {}, e = state.champion && state.champion.evidence;
    const limit = Object.values(state.limits).reduce((a, b) => a + b, 0);
    const waiting = Object.values(state.edges).reduce((sum, edge) => sum + edge.depth, 0);
    const of = (name, show = many) => (limits[name] ? ` of ${show(limits[name])}` : "");
    const aside = state.reserved.tokens || 0;
    const tiles = [
      [score(state.champion && state.champion.score), e ? `best${state.champion.provisional ? ", provisional" : ""} · ${e.tried} of ${e.of} samples tried` : "best score"],
      [`${clock(t)}${limits.seconds ? ` / ${clock(limits.seconds)}` : ""}`, t < log.end ? `run time · ends at ${clock(log.end)}` : "run time"],
      [many(artifacts.filter((a) => a.state !== "retracted").length), `accepted · ${many(state.used.proposals || 0)} proposals${of("proposals")}`],
      [many(state.used.calls ?? state.calls), `calls${of("calls")} · ${many(state.failed)} failed`],
      [many(state.used.tokens ?? state.tokens), `tokens${of("tokens")} · ${share(state.cutTokens, state.tokens)} cut off${aside ? ` · ${many(aside)} reserved` : ""}`],
      [money(state.used.usd || state.usd), state.usd || !state.unpriced ? `money${of("usd", money)}` : "no price known"],
      [`${state.out}${limit ? ` / ${limit}` : ""}`, limit ? "requests out / limit" : `requests out · most ${state.most}`],
      [many(waiting), "items wait in queues"],
    ];
    node.replaceChildren(...tiles.map(([big, small]) => el("div", { class: "tile" }, el("b", { text: big }), el("span", { text: small }))));
  } };
}

/** The graph's drawing with what waits on each edge and works in each stage. */
export function pipelinePanel(facts, choose, small = false) {
  const { node, body, note } = panel("Pipeline", "on an edge: items that wait · in a box: working / done · orange: waiting or busy");
  const d = facts.drawing, held = el("div", { class: small ? "drawing small" : "drawing" }), boxes = new Map(), counts = new Map();
  const svg = shape("svg", { viewBox: `0 0 ${Math.max(1, d.width)} ${Math.max(1, d.height)}`, width: Math.max(1, d.width), height: Math.max(1, d.height), role: "img", "aria-label": "The graph; the table below has the same" });
  const arrow = shape("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, markerUnits: "userSpaceOnUse", orient: "auto-start-reverse" }, shape("path", { d: "M0 0L8 4L0 8z", fill: "var(--faint)" }));
  svg.append(shape("defs", {}, arrow));
  for (const line of d.lines) {
    const path = shape("path", { class: `wire ${line.kind}`, d: `M${line.points.map((p) => p.join(" ")).join("L")}`, "marker-end": line.kind === "repairs" ? null : "url(#arrow)" });
    svg.append(path);
    if (!line.edge) continue;
    const [x, y] = line.spot;
    const pill = shape("rect", { class: "count", x: x - 16, y: y - 8, width: 32, height: 16, rx: 8 }), text = shape("text", { x, y: y + 4, "text-anchor": "middle", text: "0" });
    counts.set(line.edge, { path, pill, text });
  }
  for (const one of d.nodes) {
    const rect = shape("rect", { class: `node ${one.kind}`, x: one.x, y: one.y, width: one.width, height: one.height, rx: one.kind === "source" ? 14 : 5 });
    const middle = one.x + one.width / 2, centre = one.y + one.height / 2;
    const below = shape("text", { x: middle, y: centre + 11, "text-anchor": "middle", class: "faint" });
    const bar = shape("rect", { x: one.x + 4, y: one.y + one.height - 5, width: 0, height: 3, rx: 1 });
    const name = shape("text", { x: middle, y: centre - 3, "text-anchor": "middle", "font-weight": 600, text: one.name });
    if (choose) rect.addEventListener("click", () => choose(one.name));
    svg.append(rect, name, below, bar);
    boxes.set(one.name, { below, bar, one });
  }
  for (const { pill, text } of counts.values()) svg.append(pill, text);
  if (d.nodes.length) held.append(svg);
  let shown = null;
  const other = twin(() => el("div", {}, stageTable(shown), edgeTable(shown)));
  body.append(held, other.node);
  return { node, update(view) {
    shown = view;
    const { state } = view;
    for (const [name, { path, pill, text }] of counts) {
      const depth = state.edges[name] ? state.edges[name].depth : 0;
      text.textContent = depth >= 10000 ? many(depth) : String(depth);
      pill.setAttribute("class", depth ? "count some" : "count");
      text.setAttribute("class", depth ? "on" : "faint");
      path.setAttribute("class", depth ? "wire edge busy" : "wire edge");
    }
    const all = Math.max(1, state.out);
    for (const [name, { below, bar, one }] of boxes) {
      const stage = state.stages[name], best = state.champion;
      let text = stage ? `${stage.busy} / ${many(stage.done)}${stage.lag ? ` / lag ${stage.lag}` : ""}` : "";
      if (one.kind === "pool") text = `v${state.versions[name] || 0}${best && best.pool === name ? ` · best ${score(best.score)}` : ""}`;
      else if (one.kind === "source") text = stage ? `${many(stage.done)} draws` : "0 draws";
      else if (state.verdicts[name]) { const v = state.verdicts[name]; text = `${v.patch} of ${v.accept + v.patch + v.discard} patched`; }
      below.textContent = text;
      bar.setAttribute("width", stage ? Math.max(0, (one.width - 8) * Math.min(1, stage.out / all)) : 0);
      bar.setAttribute("fill", view.palette.css(name));
    }
    const oldest = waits(state, view.t);
    note(`on an edge: items that wait · in a box: working / done / lag · bar: share of the requests out${oldest ? ` · oldest wait ${oldest}` : ""}`);
    other.update();
  } };
}

function waits(state, t) {
  let oldest = null;
  for (const item of state.items.values()) if (item.waits && (!oldest || item.at < oldest.at)) oldest = item;
  return oldest ? `${(t - oldest.at).toFixed(1)} s on ${oldest.edge}` : "";
}

export function stageTable(view) {
  const rows = view.facts.drawing.names.filter((name) => view.state.stages[name]).map((name) => ({ name, ...view.state.stages[name], v: view.state.verdicts[name] }));
  const seconds = Math.max(1e-9, view.t);
  return table([["stage", (s) => s.name], ["working", (s) => s.busy, true], ["done", (s) => many(s.done), true], ["a second", (s) => (s.done / seconds).toFixed(2), true], ["failed", (s) => s.failed, true], ["cancelled", (s) => s.cancelled, true], ["requests out", (s) => s.out, true], ["lag", (s) => s.lag, true], ["verdicts", (s) => (s.v ? `${s.v.accept} accepted, ${s.v.patch} patched, ${s.v.discard} discarded` : "")]], rows, { label: "Stages" });
}

export function edgeTable(view) {
  const waiting = new Map();
  for (const item of view.state.items.values()) if (item.waits) waiting.set(item.edge, Math.min(item.at, waiting.get(item.edge) ?? Infinity));
  const rows = view.facts.drawing.edges.map((name) => ({ name, depth: 0, made: 0, consumed: 0, filtered: 0, discarded: 0, cancelled: 0, failed: 0, ...view.state.edges[name] }));
  const capacity = (edge) => view.facts.policies[`${edge.name}.capacity`] || "";
  return table([["edge", (e) => e.name], ["waiting", (e) => `${e.depth}${capacity(e) ? ` / ${capacity(e)}` : ""}`, true], ["oldest wait", (e) => (waiting.has(e.name) ? `${(view.t - waiting.get(e.name)).toFixed(1)} s` : ""), true], ["made", (e) => many(e.made), true], ["consumed", (e) => many(e.consumed), true], ["filtered", (e) => e.filtered, true], ["discarded", (e) => e.discarded, true], ["cancelled", (e) => e.cancelled, true], ["failed", (e) => e.failed, true]], rows, { label: "Edges" });
}

export function tokensPanel(width) {
  const { node, body } = panel("Where the tokens went", "", width);
  return { node, update(view) {
    const rows = Object.entries(view.state.by).sort((a, b) => b[1].tokens - a[1].tokens);
    const lags = Object.entries(view.state.lags), most = Math.max(1, ...lags.map((l) => l[1]));
    body.replaceChildren(table([["stage", ([name]) => el("span", { class: "key" }, swatch(view.palette.css(name)), el("span", { text: name }))], ["calls", ([, c]) => many(c.calls), true], ["cut off", ([, c]) => many(c.cut), true], ["tokens", ([, c]) => many(c.tokens), true], ["cut off", ([, c]) => share(c.cutTokens, c.tokens), true]], rows, { label: "Tokens by stage" }));
    if (lags.length) body.append(el("h3", { text: "lag of stale work when it was taken up" }), table([["lag", ([k]) => k, true], ["items", ([, n]) => many(n), true], ["", ([, n]) => el("div", { class: "bar", css: { width: `${Math.max(2, (100 * n) / most)}px` } })]], lags.slice(0, 8), { label: "Lag" }));
  } };
}

export function newsPanel(width) {
  const { node, body } = panel("News", "the last ones first", width);
  return { node, update({ state, standing }) {
    const rows = state.news.map((one) => [one.at, one.kind, one.text]);
    body.replaceChildren(rows.length ? table([["at", (r) => clock(r[0]), true], ["", (r) => ({ best: "new best", failed: "failed", down: "down", up: "up" })[r[1]]], ["", (r) => r[2]]], rows, { label: "News", tight: true }) : el("p", { class: "empty", text: "Nothing yet." }));
    if (standing && standing.endpoints) body.append(el("h3", { text: "servers" }), table([["server", (e) => e.name], ["calls", (e) => many(e.calls), true], ["limit", (e) => state.limits[e.name] ?? e.limit ?? "", true], ["", (e) => (state.down[e.name] ? `down: ${state.down[e.name]}` : state.served[e.name] ? `${state.served[e.name].running} run, ${state.served[e.name].waiting} wait` : "")]], standing.endpoints, { label: "Servers", tight: true }));
  } };
}

export function lossesPanels() {
  const one = panel("Losses", "work, tokens and money that led to nothing, by cause");
  const two = panel("Failures", "jobs and edges that failed, by reason");
  return [{ node: one.node, update({ state }) {
    const rows = Object.values(state.losses).sort((a, b) => b.tokens - a.tokens || b.count - a.count), most = Math.max(1, ...rows.map((r) => r.tokens));
    one.note(`${many(state.cutTokens)} of ${many(state.tokens)} tokens (${share(state.cutTokens, state.tokens)}) led to nothing`);
    one.body.replaceChildren(rows.length ? table([["what", (r) => r.what], ["where", (r) => r.where], ["cause", (r) => r.cause], ["count", (r) => many(r.count), true], ["tokens", (r) => (r.tokens ? many(r.tokens) : ""), true], ["money", (r) => (r.usd ? money(r.usd) : ""), true], ["", (r) => (r.tokens ? el("div", { class: "bar", css: { width: `${(160 * r.tokens) / most}px` } }) : "")]], rows, { label: "Losses" }) : el("p", { class: "empty", text: "Nothing was lost." }));
  } }, { node: two.node, update({ standing }) {
    const rows = (standing && standing.failures) || [];
    two.body.replaceChildren(rows.length ? table([["where", (r) => r.stage], ["reason", (r) => r.reason], ["cause", (r) => r.cause], ["count", (r) => r.count, true], ["last", (r) => clock(r.last), true]], rows, { label: "Failures" }) : el("p", { class: "empty", text: "No stage or edge has failed." }));
  } }];
}
