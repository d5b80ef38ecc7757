// Where the page's facts come from: the server, or the file itself if it was exported.

async function unpacked(element) {
  const bytes = Uint8Array.from(atob(element.textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

async function get(path, query = {}) {
  const answer = await fetch(`${path}?${new URLSearchParams(query)}`, { credentials: "same-origin" });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error || `the server answered ${answer.status}`);
  return found;
}

class Served {
  runs() { return get("/api/runs"); }
  run(name) { return get("/api/run", { run: name }); }
  curve(name) { return get("/api/curve", { run: name }); }
  call(name, id) { return get("/api/call", { run: name, id }); }
  artifact(name, pool, id) { return get("/api/artifact", { run: name, pool, id }); }

  /** Call `heard(kind, data)` for all that the run tells; returns a function that ends it. */
  follow(name, heard) {
    const stream = new EventSource(`/api/stream?${new URLSearchParams({ run: name })}`);
    for (const kind of ["events", "changes", "standing", "broken"]) stream.addEventListener(kind, (event) => heard(kind, JSON.parse(event.data)));
    stream.addEventListener("error", () => heard("away", null));
    stream.addEventListener("open", () => heard("here", null));
    return () => stream.close();
  }
}

class Embedded {
  constructor(data) { this.data = data; }
  async runs() { return { first: this.data.run.name, runs: [this.data.standing] }; }
  async run() { return this.data.run; }
  async curve() { return this.data.curve; }
  async call(name, id) { return this.data.calls[id] || null; }
  async artifact(name, pool, id) { return this.data.artifacts[`${pool} ${id}`]; }
  follow(name, heard) {
    heard("events", { first: 0, rows: this.data.events });
    heard("changes", this.data.changes);
    heard("standing", this.data.standing);
    return () => {};
  }
}

export async function source() {
  const held = document.getElementById("data");
  return held ? new Embedded(await unpacked(held)) : new Served();
}
