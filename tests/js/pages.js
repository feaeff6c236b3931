// Serves pages to the browser: an empty one at `/`, and files by the names they are given.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";

const TYPES = { ".html": "text/html", ".js": "text/javascript" };
// Browsers ask for an icon, and complain if there is none.
const EMPTY = '<!doctype html><title>test</title><link rel="icon" href="data:,">';

/**
 * A server that ends with the test. `files` maps paths to contents, or folders (paths that end with
 * a slash) to folders on disk. Returns its address.
 */
export async function startPages(t, files = {}) {
  const all = { "/": EMPTY, ...files };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://pages");
    try {
      const content = await find(all, pathname);
      response.writeHead(200, { "Content-Type": TYPES[extname(pathname)] ?? "text/html" }).end(content);
    } catch {
      response.writeHead(404).end();
    }
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

async function find(files, pathname) {
  if (pathname in files) return files[pathname];
  const folder = Object.keys(files).find((path) => path.length > 1 && path.endsWith("/") && pathname.startsWith(path));
  if (!folder) throw new Error(`nothing at ${pathname}`);
  return readFile(fileURLToPath(new URL(pathname.slice(folder.length), files[folder])));
}
