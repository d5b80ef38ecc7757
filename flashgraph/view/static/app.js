// The page: one run's log, one moment of it, and the views of that moment.
import { Log } from "./fold.js";
import { source } from "./source.js";
import { Palette, clock, setFine, differences, el, many, money, panel, score, swatch, table } from "./parts.js";
import { artifactTable, curvesPanel, lineagePanel, matrixPanel, scorePanel, timelinePanel } from "./charts.js";
import { edgeTable, lossesPanels, newsPanel, pipelinePanel, stageTable, tilesPanel, tokensPanel } from "./panels.js";

const VIEWS = ["Run", "Pipeline", "Timeline", "Candidates", "Calls", "Losses", "Compare", "Runs"];
const main = document.getElementById("main"), nav = document.getElementById("nav"), head = document.getElementById("run");
const slider = document.getElementById("time"), output = document.getElementById("clock"), live = document.getElementById("live"), play = document.getElementById("play"), speed = document.getElementById("speed");

const page = {
  from: null, run: "", facts: null, log: null, standing: null, palette: new Palette(), view: "Run", t: Infinity, live: true, away: false, playing: false,
  panels: [], end: null, opening: null, call: null, pick: [], filters: { stage: "", how: "", id: "" }, chosen: new Set(), runs: null, error: "",
};

function moment() { return page.live ? page.log.end : Math.min(page.t, page.log.end); }

function view() {
  const t = moment(), { log, facts, standing, palette } = page;
  return { t, log, facts, standing, palette, state: log.at(page.live ? Infinity : t), artifacts: log.artifacts(t), live: page.live, pool: (standing && standing.champion && standing.champion.pool) || facts.pools[0] };
}

// ---- routes: #/Calls?run=NAME&call=12 ----------------------------------------------------------------

function address(changes = {}) {
  const found = { view: page.view, run: page.run, call: "", ...changes }, query = new URLSearchParams();
  if (found.run) query.set("run", found.run);
  if (found.call !== "" && found.call !== null) query.set("call", found.call);
  return `#/${found.view}?${query}`;
}

function asked() {
  const [name, query] = location.hash.replace(/^#\//, "").split("?"), found = new URLSearchParams(query || "");
  return { name, run: found.get("run") || page.run || page.first, call: found.get("call") };
}

async function route() {
  const { run } = asked();
  if (run && run !== page.run) page.opening = open(run);
  await page.opening;
  const { name, call } = asked(); // the address may have changed meanwhile
  page.view = VIEWS.includes(name) ? name : page.run ? "Run" : "Runs";
  page.call = call;
  build();
}

async function open(name) {
  if (page.end) page.end();
  Object.assign(page, { run: name, facts: null, log: null, standing: null, palette: new Palette(), live: true, t: Infinity, pick: [], error: "" });
  try {
    page.facts = await page.from.run(name);
  } catch (error) { page.error = error.message; page.run = ""; return; }
  page.log = new Log(page.facts.fields);
  const works = new Map(page.facts.drawing.nodes.map((node) => [node.name, node.kind === "stage" || node.kind === "repair"]));
  for (const name of page.facts.drawing.names) if (works.get(name) ?? true) page.palette.variable(name);
  page.end = page.from.follow(name, (kind, data) => {
    if (kind === "events") page.log.add(data.first, data.rows);
    else if (kind === "changes") page.log.addChanges(data);
    else if (kind === "standing") page.standing = data;
    else if (kind === "broken") { page.error = data.error; build(); }
    else page.away = kind === "away";
    later();
  });
}

// ---- drawing: at most once a frame, and four times a second for what is new ---------------------------

let waiting = 0, last = 0, cost = 0;
function later() {
  if (waiting) return;
  const wait = Math.max(0, Math.max(240, 3 * cost) - (performance.now() - last)); // a long run leaves time for the reader
  waiting = setTimeout(() => { waiting = 0; last = performance.now(); update(); }, wait);
}
function now() { if (waiting) clearTimeout(waiting); waiting = 0; requestAnimationFrame(update); }

function update() {
  top();
  if (!page.log) return;
  setFine(page.log.end < 20);
  const began = performance.now(), shown = view();
  for (const one of page.panels) one.update(shown);
  cost = performance.now() - began;
  const end = page.log.end;
  slider.value = String(end ? Math.round((1000 * shown.t) / end) : 1000);
  slider.setAttribute("aria-valuetext", `${clock(shown.t)} of ${clock(end)}`);
  output.textContent = `${clock(shown.t)} of ${clock(end)}`;
  live.setAttribute("aria-pressed", String(page.live));
}

function top() {
  nav.replaceChildren(...VIEWS.map((name) => el("a", { href: address({ view: name }), text: name, "aria-current": name === page.view ? "page" : null })));
  const s = page.standing, f = page.facts, status = page.away ? "connection lost, trying again" : s ? (s.status === "running" ? "running" : s.reason && s.status !== s.reason ? `${s.status}: ${s.reason}` : s.status) : "";
  document.getElementById("player").hidden = !f || page.view === "Runs" || page.view === "Compare";
  if (!f) { head.replaceChildren(); return; }
  const bad = page.away || (s && ["failed", "killed", "unreadable"].includes(s.status));
  head.replaceChildren(el("strong", { text: f.name }), el("span", { text: `${f.graph} on ${f.task} · ${f.schedule}, seed ${f.seed}` }), el("span", { class: bad ? "pill bad" : "pill", role: "status", text: page.live || !s ? status : `at ${clock(moment())} · ${status}` }));
}

function build() {
  page.panels = [];
  main.replaceChildren();
  document.title = `${page.view} · ${page.run || "runs"} · flashgraph view`;
  if (page.error) main.append(el("p", { class: "panel error", text: page.error }));
  if (page.view === "Runs") runsView();
  else if (page.view === "Compare") compareView();
  else if (page.log) BUILD[page.view]();
  else if (!page.error) main.append(el("p", { class: "panel empty", text: "Choose a run in Runs." }));
  now();
}

function add(...panels) { for (const one of panels) { page.panels.push(one); main.append(one.node); } }
const toCall = (id) => { location.hash = address({ view: "Calls", call: id }); };
const toCandidate = (a) => { page.pick = [...page.pick.filter((b) => b.id !== a.id || b.pool !== a.pool), a].slice(-2); if (page.view === "Candidates") build(); else location.hash = address({ view: "Candidates" }); };

const BUILD = {
  Run() { add(tilesPanel(), pipelinePanel(page.facts, () => { location.hash = address({ view: "Pipeline" }); }, true), timelinePanel("w8", { choose: toCall }), scorePanel("w4"), lineagePanel("w5", toCandidate), matrixPanel("w4"), tokensPanel("w3"), newsPanel()); },
  Pipeline() {
    const held = el("div", { class: "scroll" }), other = el("div", { class: "scroll" });
    const stages = panel("Stages", "until the chosen moment"), edges = panel("Edges", "waiting / capacity, and how items ended");
    stages.body.append(held); edges.body.append(other);
    add(pipelinePanel(page.facts, (name) => { page.filters.stage = name; location.hash = address({ view: "Calls" }); }), { node: stages.node, update: (v) => held.replaceChildren(stageTable(v)) }, { node: edges.node, update: (v) => other.replaceChildren(edgeTable(v)) });
  },
  Timeline() { add(timelinePanel("", { height: 460, choose: toCall }), scorePanel("w7"), tokensPanel("w5")); },
  Candidates() {
    const list = panel("Artifacts", "choose two to compare their texts", "w6"), held = el("div", { class: "scroll" }), texts = panel("Texts", "", "w6");
    list.body.append(held);
    const picked = (a) => page.pick.some((b) => b.id === a.id && b.pool === a.pool);
    add(lineagePanel("w7", toCandidate, 320), matrixPanel("w5"), { node: list.node, update: (v) => { const top = held.scrollTop; held.replaceChildren(artifactTable(v, toCandidate, picked)); held.scrollTop = top; } }, { node: texts.node, update: (v) => { if (!page.pick.length && !texts.done) { texts.done = true; pickBest(v); } } });
    if (page.pick.length) { texts.done = true; showTexts(texts); }
  },
  Calls() { callsView(); },
  Losses() { add(...lossesPanels()); },
};

function pickBest(v) {
  const best = v.state.champion && v.artifacts.find((a) => a.id === v.state.champion.artifact && a.pool === v.state.champion.pool);
  const parent = best && best.parents.length && v.artifacts.find((a) => a.id === best.parents[0] && a.pool === best.pool);
  page.pick = [parent, best].filter(Boolean);
  if (page.pick.length) build();
}

async function showTexts({ body, note }) {
  const [a, b] = page.pick;
  try {
    const [one, two] = await Promise.all(page.pick.map((x) => page.from.artifact(page.run, x.pool, x.id)));
    note(two ? `artifact ${a.id} → ${b.id}, word by word` : `artifact ${a.id}; choose another to see the differences`);
    const facts = two || one, names = [...new Set([...Object.keys(one.texts), ...Object.keys(facts.texts)])];
    body.replaceChildren(el("p", { class: "empty", text: `${facts.state}, score ${score(facts.score)}${facts.low !== null && facts.low !== undefined ? ` (${score(facts.low)} to ${score(facts.high)})` : ""}, ${facts.tried ?? "?"} of ${facts.of ?? "?"} samples, lag ${facts.lag}` }),
      ...names.flatMap((name) => [el("h3", { text: name }), two ? differences(one.texts[name] || "", two.texts[name] || "") : el("pre", { text: one.texts[name] })]));
  } catch (error) { body.replaceChildren(el("p", { class: "error", text: error.message })); }
}

// ---- calls -------------------------------------------------------------------------------------------

function callsView() {
  const list = panel("Calls", "", "w7"), inspector = panel("Call", "choose one", "w5"), held = el("div", { class: "scroll" });
  const filters = page.filters, redo = () => { held.scrollTop = 0; now(); };
  const option = (value, text = value) => el("option", { value, text, selected: null });
  const stage = el("select", { "aria-label": "Stage", on: { change: () => { filters.stage = stage.value; redo(); } } }, option("", "all stages"), ...page.facts.drawing.names.map((name) => option(name)));
  const how = el("select", { "aria-label": "End", on: { change: () => { filters.how = how.value; redo(); } } }, option("", "all ends"), ...["out", "done", "cancelled", "failed", "lost", "throttled"].map((name) => option(name)));
  const of = el("input", { type: "search", placeholder: "candidate or sample", "aria-label": "Candidate or sample", value: filters.id, on: { input: () => { filters.id = of.value; redo(); } } });
  stage.value = filters.stage; how.value = filters.how;
  list.body.append(el("form", { class: "filters", on: { submit: (event) => event.preventDefault() } }, stage, how, of), held);
  add({ node: list.node, update: (v) => {
    const state = (c) => (c.end === null || c.end > v.t ? "out" : c.how), about = (c) => [c.of.map(([, id]) => id).join(", "), c.owner.sample || ""];
    const found = v.log.calls.filter((c) => c.start <= v.t && (!filters.stage || c.stage === filters.stage) && (!filters.how || state(c) === filters.how) && (!filters.id || about(c).some((text) => text === filters.id || (filters.id.length > 2 && text.includes(filters.id)))));
    list.note(`${many(found.length)} of ${many(v.log.calls.length)}; the newest ${Math.min(300, found.length)} are listed`);
    const top = held.scrollTop;
    held.replaceChildren(table([["call", (c) => c.id, true], ["stage", (c) => el("span", { class: "key" }, swatch(v.palette.css(c.stage)), el("span", { text: c.stage }))], ["end", state], ["candidate", (c) => about(c)[0], true], ["sample", (c) => about(c)[1]], ["sent", (c) => c.start.toFixed(2), true], ["seconds", (c) => (state(c) === "out" ? (v.t - c.start).toFixed(1) : (c.end - c.start).toFixed(2)), true], ["tokens", (c) => (state(c) === "out" ? "" : many(c.tokens)), true]],
      found.slice(-300).reverse(), { pick: (c) => toCall(c.id), picked: (c) => String(c.id) === page.call, label: "Calls" }));
    held.scrollTop = top;
  } }, { node: inspector.node, update() {} });
  const answered = page.log.calls.filter((c) => c.how === "done" && (!filters.stage || c.stage === filters.stage));
  if (page.call !== null) inspect(inspector, Number(page.call));
  else if (answered.length) inspect(inspector, answered[answered.length - 1].id);
}

async function inspect({ body, note }, id) {
  try {
    const call = await page.from.call(page.run, id), seen = page.log.calls.find((c) => c.id === id);
    if (!call) { body.replaceChildren(el("p", { class: "empty", text: seen ? "It has no answer yet, or its text was left out." : "There is no such call." })); note(String(id)); return; }
    note(`${id}, ${call.stage} on ${call.endpoint}, ${call.prompt_tokens}+${call.completion_tokens} tokens, ${call.seconds.toFixed(2)} s, ${call.finish || call.how}${call.usd ? `, ${money(call.usd)}` : ""}`);
    const group = seen ? page.log.calls.filter((c) => c.job === seen.job && c.id !== id) : [];
    body.replaceChildren(...call.messages.flatMap(([role, text]) => [el("h3", { text: role }), el("pre", { text })]), el("h3", { text: "reply" }), el("pre", { text: call.reply ?? `(none: ${call.how})` }));
    if (group.length) body.append(el("h3", { text: "other requests of the same job" }), ...group.map((c) => el("a", { class: "key", href: address({ view: "Calls", call: c.id }), text: `${c.id} (${c.how})` })));
  } catch (error) { body.replaceChildren(el("p", { class: "error", text: error.message })); }
}

// ---- several runs ------------------------------------------------------------------------------------

async function runsView() {
  const { node, body, note } = panel("Runs", "reading");
  main.append(node);
  page.runs = (await page.from.runs()).runs;
  note(`${page.runs.length}; choose one to see it`);
  const rows = [...page.runs].sort((a, b) => String(b.opened || "").localeCompare(String(a.opened || "")));
  body.replaceChildren(rows.length ? table([["run", (r) => r.name], ["status", (r) => r.status], ["graph", (r) => r.graph], ["task", (r) => r.task], ["schedule", (r) => r.schedule], ["best", (r) => score(r.best), true], ["accepted", (r) => r.accepted, true], ["calls", (r) => (r.calls === null ? "" : many(r.calls)), true], ["tokens", (r) => (r.tokens === null ? "" : many(r.tokens)), true], ["time", (r) => (r.seconds === null ? "" : clock(r.seconds)), true], ["began", (r) => (r.opened || "").replace("T", " ").slice(0, 16)]], rows, { pick: (r) => { location.hash = address({ view: "Run", run: r.name }); }, label: "Runs" }) : el("p", { class: "empty", text: "There is no run in this folder yet." }));
}

let by = "seconds";
async function compareView() {
  const { node, body, note } = panel("Compare", "reading");
  main.append(node);
  page.runs = (await page.from.runs()).runs;
  const all = page.runs.filter((r) => r.best !== null);
  if (!page.chosen.size) for (const r of all.slice(-4)) page.chosen.add(r.name);
  note("up to eight runs");
  const what = el("select", { "aria-label": "Compare by", on: { change: () => { by = what.value; build(); } } }, el("option", { value: "seconds", text: "by seconds" }), el("option", { value: "calls", text: "by calls" }));
  what.value = by;
  const box = (r) => { const input = el("input", { type: "checkbox", "aria-label": `compare ${r.name}`, on: { change: () => { if (input.checked && page.chosen.size < 8) page.chosen.add(r.name); else page.chosen.delete(r.name); build(); } } }); input.checked = page.chosen.has(r.name); return input; };
  body.replaceChildren(el("form", { class: "filters" }, what), el("div", { class: "scroll" }, table([["", box], ["run", (r) => r.name], ["graph", (r) => r.graph], ["schedule", (r) => r.schedule], ["seed", (r) => r.seed, true], ["best", (r) => score(r.best), true], ["time", (r) => clock(r.seconds), true], ["calls", (r) => many(r.calls), true], ["tokens", (r) => many(r.tokens), true], ["money", (r) => money(r.usd || 0), true]], all, { label: "Runs to compare" })));
  const chosen = all.filter((r) => page.chosen.has(r.name)).slice(0, 8);
  const curves = await Promise.all(chosen.map(async (r) => ({ name: r.name, best: r.best, seconds: r.seconds, calls: r.calls, curve: await page.from.curve(r.name) })));
  if (page.view !== "Compare" || !node.isConnected || !curves.length) return;
  const chart = curvesPanel(curves, by);
  main.append(chart.node);
  chart.update();
  page.panels.push(chart);
}

// ---- the slider --------------------------------------------------------------------------------------

slider.addEventListener("input", () => { if (!page.log) return; page.t = (page.log.end * Number(slider.value)) / 1000; page.live = Number(slider.value) >= 1000; now(); });
live.addEventListener("click", () => { page.live = true; page.playing = false; sign(); now(); });
play.addEventListener("click", () => {
  if (!page.log) return;
  page.playing = !page.playing;
  if (page.playing) { page.t = page.live || page.t >= page.log.end ? 0 : page.t; page.live = false; before = performance.now(); requestAnimationFrame(tick); }
  sign();
});
let before = 0;
function tick(at) {
  if (!page.playing) return;
  page.t += ((at - before) / 1000) * Number(speed.value);
  before = at;
  if (page.t >= page.log.end) { page.playing = false; page.live = true; sign(); }
  if (at - last > 66 || !page.playing) { last = at; update(); }
  requestAnimationFrame(tick);
}
function sign() { play.textContent = page.playing ? "❚❚" : "▶"; play.setAttribute("aria-label", page.playing ? "Pause" : "Play"); }

document.addEventListener("keydown", (event) => {
  if (event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement || event.ctrlKey || event.metaKey || event.altKey) return;
  const number = Number(event.key);
  if (number >= 1 && number <= VIEWS.length) location.hash = address({ view: VIEWS[number - 1] });
  else if (event.key === "l") live.click();
  else if (event.key === "p") play.click();
});
addEventListener("hashchange", route);
addEventListener("resize", later);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", now);

/** The state at `t` seconds as plain values, for tests and for the console. */
window.flashgraph = { page, at: (t) => { const { edges, stages, calls, tokens, out, versions, by: cost } = page.log.at(t); return structuredClone({ edges, stages, calls, tokens, out, versions, by: cost }); } };

page.from = await source();
page.first = (await page.from.runs()).first;
await route();
