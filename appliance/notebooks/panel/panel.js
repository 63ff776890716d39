// The history of the appliance in JupyterLab's right side bar: a frame with the page of the front door.
//
// A prebuilt extension as JupyterLab 4 loads them, written by hand: the container that a bundler would make is `init`
// and `get`, and what is shared by JupyterLab is taken from the scope that `init` is given. Where another JupyterLab
// lacks some of it, that part is left out; nothing of the user's depends on this.
(() => {
  "use strict";
  const ID = "@appliance/history";
  const ICON =
    '<svg xmlns="http://www.w3.org/2000/svg" width="16" viewBox="0 0 24 24"><path class="jp-icon3" fill="#616161" d="M13 3a9 9 0 0 0-9 9H1l4 4 4-4H6a7 7 0 1 1 2.06 4.94l-1.42 1.42A9 9 0 1 0 13 3zm-1 5v5l4.25 2.52.77-1.28-3.52-2.09V8z"/></svg>';
  const KERNEL_MS = 60_000;
  const REDRAW_MS = [300, 1500, 4000];
  let scope = {};

  async function shared(name) {
    const versions = Object.values(scope[name] ?? {});
    const chosen = versions.find((version) => version.loaded) ?? versions[0];
    return chosen ? (await chosen.get())() : {};
  }

  // As the appliance writes paths: a name that reads like an escape of its has the backslash escaped.
  const encode = (path) => path.replace(/\\(?=x(?:5c|[89a-f][0-9a-f]))/g, "\\x5c");
  const dark = () => document.body.dataset.jpThemeLight === "false";

  // A cell that is run before its notebook has its kernel waits for that: the executor for cells that run on the server
  // would drop it without a word. Where a kernel must be chosen first, the executor itself asks, as it always does.
  function waitForKernels(executor) {
    const runs = executor.runCell.bind(executor);
    executor.runCell = async (options) => {
      const { cell, sessionContext } = options;
      if (cell?.model?.type === "code" && sessionContext?.isReady === false) {
        cell.setPrompt?.("*");
        await Promise.race([sessionContext.ready, new Promise((resolve) => setTimeout(resolve, KERNEL_MS))]);
        if (cell.isDisposed) return false;
        cell.setPrompt?.("");
      }
      return runs(options);
    };
  }

  async function plugin() {
    const [{ Widget }, { PageConfig }, { NotebookActions, INotebookCellExecutor }, { LabIcon }, { IDocumentManager }, { ILayoutRestorer }, { ICommandPalette, Notification }, { IDefaultFileBrowser }] = await Promise.all(
      ["@lumino/widgets", "@jupyterlab/coreutils", "@jupyterlab/notebook", "@jupyterlab/ui-components", "@jupyterlab/docmanager", "@jupyterlab/application", "@jupyterlab/apputils", "@jupyterlab/filebrowser"].map(shared),
    );
    const wanted = { documents: IDocumentManager, restorer: ILayoutRestorer, palette: ICommandPalette, browser: IDefaultFileBrowser, executor: INotebookCellExecutor };
    const asked = Object.entries(wanted).filter(([, token]) => token);

    function activate(app, ...given) {
      if (!Widget || !PageConfig) return;
      const at = /\/notebooks\/([^/]+)\/$/.exec(PageConfig.getBaseUrl());
      if (!at) return; // not behind the appliance's front door
      const { documents, restorer, palette, browser, executor } = Object.fromEntries(asked.map(([name], place) => [name, given[place]]));
      if (executor) waitForKernels(executor);
      const page = `/history/${at[1]}`;
      let frame = null;
      let path = "";

      class History extends Widget {
        constructor() {
          super();
          this.id = "appliance-history";
          this.addClass("jp-IFrame"); // so that the frame does not swallow the mouse while a border is dragged
          this.node.style.minWidth = "320px";
          this.title.caption = "History of this file";
          if (LabIcon) this.title.icon = new LabIcon({ name: "appliance:history", svgstr: ICON });
          else this.title.label = "History";
        }

        // The frame is made when somebody looks at it for the first time.
        onAfterShow() {
          if (!frame) open(this.node);
        }
      }

      async function open(node) {
        frame = document.createElement("iframe");
        frame.title = "History";
        frame.style.cssText = "width: 100%; height: 100%; border: 0";
        const answer = await fetch(page, { credentials: "omit" }).catch(() => null);
        if (!answer?.ok) {
          frame = null;
          const words = document.createElement("p");
          words.style.padding = "12px";
          words.textContent = "The appliance does not answer here. The history is shown where the notebook is opened through its front door.";
          node.replaceChildren(words);
          return;
        }
        const said = new URLSearchParams({ token: PageConfig.getToken(), theme: dark() ? "dark" : "light" });
        frame.src = `${page}${path ? `?path=${encodeURIComponent(encode(path))}` : ""}#${said}`;
        node.replaceChildren(frame);
      }

      const tell = (what) => frame?.contentWindow?.postMessage({ appliance: what }, location.origin);
      const local = (context) => app.serviceManager.contents.localPath(context.path);
      const contextOf = (widget) => (widget && documents?.contextForWidget(widget)) || null;

      function contexts(below) {
        const found = new Set([...app.shell.widgets("main")].map(contextOf).filter(Boolean));
        return [...found].filter((context) => !below || encode(local(context)) === below || encode(local(context)).startsWith(`${below}/`));
      }

      function follow() {
        const context = contextOf(app.shell.currentWidget);
        if (!context || local(context) === path) return;
        path = local(context);
        tell({ show: path });
      }

      // A document that is shared by several is saved and loaded again by the server itself: another save of it here
      // would ask the user which of the two is right.
      const own = (below) => contexts(below).filter((context) => !context.model.collaborative);

      // A document that has become shorter than where its editor is scrolled to is shown blank until it is scrolled. One
      // that is shared is loaded again by the server a little later.
      function redraw(below) {
        const restored = new Set(contexts(below));
        for (const widget of app.shell.widgets("main")) {
          if (!restored.has(contextOf(widget))) continue;
          for (const node of widget.node.querySelectorAll(".jp-WindowedPanel-outer")) {
            node.scrollTop = Math.max(0, Math.min(node.scrollTop, node.scrollHeight - node.clientHeight) - 1);
            node.dispatchEvent(new Event("scroll"));
          }
          widget.content?.update?.();
        }
      }

      const acts = {
        ready: () => {
          if (path) tell({ show: path });
        },
        settle: async (below, { id }) => {
          const dirty = own(below).filter((context) => context.model.dirty && !context.model.readOnly);
          await Promise.allSettled(dirty.map((context) => context.save()));
          tell({ settled: id });
        },
        restored: async (below) => {
          await Promise.allSettled(own(below).map((context) => context.revert()));
          await browser?.model.refresh();
          for (const wait of REDRAW_MS) setTimeout(() => redraw(below), wait);
        },
        made: () => browser?.model.refresh(),
        insert: ({ path: where, type, source }) => {
          const widget = [...app.shell.widgets("main")].find((each) => contextOf(each) && encode(local(contextOf(each))) === where);
          const notebook = widget?.content;
          if (!notebook?.activeCell || !NotebookActions) return;
          NotebookActions.insertBelow(notebook);
          NotebookActions.changeCellType(notebook, type);
          notebook.activeCell.model.sharedModel.setSource(source);
        },
      };

      window.addEventListener("message", ({ origin, source, data }) => {
        if (!frame || source !== frame.contentWindow || origin !== location.origin || typeof data?.appliance !== "object") return;
        for (const [name, value] of Object.entries(data.appliance)) {
          if (Object.hasOwn(acts, name)) acts[name](value, data.appliance);
        }
      });
      new MutationObserver(() => tell({ theme: dark() ? "dark" : "light" })).observe(document.body, { attributeFilter: ["data-jp-theme-light"] });

      const widget = new History();
      app.shell.add(widget, "right", { rank: 900 });
      restorer?.add(widget, widget.id);
      app.shell.currentChanged?.connect(follow);
      app.restored.then(follow);

      // That the session ends soon, once; a notice goes when that is not so any more.
      let notice = { text: "", id: "" };
      const headers = { Authorization: `token ${PageConfig.getToken()}` };
      const keep = () => fetch(`${PageConfig.getBaseUrl()}appliance/keep`, { method: "POST", headers }).then(warn, warn);
      async function warn() {
        if (!Notification || document.hidden) return;
        const answer = await fetch(`${PageConfig.getBaseUrl()}appliance/state?no_track_activity=1`, { headers }).catch(() => null);
        const text = answer?.ok ? String((await answer.json()).warning ?? "") : notice.text;
        if (text === notice.text) return;
        if (notice.id) Notification.dismiss(notice.id);
        const actions = text.includes("to keep it") ? [{ label: "Keep it", callback: keep }] : [];
        notice = { text, id: text ? Notification.warning(`The appliance: ${text}`, { autoClose: false, actions }) : "" };
      }
      app.restored.then(warn);
      setInterval(warn, 20_000);
      document.addEventListener("visibilitychange", warn);
      const command = "appliance:history";
      app.commands.addCommand(command, { label: "Show the History of This File", execute: () => app.shell.activateById(widget.id) });
      palette?.addItem({ command, category: "File Operations" });
    }

    return { id: `${ID}:plugin`, description: "The history of the workspace.", autoStart: true, optional: asked.map(([, token]) => token), activate };
  }

  const modules = {
    "./extension": async () => {
      const made = { __esModule: true, default: await plugin() };
      return () => made;
    },
    "./style": async () => () => ({}),
  };
  (window._JUPYTERLAB ??= {})[ID] = {
    init: (given) => {
      scope = given;
    },
    get: (name) => modules[name](),
  };
})();
