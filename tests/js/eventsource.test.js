import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { launch, openPage } from "./browser.js";
import { freePort, startNode } from "./node.js";
import { startNginx } from "./nginx.js";
import { startRedis } from "./redis.js";

/** A page of the server itself, with an EventSource that notes what happens. */
async function listen(t, origin, query) {
  const browser = await launch(t);
  const { page } = await openPage(browser);
  // Any page of the same origin will do.
  await page.goto(`${origin}/health`);
  await page.evaluate((url) => {
    window.seen = { opens: 0, errors: 0, messages: [], named: [], order: [] };
    window.source = new EventSource(url);
    window.source.onopen = () => { window.seen.opens += 1; window.seen.order.push("open"); };
    window.source.onerror = () => { window.seen.errors += 1; };
    window.source.onmessage = ({ data, lastEventId }) => {
      window.seen.order.push("message");
      window.seen.messages.push({ data, lastEventId });
    };
    for (const name of ["ping", "welcome", "confirm_subscription"]) {
      window.source.addEventListener(name, () => window.seen.named.push(name));
    }
  }, `${origin}/events?${query}`);
  return page;
}

const numbers = (page) => page.evaluate(() => window.seen.messages.map(({ data }) => JSON.parse(data).n));
const upTo = (count) => Array.from({ length: count }, (_, n) => n);
const have = (page, count) => page.waitForFunction((count) => window.seen.messages.length >= count, count);

test("an EventSource opens before its first message, and hears names and lines apart", async (t) => {
  const node = await startNode(t, ["--ping_interval", "1"]);
  const page = await listen(t, node.url, "stream=chat/1");
  await page.waitForFunction(() => window.seen.opens === 1);
  await node.publish("chat/1", { n: 0 });
  const text = "one\ntwo\r\n three \u2028 four";
  await fetch(node.broadcast, { method: "POST", body: JSON.stringify({ stream: "chat/1", data: text }) });
  await have(page, 2);
  await page.waitForFunction(() => window.seen.named.includes("ping"));
  const seen = await page.evaluate(() => window.seen);
  assert.equal(seen.order[0], "open");
  assert.deepEqual(seen.named.slice(0, 2), ["welcome", "confirm_subscription"]);
  assert.equal(seen.messages[0].data, '{"n":0}');
  // Carriage returns end lines of a stream, so the payload's line ends all arrive as one kind.
  assert.equal(seen.messages[1].data, text.replace("\r\n", "\n"));
  assert.match(seen.messages[0].lastEventId, /^1\/.+\/chat\/1$/);
  assert.equal(seen.errors, 0);
});

test("an EventSource is stopped for good by a refusal", async (t) => {
  const node = await startNode(t);
  const page = await listen(t, node.url, "nothing=here");
  await page.waitForFunction(() => window.source.readyState === EventSource.CLOSED);
  assert.equal(await page.evaluate(() => window.seen.opens), 0);
});

test("an EventSource gets what it missed while its node was started again", async (t) => {
  const { url } = await startRedis(t);
  const port = await freePort();
  const args = ["--redis_url", url];
  const other = await startNode(t, args);
  const first = await startNode(t, args, { port });
  const page = await listen(t, first.url, "stream=chat/1");
  await page.waitForFunction(() => window.seen.opens === 1);
  for (const n of [0, 1]) await other.publish("chat/1", { n });
  await have(page, 2);
  await first.kill();
  for (const n of [2, 3, 4]) await other.publish("chat/1", { n });
  await startNode(t, args, { port });
  // The server has asked it to wait up to four seconds.
  await page.waitForFunction(() => window.seen.opens === 2, null, { timeout: 20_000 });
  await have(page, 5);
  await other.publish("chat/1", { n: 5 });
  await have(page, 6);
  assert.deepEqual(await numbers(page), upTo(6));
});

test("an EventSource behind nginx outlives its read timeout, and a change of nodes", async (t) => {
  const { url } = await startRedis(t);
  const args = ["--redis_url", url, "--ping_interval", "1"];
  const nodes = [await startNode(t, args), await startNode(t, args)];
  const shorten = (text) => {
    const shorter = text.replace("proxy_read_timeout 60s;", "proxy_read_timeout 2s;");
    assert.notEqual(shorter, text);
    return shorter;
  };
  const nginx = await startNginx(t, nodes, shorten);
  const page = await listen(t, nginx.url, "stream=chat/1");
  await page.waitForFunction(() => window.seen.opens === 1);
  await nodes[0].publish("chat/1", { n: 0 });
  await have(page, 1);
  // Twice as long as nginx waits for a silent node; the time itself is what is tested.
  await delay(4_500);
  await nodes[1].publish("chat/1", { n: 1 });
  await have(page, 2);
  assert.deepEqual(await page.evaluate(() => [window.seen.opens, window.seen.errors]), [1, 0]);
  // The node that holds it goes; the other one carries on behind the same address.
  const clients = await Promise.all(nodes.map(async (node) => /pollux_sse_clients_num 1\n/.test(await (await fetch(`${node.url}/metrics`)).text())));
  const holder = clients.indexOf(true);
  assert.notEqual(holder, -1);
  await nodes[holder].kill();
  await nodes[1 - holder].publish("chat/1", { n: 2 });
  await page.waitForFunction(() => window.seen.opens === 2, null, { timeout: 20_000 });
  await nodes[1 - holder].publish("chat/1", { n: 3 });
  await have(page, 4);
  assert.deepEqual(await numbers(page), upTo(4));
});
