// Small parts that the views share.  Text goes in as text only: no view ever parses markup.

export function el(name, options = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "text") made.textContent = value;
    else if (key === "on") for (const [kind, act] of Object.entries(value)) made.addEventListener(kind, act);
    else if (key === "css") Object.assign(made.style, value);
    else made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function shape(name, options = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(options)) {
    if (key === "text") made.textContent = value;
    else if (value !== undefined && value !== null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

let fine = false;
/** Show tenths of a second: for runs of a few seconds. */
export const setFine = (wanted) => { fine = wanted; };
export const clock = (seconds) => {
  if (fine) return `${(seconds || 0).toFixed(seconds < 1 ? 2 : 1)} s`;
  const whole = Math.floor(seconds || 0), two = (n) => String(n).padStart(2, "0");
  return whole >= 3600 ? `${Math.floor(whole / 3600)}:${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}` : `${Math.floor(whole / 60)}:${two(whole % 60)}`;
};
export const many = (n) => (n >= 1e6 ? `${(n / 1e6).toFixed(2)} M` : n >= 1e4 ? `${Math.round(n / 1000)} k` : Math.round(n).toLocaleString("en"));
export const score = (n) => (n === null || n === undefined ? "–" : Number(n).toFixed(3));
export const share = (part, of) => (of ? `${Math.round((100 * part) / of)} %` : "–");
export const money = (usd) => (usd >= 100 ? `$${usd.toFixed(0)}` : `$${usd.toFixed(usd && usd < 0.1 ? 4 : 2)}`);

export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** A colour for each stage, the same everywhere on the page. */
export class Palette {
  constructor() { this.names = new Map(); }
  variable(stage) {
    if (!this.names.has(stage)) this.names.set(stage, `--s${this.names.size % 8}`);
    return this.names.get(stage);
  }
  of(stage) { return colour(this.variable(stage)); }
  css(stage) { return `var(${this.variable(stage)})`; }
}

export const swatch = (background) => el("span", { class: "swatch", css: { background }, "aria-hidden": "true" });

export function panel(title, note, width = "") {
  const body = el("div"), small = el("small", { text: note });
  const node = el("section", { class: `panel ${width}`, "aria-label": title }, el("h2", {}, el("span", { text: title }), small), body);
  return { node, body, note: (text) => { small.textContent = text; } };
}

/** A table: `columns` are [title, cell(row), is it a number]. */
export function table(columns, rows, { pick, picked, label, tight } = {}) {
  const head = el("tr", {}, ...columns.map(([title, , number]) => el("th", { text: title, scope: "col", class: number ? "n" : null })));
  const body = rows.map((row) => {
    const cells = columns.map(([, cell, number]) => {
      const found = cell(row);
      return found instanceof Node ? el("td", { class: number ? "n" : null }, found) : el("td", { class: number ? "n" : null, text: found ?? "" });
    });
    const act = pick && (() => pick(row));
    const keys = pick && { click: act, keydown: (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); } } };
    return el("tr", pick ? { class: "pick", tabindex: "0", "aria-selected": String(Boolean(picked && picked(row))), on: keys } : {}, ...cells);
  });
  return el("table", { "aria-label": label, class: tight ? "tight" : null }, el("thead", {}, head), el("tbody", {}, ...body));
}

/** The table twin of a chart, made only while it is open. */
export function twin(make) {
  const held = el("div", { class: "scroll" });
  const node = el("details", {}, el("summary", { text: "as a table" }), held);
  const update = () => { if (node.open) held.replaceChildren(make()); };
  node.addEventListener("toggle", update);
  return { node, update };
}

/** Differences of two texts, word by word. */
export function words(before, after) {
  const a = before.split(/(\s+)/), b = after.split(/(\s+)/);
  let from = 0;
  while (from < a.length && from < b.length && a[from] === b[from]) from += 1;
  let back = 0;
  while (back < a.length - from && back < b.length - from && a[a.length - 1 - back] === b[b.length - 1 - back]) back += 1;
  const x = a.slice(from, a.length - back), y = b.slice(from, b.length - back), found = [];
  found.push(["same", a.slice(0, from).join("")]);
  if (x.length * y.length > 4e6) found.push(["del", x.join("")], ["ins", y.join("")]);
  else {
    const size = y.length + 1, best = new Uint32Array((x.length + 1) * size);
    for (let i = x.length - 1; i >= 0; i -= 1) for (let j = y.length - 1; j >= 0; j -= 1) {
      best[i * size + j] = x[i] === y[j] ? best[(i + 1) * size + j + 1] + 1 : Math.max(best[(i + 1) * size + j], best[i * size + j + 1]);
    }
    let i = 0, j = 0;
    while (i < x.length || j < y.length) {
      if (i < x.length && j < y.length && x[i] === y[j]) { found.push(["same", x[i]]); i += 1; j += 1; }
      else if (j < y.length && (i === x.length || best[i * size + j + 1] >= best[(i + 1) * size + j])) { found.push(["ins", y[j]]); j += 1; }
      else { found.push(["del", x[i]]); i += 1; }
    }
  }
  found.push(["same", a.slice(a.length - back).join("")]);
  const merged = [];
  for (const [kind, text] of found) {
    const last = merged[merged.length - 1];
    if (last && last[0] === kind) last[1] += text; else if (text) merged.push([kind, text]);
  }
  return merged;
}

export function differences(before, after) {
  const made = el("pre");
  for (const [kind, text] of words(before, after)) made.append(kind === "same" ? document.createTextNode(text) : el(kind, { text }));
  return made;
}
