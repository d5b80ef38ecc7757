// The log of a run, and the state that it leads to at any moment: a fold over its events.

const KEEP = 100000; // events between two kept states, so that the slider goes back fast

/** Positions of the fields of each class of event in its list. */
function places(fields) {
  const found = {};
  for (const [kind, names] of Object.entries(fields)) {
    found[kind] = {};
    names.forEach((name, k) => { found[kind][name] = k + 2; });
  }
  return found;
}

function blank() {
  return {
    events: 0, at: 0, edges: {}, stages: {}, open: new Map(), jobs: new Map(), items: new Map(), out: 0, most: 0,
    calls: 0, failed: 0, cut: 0, tokens: 0, cutTokens: 0, usd: 0, unpriced: 0, by: {}, losses: {}, limits: {}, down: {},
    served: {}, used: {}, reserved: {}, versions: {}, admitted: 0, champion: null, lags: {}, verdicts: {}, news: [], end: null,
    ending: new Map(), // requests that ended at this very moment: a resume counts those of a session's end anew
  };
}

function copied(state) {
  const found = structuredClone(state);
  return found;
}

const stageOf = (s, name) => (s.stages[name] ??= { busy: 0, started: 0, done: 0, failed: 0, cancelled: 0, lag: 0, out: 0, parked: 0 });
const edgeOf = (s, name) => (s.edges[name] ??= { depth: 0, made: 0, consumed: 0, filtered: 0, discarded: 0, cancelled: 0, failed: 0 });
const costOf = (s, name) => (s.by[name] ??= { calls: 0, cut: 0, failed: 0, tokens: 0, cutTokens: 0, usd: 0, seconds: 0 });

const lostKey = (what, where, cause) => `${what}\u0000${where}\u0000${cause}`;

/** Take a request out of the sums. */
function uncounted(s, { stage, how, tokens, usd, seconds, key }) {
  const cost = costOf(s, stage);
  cost.calls -= 1; cost.tokens -= tokens; cost.usd -= usd || 0; cost.seconds -= seconds;
  s.calls -= 1; s.tokens -= tokens; s.usd -= usd || 0;
  if (usd === null) s.unpriced -= 1;
  if (how === "failed") { cost.failed -= 1; s.failed -= 1; }
  if (how !== "done") { cost.cut -= 1; cost.cutTokens -= tokens; s.cut -= 1; s.cutTokens -= tokens; const l = s.losses[key]; l.count -= 1; l.tokens -= tokens; l.usd -= usd || 0; if (!l.count) delete s.losses[key]; }
}

function lost(s, what, where, cause, tokens = 0, usd = 0) {
  const key = lostKey(what, where, cause);
  const found = (s.losses[key] ??= { what, where, cause, count: 0, tokens: 0, usd: 0 });
  found.count += 1; found.tokens += tokens; found.usd += usd;
}

/** One step of the fold for each class of event: `e` gives a field of the event. */
const STEPS = {
  Created(s, e) { edgeOf(s, e("edge")).made += 1; s.items.set(e("item"), { edge: e("edge"), at: s.at, waits: false }); },
  Queued(s, e) { edgeOf(s, e("edge")).depth = e("depth"); const i = s.items.get(e("item")); if (i) { i.waits = true; i.at = s.at; } },
  Dequeued(s, e) { edgeOf(s, e("edge")).depth = e("depth"); const i = s.items.get(e("item")); if (i) i.waits = false; },
  Ended(s, e) {
    const item = s.items.get(e("item")); s.items.delete(e("item"));
    const edge = item ? item.edge : "?", how = e("how");
    edgeOf(s, edge)[how] += 1;
    if (how !== "consumed") lost(s, how, edge, e("reason") || (how === "filtered" && e("cause") === "done" ? "its condition was false" : e("cause")));
  },
  JobStarted(s, e) {
    const stage = stageOf(s, e("stage"));
    stage.busy += 1; stage.started += 1; stage.lag = e("lag") || 0;
    s.jobs.set(e("job"), e("stage"));
    if (e("lag")) s.lags[e("lag")] = (s.lags[e("lag")] || 0) + 1;
  },
  JobEnded(s, e) {
    const stage = stageOf(s, e("stage"));
    stage.busy = Math.max(0, stage.busy - 1); stage[e("how")] += 1; s.jobs.delete(e("job"));
    if (e("how") === "failed") { lost(s, "job failed", e("stage"), e("reason") || e("cause")); news(s, "failed", `${e("stage")}: ${e("reason") || e("cause")}`); }
  },
  CallStarted(s, e) {
    const stage = s.jobs.get(e("job")) || e("role");
    s.open.set(e("call"), { stage, at: s.at }); s.out += 1; s.most = Math.max(s.most, s.out); stageOf(s, stage).out += 1;
  },
  CallEnded(s, e) {
    const again = s.ending.get(e("call")), call = again || s.open.get(e("call"));
    if (again) uncounted(s, again);
    const stage = call ? call.stage : s.jobs.get(e("job")) || e("role"), how = e("how");
    if (call && !again) { s.open.delete(e("call")); s.out -= 1; stageOf(s, stage).out -= 1; }
    if (how === "throttled") { lost(s, "throttled", stage, "429: the server asked to wait"); return; }
    const tokens = e("prompt_tokens") + e("completion_tokens"), cost = costOf(s, stage);
    s.ending.set(e("call"), { stage, how, tokens, usd: e("usd"), seconds: e("seconds"), key: how === "done" ? null : lostKey(`call ${how}`, stage, how) });
    cost.calls += 1; cost.tokens += tokens; cost.usd += e("usd") || 0; cost.seconds += e("seconds");
    s.calls += 1; s.tokens += tokens; s.usd += e("usd") || 0;
    if (e("usd") === null) s.unpriced += 1;
    if (how === "failed") { cost.failed += 1; s.failed += 1; }
    if (how !== "done") { cost.cut += 1; cost.cutTokens += tokens; s.cut += 1; s.cutTokens += tokens; lost(s, `call ${how}`, stage, how, tokens, e("usd") || 0); }
  },
  EdgeFailed(s, e) { lost(s, "edge failed", e("edge"), e("error")); news(s, "failed", `${e("edge")}: ${e("error")}`); },
  GroupFailed(s, e) { lost(s, "group failed", e("edge"), `${e("failed")} of ${e("size")} members`); },
  Repaired(s, e) { const v = (s.verdicts[e("stage")] ??= { accept: 0, patch: 0, discard: 0 }); v[e("verdict")] += 1; },
  Admitted(s, e) { s.versions[e("pool")] = e("version"); s.admitted += 1; },
  Confirmed(s, e) { s.versions[e("pool")] = e("version"); },
  Retracted(s, e) { s.versions[e("pool")] = e("version"); lost(s, "retracted", e("pool"), "more evidence spoke against it"); },
  EvidenceAdded(s, e) { s.versions[e("pool")] = e("version"); },
  ChampionChanged(s, e) {
    const before = s.champion, evidence = e("evidence");
    s.champion = { pool: e("pool"), artifact: e("artifact"), score: evidence ? evidence.estimate : e("score"), evidence, provisional: e("provisional") };
    if (!before || before.artifact !== e("artifact")) news(s, "best", `artifact ${e("artifact")}${s.champion.score === null ? "" : `, ${Number(s.champion.score).toFixed(3)}`}`);
  },
  LimitChanged(s, e) { s.limits[e("endpoint")] = e("limit"); },
  EndpointDown(s, e) { s.down[e("endpoint")] = e("reason"); news(s, "down", `${e("endpoint")}: ${e("reason")}`); },
  EndpointUp(s, e) { delete s.down[e("endpoint")]; news(s, "up", e("endpoint")); },
  Served(s, e) { s.served[e("endpoint")] = { running: e("running"), waiting: e("waiting"), cache: e("cache") }; },
  Account(s, e) { s.used = e("used"); s.reserved = e("reserved"); },
  Reopened(s) { s.end = null; s.ending.clear(); for (const stage of Object.values(s.stages)) stage.busy += stage.parked; for (const stage of Object.values(s.stages)) stage.parked = 0; },
  RunEnded(s, e) { for (const stage of Object.values(s.stages)) { stage.parked += stage.busy; stage.busy = 0; } s.end = { status: e("status"), reason: e("reason") }; },
};

function news(s, kind, text) { s.news = [{ at: s.at, kind, text }, ...s.news].slice(0, 8); }

export class Log {
  constructor(fields) {
    this.places = places(fields);
    this.rows = [];
    this.calls = []; // every request, in the order in which it was sent
    this.curve = []; // [seconds, calls, score, artifact, low, high]
    this.limits = []; // [seconds, endpoint, limit]
    this.changes = []; // of pools: see StoredChange
    this.known = new Set();
    this.end = 0;
    this.slots = 0;
    this._byId = new Map();
    this._jobs = new Map();
    this._samples = new Map();
    this._items = new Map();
    this._texts = new Map();
    this._taken = [];
    this._count = 0;
    this._kept = [blank()];
    this._last = null;
  }

  /** Add events from number `first` on; events that are known already are skipped. */
  add(first, rows) {
    for (const row of rows.slice(Math.max(0, this.rows.length - first))) {
      // Names are the same in a million rows: one string for each saves most of the memory.
      for (let k = 0; k < row.length; k += 1) if (typeof row[k] === "string" && row[k].length < 64) row[k] = this._same(row[k]);
      this.end = Math.max(this.end, row[1]);
      this._index(row);
      // The fold needs only the first fields of an item; the index has its ancestors.
      this.rows.push(row[0] === "Created" ? row.slice(0, this.places.Created.edge + 1) : row);
    }
  }

  _same(text) {
    const found = this._texts.get(text);
    if (found !== undefined) return found;
    this._texts.set(text, text);
    return text;
  }

  addChanges(changes) {
    for (const row of changes) {
      const key = `${row[0]} ${row[1]}`;
      if (this.known.has(key)) continue;
      this.known.add(key);
      const [pool, version, at, kind, artifact, parents, lag, provisional, score, scores] = row;
      this.changes.push({ pool, version, at, kind, artifact, parents, lag, provisional, score, scores });
      this.end = Math.max(this.end, at);
    }
  }

  _index(row) {
    const [kind, at] = row, p = this.places[kind];
    if (kind === "JobStarted") this._jobs.set(row[p.job], { stage: row[p.stage], item: row[p.item], at });
    else if (kind === "SampleUsed") { const job = this._jobs.get(row[p.job]); if (job) job.sample = `${row[p.split]} ${row[p.index]}`; }
    else if (kind === "Created") { if (row[p.lineage].length) this._items.set(row[p.item], row[p.lineage]); }
    else if (kind === "Ended") this._items.delete(row[p.item]);
    else if (kind === "JobEnded") this._jobs.delete(row[p.job]);
    else if (kind === "CallStarted") {
      const job = this._jobs.get(row[p.job]) || {};
      let slot = this._taken.indexOf(false);
      if (slot < 0) slot = this._taken.length;
      this._taken[slot] = true;
      this.slots = Math.max(this.slots, slot + 1);
      const call = {
        id: row[p.call], job: row[p.job], stage: job.stage || row[p.role], role: row[p.role], endpoint: row[p.endpoint], slot,
        start: at, end: null, how: "out", tokens: 0, prompt: 0, usd: null, finish: "", of: this._items.get(job.item) || [], owner: job,
      };
      this.calls.push(call);
      this._byId.set(call.id, call);
    } else if (kind === "CallEnded") {
      if (row[p.how] !== "throttled") this._count += 1;
      const call = this._byId.get(row[p.call]);
      if (!call) return;
      if (call.end === null) this._taken[call.slot] = false;
      Object.assign(call, { end: at, how: row[p.how], prompt: row[p.prompt_tokens], tokens: row[p.prompt_tokens] + row[p.completion_tokens], usd: row[p.usd], finish: row[p.finish] });
    } else if (kind === "ChampionChanged") {
      const evidence = row[p.evidence], score = evidence ? evidence.estimate : row[p.score];
      if (score !== null && !row[p.provisional]) this.curve.push([at, this._count, score, row[p.artifact], ...(evidence ? evidence.interval : [null, null])]);
    } else if (kind === "LimitChanged") this.limits.push([at, row[p.endpoint], row[p.limit]]);
    else if (kind === "Reopened") {
      for (const call of this.calls) if (call.end === null) { call.end = at; call.how = "lost"; }
      this._taken.fill(false);
    }
  }

  /** The state after all events up to `t` seconds. */
  at(t) {
    let low = 0, high = this.rows.length; // times never fall, apart from rounding
    while (low < high) { const middle = (low + high) >> 1; if (this.rows[middle][1] <= t) low = middle + 1; else high = middle; }
    return this.after(low);
  }

  /** The state after the first `count` events. */
  after(count) {
    let state = this._last;
    if (!state || state.events > count) {
      const k = Math.min(this._kept.length - 1, Math.floor(count / KEEP));
      state = copied(this._kept[k]);
    }
    for (let n = state.events; n < count; n += 1) {
      const row = this.rows[n], step = STEPS[row[0]], p = this.places[row[0]];
      if (row[1] > state.at && !state.end) state.ending.clear();
      state.at = Math.max(state.at, row[1]);
      state.events = n + 1;
      if (step) step(state, (name) => row[p[name]]);
      if (state.events % KEEP === 0 && this._kept.length === state.events / KEEP) this._kept.push(copied(state));
    }
    this._last = state;
    return state;
  }

  /** The artifacts as they were at `t` seconds: for each its last change, and its admission. */
  artifacts(t) {
    const found = new Map();
    for (const change of this.changes) {
      if (change.at > t) continue;
      const key = `${change.pool} ${change.artifact}`, before = found.get(key);
      const solved = change.scores.reduce((sum, [, score]) => sum + score, 0);
      found.set(key, {
        pool: change.pool, id: change.artifact, at: before ? before.at : change.at, lag: before ? before.lag : change.lag,
        parents: before ? before.parents : change.parents, scores: change.scores, score: change.score,
        mean: change.scores.length ? solved / change.scores.length : change.score,
        state: change.kind === "retract" ? "retracted" : change.provisional ? "provisional" : "confirmed",
      });
    }
    return [...found.values()].sort((a, b) => a.at - b.at || a.id - b.id);
  }
}
