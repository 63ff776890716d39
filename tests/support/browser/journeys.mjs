// One journey through JupyterLab: `node journeys.mjs NAME JSON`. What it found is the last line of its output, as JSON.
import { Lab, outputs, ready, run, shows } from "./lab.mjs";

const journeys = {
  // The address as the appliance prints it, then a cell runs and its tab is closed before it has ended.
  async leave(lab, { url, base, workspace, file, first }) {
    const door = await lab.page(url);
    await door.locator("#jp-main-dock-panel, .jp-LabShell").first().waitFor();
    await lab.picture(door, "1-lab");
    const page = await lab.file(base, workspace, file);
    await door.close();
    await run(page);
    await shows(page, first);
    await lab.picture(page, "2-runs");
    await page.close();
    return {};
  },

  // Runs a cell as soon as it can be seen, before its notebook has a kernel.
  async atOnce(lab, { url, base, workspace, file, first }) {
    await (await lab.page(url)).close();
    const page = await lab.page(`${base}lab/workspaces/${workspace}/tree/${encodeURIComponent(file)}`);
    await run(page);
    await shows(page, first);
    return {};
  },

  async comeBack(lab, { base, workspace, file, last }) {
    const page = await lab.file(base, workspace, file);
    await shows(page, last);
    await lab.picture(page, "3-output-kept");
    return { output: await outputs(page).allInnerTexts() };
  },

  async terminal(lab, { base, workspace, command, done }) {
    const page = await lab.page(`${base}lab/workspaces/${workspace}`);
    await page.locator('.jp-LauncherCard[title*="terminal" i]').first().click();
    await page.locator(".jp-Terminal .xterm-screen").waitFor();
    await page.locator(".jp-Terminal .xterm-helper-textarea").focus();
    await page.keyboard.type(`${command}\n`);
    await appears(page, `${base}api/contents/${done}`);
    await lab.picture(page, "4-terminal");
    return {};
  },

  // Two notebooks in two tabs of one profile, each used again after the other: their cookies do not meet.
  async together(lab, { workspace, one, two }) {
    for (const { url } of [one, two]) await (await lab.page(url)).close();
    const pages = await Promise.all([one, two].map(({ base, file }) => lab.file(base, workspace, file)));
    const found = [];
    for (const turn of [1, 2]) {
      for (const [number, page] of pages.entries()) {
        await run(page, `import os; print(os.environ["WHICH"], "turn", ${turn})`);
        await shows(page, `turn ${turn}`);
        found.push(await outputs(page).first().innerText());
        await lab.picture(page, `5-notebook-${number + 1}-turn-${turn}`);
      }
    }
    for (const page of pages) await saved(page);
    return { found };
  },

  // After another session began: no token in the address, and what was open is open.
  async again(lab, { base, workspace, file }) {
    const page = await lab.page(`${base}lab/workspaces/${workspace}`);
    await page.locator(".lm-TabBar-tabLabel", { hasText: file }).first().waitFor();
    await ready(page);
    await lab.picture(page, "6-open-again");
    return { address: page.url() };
  },
};

// What the terminal's command left is asked for as the page itself asks.
async function appears(page, url) {
  await page.waitForFunction(async (url) => (await fetch(url)).ok, url, { polling: 200 });
}

async function saved(page) {
  await page.keyboard.press("Control+S");
}

const [name, given] = process.argv.slice(2);
const options = JSON.parse(given);
const lab = await Lab.open(options);
try {
  const found = await journeys[name](lab, options);
  console.log(JSON.stringify({ ...found, said: lab.said }));
} catch (error) {
  console.error(`${name}: ${error.stack}\nits pages said: ${JSON.stringify(await lab.failed(name), null, 1)}`);
  process.exitCode = 1;
} finally {
  await lab.context.close();
}
