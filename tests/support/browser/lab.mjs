// JupyterLab as a person uses it: what is waited for is what they would see.
import { chromium } from "playwright-core";

const PATIENCE_MS = Number(process.env.PATIENCE_S ?? 180) * 1000; // a busy machine takes several times as long

export class Lab {
  // One profile of one browser: cookies and storage outlive it in `profile`. Pictures go to the folder `pictures`.
  static async open({ browser, profile, pictures }) {
    const context = await chromium.launchPersistentContext(profile, {
      executablePath: browser,
      args: ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
      viewport: { width: 1280, height: 800 },
    });
    context.setDefaultTimeout(PATIENCE_MS);
    context.setDefaultNavigationTimeout(PATIENCE_MS);
    return new Lab(context, pictures);
  }

  constructor(context, pictures) {
    this.context = context;
    this.pictures = pictures;
    this.said = []; // errors of pages, for who reads a failure
  }

  async page(url) {
    const page = await this.context.newPage();
    page.on("pageerror", (error) => this.said.push(`${error}`));
    page.on("response", (answer) => answer.status() >= 400 && this.said.push(`${answer.status()} ${answer.url()}`));
    await page.goto(url, { waitUntil: "domcontentloaded" });
    return page;
  }

  // A notebook file, in a Lab workspace of its own: another's restored tabs would be in the way.
  async file(base, workspace, path) {
    const named = path.split("/").map(encodeURIComponent).join("/");
    const page = await this.page(`${base}lab/workspaces/${workspace}/tree/${named}`);
    await ready(page);
    return page;
  }

  async picture(page, name) {
    await page.screenshot({ path: `${this.pictures}/${name}.png` });
  }

  async failed(name) {
    for (const [number, page] of this.context.pages().entries()) {
      await this.picture(page, `${name}-failed-${number}`).catch(() => {});
    }
    return this.said;
  }
}

// Of the notebook that is in front: tabs behind it, which a Lab workspace restores, are in the page too.
export const front = (page) => page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)").first();

// The kernel is there and waits, as the status bar says: the notebook's own sign says so before it has a kernel.
export async function ready(page) {
  await front(page).locator('.jp-Notebook-ExecutionIndicator[data-status="idle"]').waitFor();
  await page.locator("#jp-main-statusbar").getByText(/\| Idle$/).first().waitFor();
}

// Runs the first cell, with `code` in place of its own where that is given.
export async function run(page, code) {
  await front(page).locator(".jp-Cell .cm-content").first().click();
  if (code !== undefined) {
    await page.keyboard.press("Control+A");
    await page.keyboard.insertText(code);
  }
  await page.keyboard.press("Shift+Enter");
}

export const outputs = (page) => front(page).locator(".jp-OutputArea-output");

export async function shows(page, text) {
  await outputs(page).filter({ hasText: text }).first().waitFor();
}
