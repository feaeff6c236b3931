// The examples of README and docs, read out of their pages and run as they stand there.

import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { register } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { promisify } from "node:util";
import { launch, openPage } from "./browser.js";
import { startPages } from "./pages.js";

const ROOT = new URL("../../", import.meta.url);
const PROGRAM_WITHIN_MS = 20_000;

/** Where what examples import is served to pages, by the names they use. */
const IMPORTS = {
  "@anycable/core": "/node_modules/@anycable/core/index.js",
  "@anycable/web": "/node_modules/@anycable/web/index.js",
  "@rails/actioncable": "/node_modules/@rails/actioncable/app/assets/javascripts/actioncable.esm.js",
  nanoevents: "/node_modules/nanoevents/index.js",
  "pollux-js": "/clients/js/index.js",
};

/** The one block of a page with a line that begins so. A page that has lost it fails its test. */
export function block(page, line) {
  const blocks = [];
  let open;
  for (const text of readFileSync(new URL(page, ROOT), "utf8").split("\n")) {
    if (text.startsWith("```")) {
      if (open) blocks.push(open);
      open = open ? undefined : [];
    } else {
      open?.push(text);
    }
  }
  const found = blocks.filter((lines) => lines.some((text) => text.startsWith(line)));
  if (found.length !== 1) throw new Error(`${page} has ${found.length} blocks with a line that begins with ${line}`);
  return `${found[0].join("\n")}\n`;
}

/** An example with addresses in the place of those that it names. All of them have to be in it. */
export function at(example, addresses) {
  return Object.entries(addresses).reduce((text, [named, meant]) => {
    if (!text.includes(named)) throw new Error(`there is no ${named} in ${example}`);
    return text.replaceAll(named, meant);
  }, example);
}

/** Saves an example where it finds packages, by the names it imports and those they are installed by. */
function save(t, example, packages) {
  const folder = mkdtempSync(join(tmpdir(), "pollux-example-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  for (const [name, installed] of Object.entries(packages)) {
    const link = join(folder, "node_modules", name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(fileURLToPath(new URL(`node_modules/${installed}`, import.meta.url)), link);
  }
  const file = join(folder, "example.mjs");
  writeFileSync(file, example);
  return file;
}

/** Runs an example to its end in Node.js, and returns what it printed. */
export async function runProgram(t, example, packages) {
  const file = save(t, example, packages);
  const { stdout } = await promisify(execFile)(process.execPath, [file], { timeout: PROGRAM_WITHIN_MS });
  return stdout.trim();
}

/** What a module exports that is written for bundlers, which find `./name` as `./name/index.js`. */
export async function load(t, example, packages) {
  const hooks = `export const resolve = (name, context, next) =>
    next(name, context).catch(() => next(name + "/index.js", context));`;
  register(`data:text/javascript,${encodeURIComponent(hooks)}`);
  return import(pathToFileURL(save(t, example, packages)));
}

/** Opens a page with an example as its script. What it logs is gathered, a list of values for each line. */
export async function runInPage(t, example) {
  const site = await startPages(t, {
    "/example.html": `<!doctype html><title>example</title><link rel="icon" href="data:,">
      <script type="importmap">${JSON.stringify({ imports: IMPORTS })}</script>
      <script type="module" src="/example.js"></script>`,
    "/example.js": example,
    "/node_modules/": new URL("node_modules/", import.meta.url),
    "/clients/js/": new URL("clients/js/", ROOT),
  });
  return open(t, `${site}/example.html`);
}

/** Opens an example that is a whole page, from a file, as a reader does who has saved it. */
export function openSaved(t, example) {
  const folder = mkdtempSync(join(tmpdir(), "pollux-example-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "chat.html");
  writeFileSync(file, example);
  return open(t, String(pathToFileURL(file)));
}

async function open(t, url) {
  const { page, complaints } = await openPage(await launch(t));
  const logged = [];
  page.on("console", async (message) => {
    if (message.type() !== "log") return;
    const line = [];
    // Its place is taken before what is in it is fetched.
    logged.push(line);
    line.push(...await Promise.all(message.args().map((value) => value.jsonValue())));
  });
  await page.goto(url);
  return { page, complaints, logged };
}
