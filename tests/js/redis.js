// Starts a Redis server that ends with its test.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { createClient } from "redis";
import { eventually } from "./eventually.js";
import { freePort } from "./node.js";

/** Starts a server that keeps nothing on disk. Returns its URL and a connected client. */
export async function startRedis(t) {
  const port = await freePort();
  const child = spawn("redis-server", ["--port", String(port), "--bind", "127.0.0.1", "--save", ""], { stdio: "ignore" });
  const ended = once(child, "exit");
  // A test file that is ended from outside runs no `after` hooks.
  const kill = () => child.kill("SIGKILL");
  process.on("exit", kill);
  // Without a server it ends here, with the reason.
  await once(child, "spawn");
  t.after(async () => {
    kill();
    await ended;
    process.off("exit", kill);
  });
  const url = `redis://127.0.0.1:${port}/0`;
  const client = await eventually("Redis answers", () => connect(url));
  t.after(() => client.destroy());
  return { url, client };
}

async function connect(url) {
  const client = createClient({ url, socket: { reconnectStrategy: false } });
  // The failure itself is what `connect` throws.
  client.on("error", () => {});
  try {
    return await client.connect();
  } catch {
    return undefined;
  }
}
