// JupyterLab's own API client, as VS Code uses it: `node services.mjs JSON`. The last line of its output is JSON.
//
// A round is one kernel: started, asked, interrupted, restarted, asked again and shut down. Some rounds go at once.
import { KernelAPI, KernelConnection, ServerConnection } from "@jupyterlab/services";
import WebSocket from "ws";

const PATIENCE_MS = Number(process.env.PATIENCE_S ?? 180) * 1000;
const { url, rounds, together } = JSON.parse(process.argv[2]);

// "Existing Jupyter Server" of VS Code takes one address: the token is read from it, the rest is the server's.
const typed = new URL(url);
const token = typed.searchParams.get("token");
typed.search = "";
const serverSettings = ServerConnection.makeSettings({
  baseUrl: typed.href,
  wsUrl: typed.href.replace(/^http/, "ws"),
  token,
  appendToken: true,
  WebSocket,
  fetch,
  Request,
  Headers,
});

async function within(what, promise) {
  let timer;
  const late = new Promise((_, refuse) => (timer = setTimeout(() => refuse(new Error(`not in time: ${what}`)), PATIENCE_MS)));
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

function asked(kernel, code, onText = () => {}) {
  const future = kernel.requestExecute({ code });
  let text = "";
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type === "stream") onText((text += content.text));
  };
  return future.done.then(({ content }) => ({ status: content.status, ename: content.ename, text }));
}

async function execute(kernel, code, wanted) {
  const { status, text } = await within(code, asked(kernel, code));
  if (status !== "ok" || text !== wanted) throw new Error(`${code}: ${status}, ${JSON.stringify(text)}`);
}

async function interrupt(kernel) {
  let sleeps;
  const started = new Promise((resolve) => (sleeps = resolve));
  const ended = asked(kernel, 'import time; print("sleeps", flush=True); time.sleep(60)', sleeps);
  await within("a cell that runs", started);
  await within("the interrupt", kernel.interrupt());
  const { status, ename } = await within("the end of an interrupted cell", ended);
  if (status !== "error" || ename !== "KeyboardInterrupt") throw new Error(`interrupted: ${status} ${ename}`);
}

// Without a KernelManager: its list, asked for before a kernel began, ends that kernel's connection when it comes later.
async function round(number) {
  const model = await within("a kernel", KernelAPI.startNew({ name: "python3" }, serverSettings));
  const kernel = new KernelConnection({ model, serverSettings });
  try {
    await execute(kernel, `kept = ${number}; print(kept * 2)`, `${number * 2}\n`);
    await interrupt(kernel);
    await execute(kernel, "print(kept)", `${number}\n`);
    await within("the restart", kernel.restart());
    await execute(kernel, 'print("kept" in globals())', "False\n");
  } finally {
    await within("the shutdown", kernel.shutdown());
    kernel.dispose();
  }
}

let next = 0;
const took = [];
async function worker() {
  while (next < rounds) {
    const began = Date.now();
    await round((next += 1));
    took.push(Date.now() - began);
  }
}
try {
  await Promise.all(Array.from({ length: together }, worker));
  console.log(JSON.stringify({ rounds: took.length, seconds: took.map((ms) => ms / 1000) }));
} catch (error) {
  console.error(`round ${next}: ${error.stack}`);
  process.exitCode = 1;
}
process.exit();
