// The browser of the tests.

import { accessSync, constants } from "node:fs";
import { delimiter, join } from "node:path";
import { chromium } from "playwright-core";

const ARGS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Where the browser is, or undefined. One that CHROMIUM names has to be there. */
export function browserPath() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  return (process.env.PATH ?? "").split(delimiter).map((folder) => join(folder, "chromium")).find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

/** What to give a test that needs the browser. */
export const needsBrowser = browserPath() ? {} : { skip: "there is no chromium on the path and no CHROMIUM" };

/** A browser that closes with the test `t`. */
export async function launch(t) {
  const browser = await chromium.launch({ executablePath: browserPath(), headless: true, args: ARGS });
  t.after(() => browser.close());
  return browser;
}

/** A page of its own profile that records what it complains about. */
export async function openPage(browser, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(`exception: ${error.message}`));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) {
      complaints.push(`${message.type()}: ${message.text()} at ${message.location().url}`);
    }
  });
  return { page, complaints };
}
