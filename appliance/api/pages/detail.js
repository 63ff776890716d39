// One moment: what changed, one of its files, and what can be done with it.

import { button, fill, h } from "./dom.js";
import { about, heldHere, plural, size, source, stamp, title } from "./words.js";

const NOW = "now";

export function detail(place, state) {
  const { on } = state;
  const whole = [head(state)];
  if (state.chosen !== NOW && state.what) whole.push(choice(state));
  if (state.trouble) whole.push(h("p", { class: "note" }, state.trouble.message, state.trouble.hint ? `. ${state.trouble.hint}` : ""));
  if (state.opened) whole.push(file(state));
  else if (state.changes) whole.push(changes(state.changes, on, !state.what));
  else if (!state.trouble) whole.push(h("p", { class: "quiet" }, "Comparing…"));
  fill(place, whole);
}

function head(state) {
  const { moment, on } = state;
  const back = button("‹", on.back, { class: "back", "aria-label": "back" });
  if (!moment) {
    const since = state.what ? "Since the newest moment" : "";
    return h("header", { class: "about" }, back, h("div", {}, h("h2", {}, "Now"), h("p", { class: "quiet" }, since)));
  }
  const facts = [stamp(moment.created), ...about(moment), size(moment.bytes), moment.id].filter(Boolean);
  const held = moment.held.length > 0;
  return h(
    "header",
    { class: "about" },
    back,
    h(
      "div",
      {},
      h("h2", {}, title(moment)),
      h("p", { class: "quiet" }, facts.join(" · ")),
      held ? h("p", { class: "quiet" }, `Held by ${moment.held.join("; ")}`) : null,
    ),
    heldHere(moment)
      ? button("Release", () => on.release(moment), { title: "Retention decides about it again" })
      : button("Hold", () => on.hold(moment, ""), { title: "Keep it, whatever retention says" }),
  );
}

function choice(state) {
  const one = (which, label) => button(label, () => state.on.against(which), { "aria-pressed": String(state.against === which) });
  return h("div", { class: "choice", role: "group", "aria-label": "what is compared" }, one("newer", "Changed in it"), one("older", "Changed since"));
}

const CHECKPOINTS = /(^|\/)\.ipynb_checkpoints(\/|$)/;
const SIGNS = { added: "+", removed: "−", changed: "~", renamed: "→" };

function changes(found, on, first) {
  const shown = found.changes.filter((change) => !CHECKPOINTS.test(change.path));
  const left = found.changes.length - shown.length;
  const title = first ? `The first moment: ${plural(shown.length, "entry", "entries")}` : shown.length || left ? plural(shown.length, "change") : "No file differs.";
  return [
    h("p", { class: "quiet" }, title),
    left ? h("p", { class: "quiet" }, `${left} more in Jupyter's .ipynb_checkpoints.`) : null,
    found.cut ? h("p", { class: "note" }, `Not all are listed: ${found.cut}.`) : null,
    h("ul", { class: "changes" }, shown.map((change) => h("li", {}, row(change, on)))),
  ];
}

function row(change, on) {
  const bytes = change.kind === "directory" ? "folder" : [change.before, change.after].filter((each) => each !== null).map(size).join(" → ");
  const label = change.was ? `${change.was} → ${change.path}` : change.path;
  return h(
    "button",
    { type: "button", class: change.change, onclick: () => on.openChange(change), "aria-label": `${change.change}: ${label}` },
    h("span", { class: "sign", "aria-hidden": "true" }, SIGNS[change.change] ?? "?"),
    h("span", { class: "path" }, label),
    h("span", { class: "quiet" }, change.note ? `${change.note} · ${bytes}` : bytes),
  );
}

function file(state) {
  const { opened, on, what } = state;
  const from = what ? source(opened, what) : { moment: state.chosen, path: opened.path };
  const folder = opened.kind === "directory";
  const same = state.file?.same && what?.newer === NOW;
  const acts = from && !same
    ? [
        button("Restore", () => on.restore(from), { class: "main", title: `Put ${from.path} back; as it is now is kept, and can be undone` }),
        button("Restore a copy", () => on.restoreBeside(from), { title: "Beside the file, under a name with the moment" }),
        folder ? null : button("Download", () => on.download(from)),
      ]
    : [];
  const more = [
    state.difference ? button(state.split ? "One column" : "Two columns", on.split, { class: "small", "aria-pressed": String(state.split) }) : null,
    state.path || folder ? null : button("Its history", () => on.only(opened.path), { class: "small" }),
  ];
  return h(
    "article",
    {},
    h(
      "header",
      { class: "file" },
      state.path ? null : button("‹ All changes", on.back, { class: "small" }),
      h("h3", {}, opened.was ? `${opened.was} → ${opened.path}` : opened.path),
      h("div", { class: "acts" }, acts, h("span", { class: "gap" }), more),
      from ? null : h("p", { class: "quiet" }, "It was not there at this moment, so there is nothing to bring back."),
    ),
    state.difference ?? waiting(state, folder),
  );
}

function waiting(state, folder) {
  if (folder) return h("p", { class: "quiet" }, "A folder: a restore brings back all that was in it.");
  if (!state.what) return h("p", { class: "quiet" }, "There is no moment before this one to compare with.");
  return state.trouble ? null : h("p", { class: "quiet" }, "Comparing…");
}
