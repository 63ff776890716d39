// What the page says, from plain data. Pure: no document, no network; times are unix seconds as the API gives them.

export const CAUSES = {
  start: "Session started",
  stop: "Session ended",
  idle: "Ended when idle",
  manual: "Snapshot",
  rollback: "Before a rollback",
  undo: "Before an undo",
  restore: "Before a restore",
  fork: "Forked",
  interval: "On the way",
  backup: "Backup",
  save: "Saved",
  run: "Notebook run",
};

export const cause = (word) => CAUSES[word] ?? word;

// What somebody wrote comes first; what the appliance wrote only says at length what the cause says.
export const title = (moment) => (moment.cause === "manual" && moment.message) || cause(moment.cause);

export function about(moment) {
  const words = moment.cause === "manual" ? moment.message && cause(moment.cause) : moment.message;
  const told = moment.cause === "start" || moment.cause === "stop" ? "" : words.replace(/^before the (restore|rollback|undo) /, "");
  return [told, moment.author === "appliance" ? "" : moment.author, moment.subject];
}

const pad = (number) => String(number).padStart(2, "0");

export function clock(seconds) {
  const at = new Date(seconds * 1000);
  return `${pad(at.getHours())}:${pad(at.getMinutes())}:${pad(at.getSeconds())}`;
}

export function dayKey(seconds) {
  const at = new Date(seconds * 1000);
  return `${at.getFullYear()}-${pad(at.getMonth() + 1)}-${pad(at.getDate())}`;
}

const WEEKDAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = "January February March April May June July August September October November December".split(" ");

export function dayTitle(seconds, now) {
  const key = dayKey(seconds);
  if (key === dayKey(now)) return "Today";
  const yesterday = new Date(now * 1000);
  yesterday.setDate(yesterday.getDate() - 1);
  if (key === dayKey(yesterday.getTime() / 1000)) return "Yesterday";
  const at = new Date(seconds * 1000);
  return `${WEEKDAYS[at.getDay()]} ${at.getDate()} ${MONTHS[at.getMonth()]} ${at.getFullYear()}`;
}

export const stamp = (seconds) => `${dayKey(seconds)} ${clock(seconds)}`;

// Newest first in, newest first out: [{title, moments}].
export function byDay(moments, now) {
  const days = [];
  let last = "";
  for (const moment of moments) {
    const key = dayKey(moment.created);
    if (key !== last) days.push({ title: dayTitle(moment.created, now), moments: [] });
    last = key;
    days.at(-1).moments.push(moment);
  }
  return days;
}

export function size(bytes) {
  if (bytes === null || bytes === undefined) return "";
  let value = bytes;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (value < 1000) return `${unit === "B" ? value : value.toFixed(1)}\u00a0${unit}`;
    value /= 1000;
  }
  return `${value.toFixed(1)}\u00a0TB`;
}

// `2 outputs: image/png 34.1 kB, ...` without the count, which the list tells.
export const outputWords = (words) => words.replace(/^\d+ outputs?: /, "");

export const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

// Where a copy of an earlier state goes: beside the file, its moment in its name.
export function beside(path, created, attempt = 0) {
  const slash = path.lastIndexOf("/") + 1;
  const name = path.slice(slash);
  const dot = name.lastIndexOf(".");
  const [stem, end] = dot > 0 ? [name.slice(0, dot), name.slice(dot)] : [name, ""];
  const again = attempt ? `-${attempt + 1}` : "";
  return `${path.slice(0, slash)}${stem}-${stamp(created).replace(" ", "-").replaceAll(":", "")}${again}${end}`;
}

// Whether this page holds it, which has the token of the notebook alone; the words come as `OWNER` or `OWNER: why`.
export const heldHere = (moment) => moment.held.some((words) => words === "notebook" || words.startsWith("notebook:"));

// Which file at which moment a change offers to bring back; null: it was not there.
// `view` is {older, newer, against}: what is compared, and whether the chosen moment is the `older` or the `newer` one.
export function source(change, view) {
  const was = change.was || change.path;
  if (view.against === "older") return change.change === "added" ? null : { moment: view.older, path: was };
  if (change.change === "removed") return { moment: view.older, path: was };
  return { moment: view.newer, path: change.path };
}

// Lines of a hunk as rows {left, right}, each {number, text, mark} or null, for two columns.
export function pairs(hunk) {
  const rows = [];
  let [before, after] = [hunk.before, hunk.after];
  let [gone, come] = [[], []];
  const flush = () => {
    for (let at = 0; at < Math.max(gone.length, come.length); at += 1) {
      rows.push({ left: gone[at] ?? null, right: come[at] ?? null });
    }
    [gone, come] = [[], []];
  };
  for (const line of hunk.lines) {
    const text = line.slice(1);
    if (line[0] === "-") gone.push({ number: before++, text, mark: "-" });
    else if (line[0] === "+") come.push({ number: after++, text, mark: "+" });
    else if (line[0] === "\\") {
      flush();
      rows.push({ note: line.slice(1).trim() });
    } else {
      flush();
      rows.push({ left: { number: before++, text, mark: " " }, right: { number: after++, text, mark: " " } });
    }
  }
  flush();
  return rows;
}

// The part that differs of two lines: [start, end of the one, end of the other]; null where too little is the same.
export function differing(one, other) {
  const most = Math.min(one.length, other.length);
  let start = 0;
  while (start < most && one[start] === other[start]) start += 1;
  let end = 0;
  while (end < most - start && one[one.length - 1 - end] === other[other.length - 1 - end]) end += 1;
  return start + end < most / 3 ? null : [start, one.length - end, other.length - end];
}

// Text of Jupyter may be a list of lines; terminal colours are left out.
export function text(value) {
  const whole = Array.isArray(value) ? value.filter((part) => typeof part === "string").join("") : value;
  // eslint-disable-next-line no-control-regex
  return typeof whole === "string" ? whole.replace(/\u001b\[[0-9;?]*[A-Za-z]/g, "") : "";
}

const IMAGES = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const BASE64 = /^[A-Za-z0-9+/=\s]+$/;

// The outputs of the cell at `place`, counted from 1, as {kind: "text"|"error"|"image"|"words", ...}; bounded.
export function outputsAt(notebook, place) {
  const sheets = Array.isArray(notebook?.worksheets) ? notebook.worksheets.flatMap((sheet) => sheet?.cells ?? []) : [];
  const cells = Array.isArray(notebook?.cells) ? notebook.cells : sheets;
  const outputs = cells[place - 1]?.outputs;
  return Array.isArray(outputs) ? outputs.slice(0, 50).map(shown) : [];
}

function shown(output) {
  const kind = output?.output_type;
  if (kind === "stream") return { kind: "text", name: String(output.name ?? "stdout"), text: text(output.text) };
  if (kind === "error" || kind === "pyerr") {
    return { kind: "error", text: text((output.traceback ?? []).map((line) => `${text(line)}\n`)) || text(output.evalue) };
  }
  const data = output?.data ?? {};
  for (const mime of IMAGES) {
    const value = text(data[mime]);
    if (value && BASE64.test(value)) return { kind: "image", url: `data:${mime};base64,${value.replace(/\s+/g, "")}` };
  }
  const drawing = text(data["image/svg+xml"]);
  if (drawing) return { kind: "image", url: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(drawing)}` };
  const plain = text(data["text/plain"]);
  if (plain) return { kind: "text", name: "", text: plain };
  return { kind: "words", text: `${Object.keys(data).join(", ") || String(kind ?? "an output")}: not shown here` };
}

// How Jupyter's path crosses our API: a name that reads like an escape of ours has its backslash escaped.
export const encode = (path) => path.replace(/\\(?=x(?:5c|[89a-f][0-9a-f]))/g, "\\x5c");
