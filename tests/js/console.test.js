import assert from "node:assert/strict";
import { parse } from "node:path";
import { test } from "node:test";
import { launch, openPage } from "./browser.js";
import { eventually } from "./eventually.js";
import { freePort, startNode } from "./node.js";

const NARROW = { width: 400, height: 900 };
const number = async (page, id) => Number((await page.locator(id).textContent()).replaceAll(",", ""));
const rows = (page) => page.locator("#messages li");
const state = (page, text) => page.locator("#state", { hasText: new RegExp(`^${text}$`) }).waitFor();

async function subscribe(page, { transport = "Long polling", stream = "chat/1" } = {}) {
  await page.getByLabel("Transport").selectOption({ label: transport });
  await page.getByLabel("Stream", { exact: true }).fill(stream);
  await page.getByRole("button", { name: "Subscribe", exact: true }).click();
  await state(page, "Subscribed");
}

async function publish(page, data, { stream = "chat/1", format = "JSON" } = {}) {
  await page.getByLabel("To stream").fill(stream);
  await page.getByLabel("Data").fill(data);
  await page.getByLabel(format, { exact: true }).check();
  await page.getByRole("button", { name: "Publish", exact: true }).click();
}

test("the console subscribes, publishes and shows what happens", async (t) => {
  const node = await startNode(t);
  const browser = await launch(t);
  const { page, complaints } = await openPage(browser);
  await page.goto(node.url);
  await subscribe(page);
  await page.waitForFunction(() => document.getElementById("metric-sessions").textContent === "1");

  await publish(page, '{"text":"hi","n":[1,2]}');
  await rows(page).first().waitFor();
  assert.equal(await rows(page).first().locator("pre").textContent(), JSON.stringify({ text: "hi", n: [1, 2] }, null, 2));
  assert.match(await rows(page).first().locator(".when").textContent(), /^\d\d:\d\d:\d\d\.\d{3}#1$/);
  assert.match(await page.locator("#publish-result").textContent(), /^201 /);
  assert.equal(await number(page, "#received"), 1);
  assert.ok(await number(page, "#polls") >= 1);
  await page.waitForFunction(() => document.getElementById("metric-parked").textContent === "1");
  const peaks = page.locator("#metrics .peak");
  for (const index of [2, 3]) {
    await eventually("the rates move", async () => !/peak 0 /.test(await peaks.nth(index).textContent()));
  }

  // Markup stays text, whoever sent it.
  await publish(page, "<img src=x onerror='throw Error(1)'>", { format: "Text" });
  await eventually("the second message", async () => await rows(page).count() === 2);
  assert.equal(await rows(page).first().locator("pre").textContent(), "<img src=x onerror='throw Error(1)'>");
  assert.equal(await page.locator("#messages img").count(), 0);

  await publish(page, "{not json");
  assert.match(await page.locator("#publish-result").textContent(), /^Not sent, the data is not JSON/);
  assert.deepEqual(complaints, []);

  // The browser itself writes a line for each failed request.
  await publish(page, '{"text":"hi"}', { stream: "" });
  await page.locator("#publish-result", { hasText: /^422 invalid publication: .+ \(stream\)$/ }).waitFor();
  assert.ok(complaints.splice(0).every((line) => line.includes("/_broadcast") && line.includes("422")));

  await page.getByRole("button", { name: "Unsubscribe" }).click();
  await state(page, "Not subscribed");
  await publish(page, '{"text":"unheard"}');
  await page.locator("#publish-result", { hasText: /^201/ }).waitFor();
  assert.equal(await rows(page).count(), 2);
  await page.getByRole("button", { name: "Clear" }).click();
  assert.equal(await rows(page).count(), 0);
  assert.deepEqual(complaints, []);
});

test("the console keeps 500 rows, newest first, in the order of the stream", async (t) => {
  const node = await startNode(t, ["--poll_flush_interval", "50"]);
  const browser = await launch(t);
  const { page, complaints } = await openPage(browser);
  await page.goto(node.url);
  await subscribe(page, { transport: "Long polling with pollux-js" });
  for (let n = 0; n < 600; n += 1) await node.publish("chat/1", { n });
  await eventually("all messages", async () => await number(page, "#received") === 600);
  const shown = await page.locator("#messages pre").allTextContents();
  assert.deepEqual(shown.map((text) => JSON.parse(text).n), Array.from({ length: 500 }, (_, index) => 599 - index));
  assert.match(await page.locator("#cursor").textContent(), /^\d+$/);
  assert.equal(await number(page, "#gaps"), 0);
  assert.deepEqual(complaints, []);
});

/** Makes new polls of the page fail, as when the network is away, until the returned function is called. */
async function cutPolls(page) {
  await page.route("**/lp", (route) => route.abort());
  return () => page.unroute("**/lp");
}

test("the console keeps its session when the network was away for a moment", async (t) => {
  const node = await startNode(t);
  const browser = await launch(t);
  const { page } = await openPage(browser);
  await page.goto(node.url);
  await subscribe(page, { transport: "Long polling with cursor" });
  const id = await page.locator("#session").textContent();
  const restore = await cutPolls(page);
  await node.publish("chat/1", { text: "before" });
  await state(page, "Waiting to reconnect");
  await node.publish("chat/1", { text: "meanwhile" });
  await restore();
  await state(page, "Subscribed");
  await eventually("both messages", async () => await rows(page).count() === 2);
  assert.equal(await page.locator("#session").textContent(), id);
  assert.equal(await number(page, "#reconnects"), 1);
});

test("the console recovers from history what it missed without a session", async (t) => {
  const node = await startNode(t, ["--poll_keepalive_timeout", "0.3"]);
  const browser = await launch(t);
  const { page } = await openPage(browser);
  await page.goto(node.url);
  await subscribe(page);
  const restore = await cutPolls(page);
  await node.publish("chat/1", { n: 1 });
  await eventually("the node forgets the session", async () => await node.metric("pollux_sessions") === 0);
  await node.publish("chat/1", { n: 2 });
  await node.publish("chat/1", { n: 3 });
  await restore();
  await eventually("all messages", async () => await rows(page).count() === 3, 10_000);
  assert.deepEqual(await page.locator("#messages .offset").allTextContents(), ["#3", "#2", "#1"]);
  await state(page, "Subscribed");
  assert.equal(await number(page, "#gaps"), 0);
});

for (const transport of ["Long polling", "Long polling with pollux-js"]) {
  test(`the console finds its way back after the node is gone: ${transport}`, async (t) => {
    const node = await startNode(t);
    const browser = await launch(t);
    const { page } = await openPage(browser);
    await page.goto(node.url);
    await subscribe(page, { transport });
    await node.kill();
    await state(page, "Waiting to reconnect");
    assert.match(await page.locator("#detail").textContent(), /Trying again in .+ s\.$/);
    const next = await startNode(t, [], { port: node.port });
    await page.locator("#state", { hasText: /^Subscribed$/ }).waitFor({ timeout: 20_000 });
    await next.publish("chat/1", { text: "back" });
    await rows(page).filter({ hasText: "back" }).waitFor();
    assert.equal(await number(page, "#reconnects"), 1);
  });
}

test("the console works on a port of its own", async (t) => {
  const port = String(await freePort());
  const node = await startNode(t, ["--console_port", port, "--metrics_port", port]);
  const browser = await launch(t);
  const { page, complaints } = await openPage(browser);
  await page.goto(`http://127.0.0.1:${port}/`);
  await subscribe(page, { transport: "Long polling with pollux-js" });
  await publish(page, '{"text":"hi"}');
  await rows(page).first().waitFor();
  await page.waitForFunction(() => document.getElementById("metric-sessions").textContent === "1");
  assert.deepEqual(complaints, []);
  assert.equal((await fetch(`${node.url}/`)).status, 404);
});

test("the console does without metrics", async (t) => {
  const node = await startNode(t, ["--metrics_http", ""]);
  const browser = await launch(t);
  const { page } = await openPage(browser);
  await page.goto(node.url);
  await page.locator("#no-metrics").waitFor();
  assert.equal(await page.locator("#metrics").isVisible(), false);
  await subscribe(page);
});

test("the console can be used without a mouse and on a narrow screen", async (t) => {
  const node = await startNode(t);
  const browser = await launch(t);
  const { page, complaints } = await openPage(browser, { viewport: NARROW, colorScheme: "dark" });
  await page.goto(node.url);
  const order = [];
  for (let step = 0; step < 7; step += 1) {
    await page.keyboard.press("Tab");
    order.push(await page.evaluate(() => document.activeElement.id || document.activeElement.textContent.trim()
      || document.activeElement.value));
  }
  assert.deepEqual(order, ["transport", "stream", "toggle", "publish-stream", "data", "json", "Publish"]);
  await page.getByLabel("Stream", { exact: true }).press("Enter");
  await state(page, "Subscribed");
  await page.getByLabel("Data").press("Control+Enter");
  await rows(page).first().waitFor();
  const overflow = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  assert.ok(overflow <= 0, `the page is ${overflow} px too wide`);
  assert.deepEqual(complaints, []);
});

const screenshot = process.env.CONSOLE_SCREENSHOT;
if (screenshot) test("pictures of the console", async (t) => {
  const node = await startNode(t);
  const browser = await launch(t);
  const { dir, name, ext } = parse(screenshot);
  const looks = [
    ["", { colorScheme: "light", viewport: { width: 1280, height: 900 } }],
    ["-dark", { colorScheme: "dark", viewport: { width: 1280, height: 900 } }],
    ["-narrow", { colorScheme: "light", viewport: NARROW }],
  ];
  for (const [suffix, options] of looks) {
    const { page } = await openPage(browser, options);
    await page.goto(node.url);
    await subscribe(page, { transport: "Long polling with cursor" });
    for (let n = 1; n <= 12; n += 1) {
      await node.publish("chat/1", { text: `message ${n}`, from: "console.test.js", n });
      await page.waitForTimeout(n * 40);
    }
    await publish(page, '{"text":"hi"}', { stream: "" });
    await rows(page).nth(11).waitFor();
    await page.waitForTimeout(2_500);
    await page.screenshot({ path: `${dir || "."}/${name}${suffix}${ext || ".png"}`, fullPage: true });
    await page.context().close();
  }
});
