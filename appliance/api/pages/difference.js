// One file at two moments, as `wire.FileDiff` tells it, for the eye.

import { h, fill, button } from "./dom.js";
import { differing, outputWords, outputsAt, pairs, plural } from "./words.js";

const MOST_LINES = 4000;
const MOST_TEXT = 20000;

// `options`: {split, outputs(side) -> notebook of that side, copy(text), insert(cell) or null}
export function difference(file, options) {
  const parts = [];
  if (file.note) parts.push(h("p", { class: "note" }, sentence(file.note)));
  const nothing = !file.hunks.length && !file.cells.length && !file.metadata.length;
  if (file.same) parts.push(h("p", { class: "quiet" }, "It is the same at both moments."));
  else if (file.kind === "binary") parts.push(h("p", { class: "quiet" }, "Not a text: only its size can be compared."));
  else if (nothing && !file.note) parts.push(h("p", { class: "quiet" }, "Nothing differs that can be shown."));
  if (file.hunks.length) parts.push(hunks(file.hunks, options.split));
  for (const cell of file.cells) parts.push(cellChange(cell, options));
  if (file.kind === "notebook" && file.unchanged) {
    parts.push(h("p", { class: "quiet" }, `${plural(file.unchanged, "cell")} unchanged`));
  }
  if (file.metadata.length) parts.push(h("p", { class: "quiet" }, `Also: ${file.metadata.join("; ")}`));
  return h("div", { class: "difference" }, parts);
}

const sentence = (words) => words.charAt(0).toUpperCase() + words.slice(1);

const PLACES = {
  added: (cell) => `cell ${cell.now}`,
  removed: (cell) => `was cell ${cell.was}`,
  changed: (cell) => (cell.was === cell.now ? `cell ${cell.now}` : `cell ${cell.was} → ${cell.now}`),
  moved: (cell) => `cell ${cell.was} → ${cell.now}`,
};

function cellChange(cell, options) {
  const outputs = h("div", { class: "outputs" });
  const old = cell.hunks.flatMap((hunk) => hunk.lines).filter((line) => line[0] === "-" || line[0] === " ");
  const head = h(
    "header",
    {},
    h("span", { class: `badge ${cell.change}` }, cell.change),
    h("span", { class: "quiet" }, `${cell.type} · ${PLACES[cell.change](cell)}`),
    cell.notes.map((note) => h("span", { class: "quiet" }, `· ${note}`)),
    cell.change === "removed" && options.insert
      ? button("Insert again", () => options.insert({ type: cell.type, source: source(old) }), { class: "small" })
      : null,
    cell.change === "removed" ? button("Copy", () => options.copy(source(old)), { class: "small" }) : null,
  );
  return h(
    "section",
    { class: `cell ${cell.change}`, "aria-label": `${cell.change} ${cell.type} cell` },
    head,
    cell.hunks.length ? hunks(cell.hunks, options.split && cell.was && cell.now) : null,
    cell.outputs_changed ? about(cell, outputs, options) : null,
    outputs,
  );
}

const source = (lines) => lines.map((line) => line.slice(1)).join("\n");

function about(cell, place, options) {
  const told = [cell.was && cell.outputs_before, cell.now && cell.outputs_after];
  const words = cell.was && cell.now ? told.map((each) => outputWords(each || "none")).join(" → ") : outputWords(told.find(Boolean) ?? "");
  const show = button("Show", () => toggle(), { class: "small", "aria-expanded": "false" });
  async function toggle() {
    const opened = show.getAttribute("aria-expanded") === "true";
    show.setAttribute("aria-expanded", String(!opened));
    fill(show, opened ? "Show" : "Hide");
    if (opened) return fill(place);
    fill(place, h("p", { class: "quiet" }, "Reading…"));
    const sides = [];
    try {
      if (cell.was) sides.push(["Before", outputsAt(await options.outputs("older"), cell.was)]);
      if (cell.now) sides.push(["After", outputsAt(await options.outputs("newer"), cell.now)]);
    } catch (error) {
      return fill(place, h("p", { class: "note" }, error.message));
    }
    return fill(place, h("div", { class: "sides" }, sides.map(([title, found]) => side(title, found))));
  }
  return h("p", { class: "output-words" }, h("span", {}, `Outputs: ${words || "changed"}`), show);
}

function side(title, outputs) {
  return h("div", {}, h("h4", {}, title), outputs.length ? outputs.map(output) : h("p", { class: "quiet" }, "none"));
}

function output(found) {
  if (found.kind === "image") return h("img", { src: found.url, alt: "an image output" });
  if (found.kind === "words") return h("p", { class: "quiet" }, found.text);
  const long = found.text.length > MOST_TEXT;
  const shown = long ? `${found.text.slice(0, MOST_TEXT)}\n… ${found.text.length - MOST_TEXT} characters more` : found.text;
  return h("pre", { class: found.kind === "error" || found.name === "stderr" ? "output bad" : "output", tabindex: "0" }, shown);
}

export function hunks(found, split) {
  let left = MOST_LINES;
  const bodies = [];
  for (const hunk of found) {
    if (left <= 0) break;
    const cut = hunk.lines.length > left ? { ...hunk, lines: hunk.lines.slice(0, left) } : hunk;
    left -= cut.lines.length;
    bodies.push(h("tbody", {}, rows(cut, split)));
  }
  const table = h("table", { class: split ? "lines split" : "lines" }, bodies);
  const more = left <= 0 ? h("p", { class: "note" }, `Only the first ${MOST_LINES} lines are shown.`) : null;
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "lines that differ" }, table, more);
}

function rows(hunk, split) {
  const found = pairs(hunk);
  if (split) return found.map((row) => (row.note ? note(row.note, 4) : h("tr", {}, half(row.left, row.right), half(row.right, row.left))));
  const made = [];
  let late = [];
  for (const row of found) {
    const both = row.left && row.right && row.left.mark === " ";
    if (both || row.note) {
      made.push(...late);
      late = [];
    }
    if (row.note) made.push(note(row.note, 3));
    else if (both) made.push(line(row.left, row.left.number, row.right.number, null));
    else {
      if (row.left) made.push(line(row.left, row.left.number, "", row.right));
      if (row.right) late.push(line(row.right, "", row.right.number, row.left));
    }
  }
  return [...made, ...late];
}

const note = (words, columns) => h("tr", {}, h("td", { class: "quiet", colspan: columns }, words));
const MARKS = { "-": "gone", "+": "come", " ": "same" };

function line(found, before, after, other) {
  return h(
    "tr",
    { class: MARKS[found.mark] },
    h("td", { class: "number", "data-number": before }),
    h("td", { class: "number", "data-number": after }),
    h("td", { class: "text", "data-mark": found.mark }, marked(found, other)),
  );
}

function half(found, other) {
  if (!found) return [h("td", { class: "number none" }), h("td", { class: "text none" })];
  const kind = MARKS[found.mark];
  return [
    h("td", { class: `number ${kind}`, "data-number": found.number }),
    h("td", { class: `text ${kind}`, "data-mark": found.mark }, marked(found, other)),
  ];
}

function marked(found, other) {
  const between = other && found.mark !== " " ? differing(found.text, other.text) : null;
  if (!between) return found.text;
  const [start, end] = between;
  return [found.text.slice(0, start), h("mark", {}, found.text.slice(start, end)), found.text.slice(end)];
}
