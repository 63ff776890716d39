// The moments, newest first, by day; those of one file only where it changed.

import { button, fill, h } from "./dom.js";
import { about, byDay, clock, size, stamp, title } from "./words.js";

const NOW = "now";

export function timeline(place, state) {
  const focused = place.contains(document.activeElement) ? document.activeElement.dataset.id : "";
  const scroll = place.scrollTop;
  const shown = state.ofFile ? ofFile(state) : state.moments.map((moment) => ({ ...moment, file: null }));
  const at = Date.now() / 1000;
  const days = byDay(shown, at);
  const parts = [];
  if (state.offline) parts.push(h("p", { class: "note" }, words(state.offline)));
  if (!state.loaded || (state.path && !state.ofFile && !state.offline)) parts.push(h("p", { class: "quiet" }, "Reading the history…"));
  else if (!state.moments.length && !state.offline) {
    parts.push(h("p", { class: "quiet" }, "No moments are kept yet. One is whenever a session starts or ends, after you save, and when you press Keep now."));
  } else {
    parts.push(h("ul", {}, h("li", {}, now(state))));
    for (const day of days) {
      parts.push(h("h2", {}, day.title), h("ul", {}, day.moments.map((moment) => h("li", {}, item(moment, state)))));
    }
    if (state.ofFile && !shown.length) parts.push(h("p", { class: "quiet" }, "No kept moment has this file yet."));
    if (state.ofFile && !state.ofFile.whole) parts.push(h("p", { class: "quiet" }, "Older moments are not listed yet."));
    if (state.path) parts.push(h("p", {}, button("History of all files", state.onall, { class: "small" })));
  }
  fill(place, parts);
  place.onkeydown = move;
  place.scrollTop = scroll;
  const items = [...place.querySelectorAll("[data-id]")];
  const current = items.find((each) => each.getAttribute("aria-current")) ?? items[0];
  for (const each of items) each.tabIndex = each === current ? 0 : -1;
  if (focused) items.find((each) => each.dataset.id === focused)?.focus();
}

const words = (problem) => (problem.hint ? `${problem.message}. ${problem.hint}` : problem.message);

// The newest moment of each state that the file had: the other ones would say the same again.
function ofFile(state) {
  const known = new Map(state.ofFile.items.map((each) => [each.snapshot, each]));
  return state.moments
    .filter((moment) => known.get(moment.id)?.changed || moment.id === state.chosen)
    .map((moment) => ({ ...moment, file: known.get(moment.id) ?? null }));
}

function now(state) {
  const differs = state.ofFile ? state.ofFile.now_changed : null;
  const what = differs === null ? "The files as they are" : differs ? "Changed since the newest moment" : "As at the newest moment";
  return entry(NOW, "now", state, h("b", {}, "Now"), h("span", { class: "quiet" }, what));
}

function item(moment, state) {
  const gone = moment.file && !moment.file.state;
  const bytes = moment.file ? moment.file.state?.size : moment.bytes;
  return entry(
    moment.id,
    moment.cause,
    state,
    h("b", {}, title(moment)),
    moment.held.length ? h("span", { class: "badge held", title: moment.held.join("; ") }, "held") : null,
    h("time", { datetime: new Date(moment.created * 1000).toISOString(), title: stamp(moment.created) }, clock(moment.created)),
    h("span", { class: "quiet" }, [gone ? "the file is gone" : "", ...about(moment), size(bytes)].filter(Boolean).join(" · ")),
  );
}

function entry(id, kind, state, ...children) {
  const current = state.chosen === id ? "true" : null;
  return h("button", { type: "button", class: `moment ${kind}`, "data-id": id, "aria-current": current, onclick: () => state.onchoose(id) }, h("i", { "aria-hidden": "true" }), children);
}

function move(event) {
  const items = [...event.currentTarget.querySelectorAll("[data-id]")];
  const at = items.indexOf(document.activeElement);
  const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: items.length - 1 }[event.key];
  if (at < 0 || to === undefined || !items[to]) return;
  event.preventDefault();
  items[to].focus();
}
