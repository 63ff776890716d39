// The history of one notebook: a timeline, what changed at a moment, and the way back.
//
// /history/NAME?path=FILE#token=TOKEN   `path` narrows it to one file; the token is taken out of the address at once.
// In JupyterLab's side panel the page is a frame, and speaks with the panel: see `panel.js`.

import { Api } from "./api.js";
import { button, fill, h } from "./dom.js";
import { difference } from "./difference.js";
import { Panel } from "./panel.js";
import { detail } from "./detail.js";
import { timeline } from "./timeline.js";
import { beside, stamp } from "./words.js";

const POLL_MS = 5000;
const SAID_MS = 12_000;
const MOST_CHANGES = 2000;
const MOST_NOTEBOOK = 32 << 20;
const NOW = "now";

const name = decodeURIComponent(location.pathname.split("/").filter(Boolean).at(-1) ?? "");
const api = new Api(name);
const panel = new Panel();

const state = {
  moments: [],
  ofFile: null, // wire.FileMoments of `path`
  path: new URLSearchParams(location.search).get("path") ?? "",
  chosen: "", // a moment's id, or now; empty: none yet
  against: "newer", // the chosen moment is the newer of the two that are compared, or the older one (with now)
  changes: null, // {changes, cut}
  opened: null, // the change whose file is shown
  file: null, // its wire.FileDiff
  trouble: null, // a Problem of what is chosen
  offline: null, // a Problem of the timeline
  loaded: false,
};

const places = {
  head: h("header", { class: "top" }),
  timeline: h("nav", { class: "timeline", "aria-label": "moments" }),
  detail: h("main", { class: "detail", tabindex: "-1" }),
  messages: h("div", { class: "messages", role: "status", "aria-live": "polite" }),
};

let work = new AbortController();

function begin() {
  work.abort();
  work = new AbortController();
  return work.signal;
}

// -- what is compared

const newest = () => state.moments[0] ?? null;
const found = (id) => state.moments.find((moment) => moment.id === id) ?? null;

// {older, newer, against} in ids; null where there is nothing to compare with.
function view() {
  if (state.chosen === NOW) return newest() && { older: newest().id, newer: NOW, against: "older" };
  if (state.against === "older") return { older: state.chosen, newer: NOW, against: "older" };
  const before = state.moments[state.moments.findIndex((moment) => moment.id === state.chosen) + 1];
  return before ? { older: before.id, newer: state.chosen, against: "newer" } : null;
}

// `keep` is a change whose file stays open.
async function load(keep = null) {
  const signal = begin();
  const what = view();
  const opened = state.path ? { change: "changed", path: state.path, kind: "file" } : keep;
  Object.assign(state, { changes: null, file: null, trouble: null, opened });
  draw();
  if (!state.chosen) return;
  try {
    if (!what) await first(signal);
    else if (opened) await openFile(opened, signal);
    if (what && !state.path) state.changes = await api.diff(what.older, what.newer, MOST_CHANGES, signal);
  } catch (error) {
    if (signal.aborted) return;
    state.trouble = error;
  }
  if (!signal.aborted) draw();
}

// The first moment of all has nothing before it: everything in it was there then.
async function first(signal) {
  const answer = await api.json("GET", "files", { at: state.chosen, limit: MOST_CHANGES }, undefined, signal);
  const changes = answer.items.map((entry) => ({ change: "added", path: entry.name, kind: entry.kind, before: null, after: entry.size }));
  state.changes = { changes, cut: answer.total > changes.length ? `${answer.total} entries` : "" };
}

async function openFile(change, signal = begin()) {
  state.opened = change;
  state.file = null;
  const what = view();
  if (what && change.kind !== "directory") {
    state.file = await api.diffFile(what.older, what.newer, change.path, change.was ?? "", signal);
    if (!change.was) {
      const gone = state.file.after === null;
      state.opened = { ...change, change: gone ? "removed" : state.file.before === null ? "added" : "changed" };
    }
  }
  return state.file;
}

async function openChange(change) {
  const signal = begin();
  state.trouble = null;
  state.opened = change;
  state.file = null;
  draw();
  try {
    await openFile(change, signal);
  } catch (error) {
    if (signal.aborted) return;
    state.trouble = error;
  }
  if (!signal.aborted) draw();
}

// -- acts

function say(words, ...more) {
  const line = h("p", {}, h("span", {}, words), more, button("×", () => line.remove(), { class: "small", "aria-label": "dismiss" }));
  fill(places.messages, line);
  if (!more.length) setTimeout(() => line.remove(), SAID_MS);
}

const complain = (error) => say(error.hint ? `${error.message}. ${error.hint}` : error.message);

async function act(run) {
  try {
    await run();
  } catch (error) {
    complain(error);
  }
  await refresh();
}

const restore = (from) =>
  act(async () => {
    await panel.settle(from.path);
    const before = await api.restore(from.moment, from.path);
    panel.restored(from.path);
    const words = `${from.path} is as it was${told(from.moment)}.`;
    say(words, button("Undo", () => undo(before, from.path), { class: "small" }));
    if (state.chosen === NOW || state.against === "older") await load(state.opened);
  });

const told = (id) => (found(id) ? ` at ${stamp(found(id).created)}` : "");

const undo = (before, path) =>
  act(async () => {
    try {
      await api.restore(before.id, path);
    } catch (error) {
      if (error.status !== 404) throw error;
      say(`${path} was not there before. Delete it in JupyterLab if you do not want it.`);
      return;
    }
    panel.restored(path);
    say(`${path} is as it was before the restore again.`);
  });

const restoreBeside = (from) =>
  act(async () => {
    const at = found(from.moment)?.created ?? Date.now() / 1000;
    for (let attempt = 0; ; attempt += 1) {
      const to = beside(from.path, at, attempt);
      try {
        await api.restore(from.moment, from.path, to);
      } catch (error) {
        if (error.status === 409 && attempt < 20) continue;
        throw error;
      }
      panel.made(to);
      say(`${to} is the copy${told(from.moment)}. The file itself is untouched.`);
      return;
    }
  });

const download = (from) =>
  act(async () => {
    const url = URL.createObjectURL(await api.read(from.moment, from.path));
    h("a", { href: url, download: from.path.split("/").at(-1) }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  });

const snapshot = (message) =>
  act(async () => {
    await panel.settle("");
    const made = await api.snapshot(message);
    say(message ? `Kept: ${message}.` : "Kept this moment.");
    await refresh();
    choose(made.id);
  });

const hold = (moment, reason) => act(() => api.hold(moment.id, reason));
const release = (moment) => act(() => api.release(moment.id));

async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    say("Copied.");
  } catch {
    say("The browser does not let this page copy; select the text instead.");
  }
}

// The notebook file as it was on one side of what is compared, read once.
let read = { key: "", sides: {} };
function notebookOf(side) {
  const what = view();
  const key = `${what.older} ${what.newer} ${state.file.path}`;
  if (read.key !== key) read = { key, sides: {} };
  const size = side === "older" ? state.file.before : state.file.after;
  if (size > MOST_NOTEBOOK) throw new Error("The notebook is too large to show its outputs here.");
  const path = side === "older" ? state.file.was || state.file.path : state.file.path;
  read.sides[side] ??= api.read(what[side], path).then((blob) => blob.text()).then(JSON.parse);
  return read.sides[side];
}

// -- choosing

function choose(id) {
  if (state.chosen !== id) {
    state.chosen = id;
    load();
  }
  document.body.classList.add("chosen");
}

function back() {
  if (state.opened && !state.path) {
    begin();
    Object.assign(state, { opened: null, file: null, trouble: null });
    draw();
    places.detail.querySelector(".changes button")?.focus();
    return;
  }
  document.body.classList.remove("chosen");
  places.timeline.querySelector("[aria-current=true]")?.focus();
}

function show(path) {
  if (path === state.path) return;
  Object.assign(state, { path, ofFile: null, chosen: "", changes: null, opened: null, file: null, trouble: null });
  document.body.classList.remove("chosen");
  const address = new URL(location.href);
  if (path) address.searchParams.set("path", path);
  else address.searchParams.delete("path");
  history.replaceState(null, "", address);
  begin();
  draw();
  refresh();
}

// -- drawing

const wide = matchMedia("(min-width: 62rem)");
let split = null; // what the user has chosen; null: by the width

function draw() {
  drawTimeline();
  drawDetail();
}

function drawTimeline() {
  document.title = `${state.path ? `${state.path} · ` : ""}${name} · history`;
  fill(places.head, ...top());
  timeline(places.timeline, { ...state, onchoose: choose, onall: () => show("") });
}

function drawDetail() {
  if (!state.loaded || !state.chosen) {
    fill(places.detail, state.loaded && h("p", { class: "quiet hello" }, state.moments.length ? "Choose a moment." : ""));
    return;
  }
  const what = view();
  const side = split ?? wide.matches;
  detail(places.detail, {
    ...state,
    what,
    moment: found(state.chosen),
    split: side,
    difference: state.file && difference(state.file, { split: side, outputs: notebookOf, copy, insert: panel.inside ? (cell) => panel.insert(state.file.path, cell) : null }),
    on: { back, openChange, restore, restoreBeside, download, hold, release, against, split: () => ((split = !side), draw()), only: show },
  });
}

function against(which) {
  if (state.against === which) return;
  state.against = which;
  load(state.opened?.was ? null : state.opened);
}

function top() {
  const message = h("input", { type: "text", name: "message", placeholder: "What is this moment?", "aria-label": "message of the snapshot", maxlength: "500", autocomplete: "off" });
  const form = h(
    "form",
    {
      class: "keep",
      onsubmit: (event) => {
        event.preventDefault();
        const words = message.value.trim();
        message.value = "";
        snapshot(words);
      },
    },
    message,
    h("button", { type: "submit", title: "Keep the files as they are now" }, "Keep now"),
  );
  if (top.made) return top.titles(), [top.made];
  const title = h("h1", {});
  top.titles = () =>
    fill(
      title,
      h("span", { class: "name" }, name),
      state.path ? h("span", { class: "scope" }, state.path, panel.inside ? null : button("×", () => show(""), { class: "small", "aria-label": "show all files", title: "Show all files" })) : null,
    );
  top.titles();
  top.made = h("div", { class: "bar" }, title, form);
  return [top.made];
}

// -- what comes in

let refreshing = false;

async function refresh() {
  if (refreshing || !api.token) return;
  refreshing = true;
  try {
    const path = state.path;
    const moments = await api.history();
    const ofFile = path ? await api.ofFile(path) : null;
    if (path !== state.path) return;
    const key = JSON.stringify([moments, ofFile]);
    const changed = key !== refresh.last || state.offline || !state.loaded;
    refresh.last = key;
    const chosen = found(state.chosen);
    const newer = newest()?.id !== moments[0]?.id;
    Object.assign(state, { moments, ofFile, offline: null, loaded: true });
    if (state.trouble?.status === 0) return load(state.opened); // it was out of reach
    if (!changed) return;
    if (!state.chosen && wide.matches && moments.length) state.chosen = NOW; // there is room for both
    else if (state.chosen !== NOW && !found(state.chosen)) state.chosen = ""; // pruned, or another file's
    else if (state.chosen !== NOW || !newer) {
      drawTimeline(); // what is looked at stays as it is, unless it is another now
      if (JSON.stringify(chosen) !== JSON.stringify(found(state.chosen))) drawDetail();
      return;
    }
    await load(state.opened);
  } catch (error) {
    if (error.status === 401) return ask();
    state.offline = error;
    state.loaded = true;
    drawTimeline();
  } finally {
    refreshing = false;
  }
}

let timer = 0;

async function poll() {
  clearTimeout(timer);
  if (!document.hidden && api.token) await refresh();
  timer = setTimeout(poll, POLL_MS);
}

// -- the token

function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1));
  if (given.get("theme")) theme(given.get("theme"));
  const token = given.get("token");
  if (token) api.token = token;
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
}

function ask() {
  const wrong = Boolean(api.token);
  const field = h("input", { type: "password", name: "token", "aria-label": "token", autocomplete: "off", required: true });
  const form = h(
    "form",
    {
      class: "ask",
      onsubmit: (event) => {
        event.preventDefault();
        api.token = field.value.trim();
        start();
      },
    },
    h("h1", {}, name),
    h("p", {}, wrong ? "The appliance does not take this token for this notebook." : "This page needs the token of the notebook."),
    h("p", { class: "quiet" }, "On a terminal ", h("code", {}, `appliance notebook url ${name} --history`), " prints this page's address with it."),
    h("div", { class: "keep" }, field, h("button", { type: "submit" }, "Open")),
  );
  api.forget();
  clearTimeout(timer);
  fill(document.body, h("div", { class: "asking" }, form));
  field.focus();
}

const theme = (which) => (document.documentElement.dataset.theme = which === "dark" ? "dark" : "light");

function start() {
  if (!api.token) return ask();
  fill(document.body, places.head, h("div", { class: "body" }, places.timeline, places.detail), places.messages);
  draw();
  return poll();
}

panel.on({ show, theme, token: (token) => ((api.token = token), start()) });
document.body.classList.toggle("panel", panel.inside);
document.addEventListener("visibilitychange", () => !document.hidden && poll());
window.addEventListener("hashchange", () => (takeToken(), start()));
wide.addEventListener("change", () => split === null && state.loaded && draw());
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && document.body.classList.contains("chosen")) back();
});
takeToken();
start();
