// Starts the server as a process of its own, and sees to it that none is left behind.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants, existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { eventually, within } from "./eventually.js";

const READY_WITHIN_MS = 10_000;
const EXIT_WITHIN_MS = 10_000;
/** How much of the log an error shows. */
const LOG_TAIL = 4_000;

const running = new Set();
// A test file that is ended from outside runs no `after` hooks.
process.on("exit", () => running.forEach((child) => child.kill("SIGKILL")));
for (const [signal, code] of [["SIGINT", 130], ["SIGTERM", 143]]) process.once(signal, () => process.exit(code));

/** Starts a node that ends with the test `t`, and waits until it is ready. */
export async function startNode(t, args = [], { port } = {}) {
  const node = new Node(port ?? await freePort(), args);
  t.after(() => node.kill());
  await node.ready();
  return node;
}

/** A port that was free a moment ago. */
export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

class Node {
  #child;
  #exit;
  #home = mkdtempSync(join(tmpdir(), "pollux-js-"));
  #log = "";
  #args;

  constructor(port, args) {
    this.port = port;
    this.url = `http://127.0.0.1:${port}`;
    this.#args = args;
    // An empty folder and no variables, so that no file and no setting of the machine has a say.
    this.#child = spawn(binary(), ["--port", String(port), ...args], {
      cwd: this.#home,
      env: { PATH: process.env.PATH, HOME: this.#home },
      stdio: ["ignore", "pipe", "pipe"],
    });
    running.add(this.#child);
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.setEncoding("utf8").on("data", (text) => {
        this.#log = (this.#log + text).slice(-LOG_TAIL);
      });
    }
    this.#exit = new Promise((resolve) => {
      this.#child.once("error", (error) => resolve({ error }));
      this.#child.once("exit", (code, signal) => resolve({ code, signal }));
    });
    this.#exit.then((how) => {
      this.exited = how;
      running.delete(this.#child);
    });
  }

  /** The door for pollers. */
  get poll() {
    return `${this.url}/lp`;
  }

  /** The door for publications, which may have a port of its own. */
  get broadcast() {
    const at = this.#args.indexOf("--http_broadcast_port");
    const port = at < 0 ? this.port : this.#args[at + 1];
    return `http://127.0.0.1:${port}/_broadcast`;
  }

  async ready() {
    await eventually("the node is ready", async () => {
      if (this.exited) throw new Error(`the node ended: ${JSON.stringify(this.exited)}\n${this.#log}`);
      const response = await fetch(`${this.url}/ready`).catch(() => undefined);
      await response?.text();
      return response?.ok;
    }, READY_WITHIN_MS);
  }

  /** Publishes any JSON value, and fails unless it was accepted. */
  async publish(stream, value, meta) {
    const response = await fetch(this.broadcast, {
      method: "POST",
      body: JSON.stringify({ stream, data: JSON.stringify(value), meta }),
    });
    const answer = await response.text();
    if (response.status !== 201) throw new Error(`publishing was answered with ${response.status} ${answer}`);
  }

  /** One metric, summed over its labels. */
  async metric(name) {
    const text = await (await fetch(`${this.url}/metrics`)).text();
    const values = text.split("\n").filter((line) => line.startsWith(`${name} `) || line.startsWith(`${name}{`));
    if (values.length === 0) throw new Error(`there is no metric ${name}`);
    return values.reduce((sum, line) => sum + Number(line.slice(line.lastIndexOf(" "))), 0);
  }

  /** Asks the node to stop. */
  terminate() {
    this.#child.kill("SIGTERM");
  }

  /** How the node ended. */
  async exit() {
    return within(EXIT_WITHIN_MS, `the node ends\n${this.#log}`, this.#exit);
  }

  async kill() {
    if (!this.exited) this.#child.kill("SIGKILL");
    await this.#exit;
    rmSync(this.#home, { recursive: true, force: true });
  }
}

function binary() {
  if (process.env.POLLUX_BIN) return process.env.POLLUX_BIN;
  const builds = ["release", "debug"].map((profile) =>
    fileURLToPath(new URL(`../../target/${profile}/pollux`, import.meta.url)));
  const found = builds.find((path) => existsSync(path));
  if (!found) throw new Error(`build the server or set POLLUX_BIN; there is none of ${builds.join(", ")}`);
  accessSync(found, constants.X_OK);
  return found;
}
