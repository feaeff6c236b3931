// Starts nginx with the bundled files and ends it with its test.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { eventually } from "./eventually.js";
import { freePort } from "./node.js";

const BUNDLED = fileURLToPath(new URL("../../nginx/", import.meta.url));
/** Not in everybody's path. */
const PLACES = ["/usr/sbin/nginx", "/usr/local/sbin/nginx"];

/**
 * An nginx in front of these nodes. `change` gets the locations and returns what is to be used
 * instead, to have short times in place of long ones.
 */
export async function startNginx(t, nodes, change = (text) => text) {
  const folder = mkdtempSync(join(tmpdir(), "pollux-nginx-"));
  cpSync(BUNDLED, folder, { recursive: true });
  const locations = join(folder, "pollux-locations.conf");
  writeFileSync(locations, change(readFileSync(locations, "utf8")));
  const port = await freePort();
  const servers = nodes.map((node) => `server 127.0.0.1:${node.port};`).join(" ");
  writeFileSync(join(folder, "test.conf"), `
    daemon off; master_process off; pid ${folder}/pid; error_log ${folder}/error.log;
    events { worker_connections 512; }
    http {
      access_log off;
      ${["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/${name};`).join(" ")}
      include ${folder}/pollux-maps.conf;
      upstream pollux { hash $pollux_key consistent; ${servers} keepalive 16; }
      server { listen 127.0.0.1:${port}; include ${folder}/pollux-locations.conf; }
    }`);
  const binary = PLACES.find((path) => existsSync(path)) ?? "nginx";
  const child = spawn(binary, ["-c", join(folder, "test.conf"), "-p", folder], { stdio: "ignore" });
  const ended = once(child, "exit");
  const kill = () => child.kill("SIGKILL");
  process.on("exit", kill);
  await once(child, "spawn");
  t.after(async () => {
    kill();
    await ended;
    process.off("exit", kill);
    rmSync(folder, { recursive: true, force: true });
  });
  await eventually("nginx listens", () => listens(port));
  return { url: `http://127.0.0.1:${port}` };
}

function listens(port) {
  return new Promise((resolve) => {
    const socket = connect(port, "127.0.0.1");
    socket.once("connect", () => { socket.destroy(); resolve(true); });
    socket.once("error", () => resolve(false));
  });
}
