// The API of one notebook. Its token is kept for this tab only, is sent in a header, and never stands in an address.
// It is sent as `token`, which the daemon's own, a `Bearer`, is never: given here by mistake that one opens nothing, and
// is not kept where other pages of this front door can read it.

export class Problem extends Error {
  constructor(status, message, hint) {
    super(message);
    this.status = status;
    this.hint = hint;
  }
}

export class Api {
  constructor(name) {
    this.name = name;
    this.base = `/v1/notebooks/${encodeURIComponent(name)}/`;
    this.key = `appliance-token:${name}`;
  }

  get token() {
    return this.given ?? sessionStorage.getItem(this.key) ?? "";
  }

  set token(value) {
    this.given = value;
  }

  forget() {
    this.given = undefined;
    sessionStorage.removeItem(this.key);
  }

  async call(method, path, query = {}, body = undefined, signal = undefined) {
    const given = Object.entries(query).filter(([, value]) => value !== "" && value !== undefined);
    const search = given.length ? `?${new URLSearchParams(given)}` : "";
    const token = this.token;
    const headers = { Authorization: `token ${token}`, "X-Appliance-Author": "browser" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let answer;
    try {
      answer = await fetch(this.base + path + search, {
        method,
        headers,
        body: body === undefined ? undefined : JSON.stringify(body),
        credentials: "omit",
        cache: "no-store",
        signal,
      });
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new Problem(0, "The appliance does not answer", "This page goes on as soon as it does.");
    }
    if (!answer.ok) throw await problem(answer);
    sessionStorage.setItem(this.key, token);
    return answer;
  }

  async json(method, path, query, body, signal) {
    const answer = await this.call(method, path, query, body, signal);
    return answer.status === 204 ? null : answer.json();
  }

  async history() {
    return (await this.json("GET", "history")).items;
  }

  ofFile(path) {
    return this.json("GET", "history/file", { path });
  }

  // Every change between two moments, at most `limit`; {changes, cut}.
  async diff(older, newer, limit, signal) {
    const answer = await this.call("GET", "diff", { from: older, to: newer, limit }, undefined, signal);
    const lines = (await answer.text()).split("\n").filter((line) => line).map((line) => JSON.parse(line));
    const end = lines.at(-1)?.end ? lines.pop() : { cut: "the answer was broken off" };
    return { changes: lines, cut: end.cut };
  }

  diffFile(older, newer, path, was, signal) {
    return this.json("GET", "diff/file", { from: older, to: newer, path, was }, undefined, signal);
  }

  async read(moment, path, signal) {
    return (await this.call("GET", "file", { at: moment, path }, undefined, signal)).blob();
  }

  snapshot(message) {
    return this.json("POST", "snapshot", {}, { message });
  }

  restore(snapshot, path, to = "") {
    return this.json("POST", "restore", {}, { snapshot, path, to });
  }

  hold(snapshot, reason) {
    return this.json("PUT", `snapshots/${encodeURIComponent(snapshot)}/hold`, {}, { reason });
  }

  release(snapshot) {
    return this.json("DELETE", `snapshots/${encodeURIComponent(snapshot)}/hold`);
  }
}

async function problem(answer) {
  try {
    const told = await answer.json();
    const detail = told.detail || told.title || `status ${answer.status}`;
    return new Problem(answer.status, detail, told.hint ?? "");
  } catch {
    return new Problem(answer.status, `The appliance answered with status ${answer.status}`, "");
  }
}
