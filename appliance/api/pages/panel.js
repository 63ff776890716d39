// The talk with JupyterLab's side panel, whose frame this page may be. Messages of other windows are not listened to.
//
// From the panel: {show: PATH}, {theme: "dark"}, {token: T}, {settled: ID}. To it: {ready}, {settle: PATH, id},
// {restored: PATH}, {made: PATH}, {insert: {path, type, source}}.

import { encode } from "./words.js";

const SETTLE_MS = 3000;

export class Panel {
  constructor() {
    this.inside = window.parent !== window;
    this.waiting = new Map();
    this.last = 0;
  }

  on({ show, theme, token }) {
    if (!this.inside) return;
    window.addEventListener("message", ({ origin, source, data }) => {
      if (origin !== location.origin || source !== window.parent || typeof data?.appliance !== "object") return;
      const said = data.appliance;
      if (typeof said.theme === "string") theme(said.theme);
      if (typeof said.token === "string") token(said.token);
      if (typeof said.show === "string") show(encode(said.show));
      this.waiting.get(said.settled)?.();
    });
    this.tell({ ready: true });
  }

  tell(what) {
    if (this.inside) window.parent.postMessage({ appliance: what }, location.origin);
  }

  // What is typed and not saved yet is saved first, so that the moment before a restore has it; empty: of all files.
  settle(path) {
    if (!this.inside) return Promise.resolve();
    const id = (this.last += 1);
    return new Promise((resolve) => {
      const done = () => (this.waiting.delete(id), resolve());
      this.waiting.set(id, done);
      setTimeout(done, SETTLE_MS);
      this.tell({ settle: path, id });
    });
  }

  restored(path) {
    this.tell({ restored: path });
  }

  made(path) {
    this.tell({ made: path });
  }

  insert(path, cell) {
    this.tell({ insert: { path, ...cell } });
  }
}
