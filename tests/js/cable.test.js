import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { createCable } from "@anycable/core";
import WebSocket from "ws";
import { launch, openPage } from "./browser.js";
import { eventually } from "./eventually.js";
import { freePort, startNode } from "./node.js";
import { startPages } from "./pages.js";
import { publicStream } from "./poller.js";

const cableUrl = (node) => node.url.replace("http", "ws") + "/cable";

/** AnyCable's client, and the sockets it opens. */
function connect(t, node, protocol) {
  const sockets = [];
  class Watched extends WebSocket {
    constructor(...args) {
      super(...args);
      sockets.push(this);
    }
  }
  const cable = createCable(cableUrl(node), {
    protocol,
    websocketImplementation: Watched,
    historyTimestamp: false,
    logLevel: "error",
    pingInterval: 1_000,
    reconnectStrategy: () => 50,
  });
  t.after(() => cable.disconnect());
  return { cable, sockets };
}

async function listen(cable, stream) {
  const messages = [];
  const channel = cable.streamFrom(stream);
  channel.on("message", (message) => messages.push(message));
  await channel.ensureSubscribed();
  return { channel, messages };
}

for (const protocol of ["actioncable-v1-json", "actioncable-v1-ext-json"]) {
  test(`AnyCable's client with ${protocol}: messages, whispers, and a node that is started again`, async (t) => {
    const port = await freePort();
    const first = await startNode(t, [], { port });
    const one = connect(t, first, protocol);
    const other = connect(t, first, protocol);
    const { messages, channel } = await listen(one.cable, "chat/1");
    const { messages: heard } = await listen(other.cable, "chat/1");
    assert.equal(one.sockets[0].protocol, protocol);
    for (let n = 0; n < 50; n += 1) await first.publish("chat/1", { n });
    await eventually("all messages", () => messages.length === 50);
    assert.deepEqual(messages.map(({ n }) => n), Array.from({ length: 50 }, (_, n) => n));
    await channel.whisper({ text: "psst" });
    await eventually("the whisper", () => heard.some(({ text }) => text === "psst"));
    assert.ok(!messages.some(({ text }) => text === "psst"), "whoever whispers does not hear it");
    await first.kill();
    const second = await startNode(t, [], { port });
    await eventually("a subscription", async () => {
      await second.publish("chat/1", { again: true });
      return messages.some(({ again }) => again) && heard.some(({ again }) => again);
    });
    await channel.disconnect();
    const before = messages.length;
    await second.publish("chat/1", { n: 51 });
    await eventually("the other's message", () => heard.some(({ n }) => n === 51));
    assert.equal(messages.length, before);
  });
}

test("AnyCable's client comes back to its session and misses nothing", async (t) => {
  const node = await startNode(t);
  const { cable, sockets } = connect(t, node, "actioncable-v1-ext-json");
  const { messages, channel } = await listen(cable, "chat/1");
  const restored = [];
  channel.on("connect", (event) => restored.push(event));
  await node.publish("chat/1", { n: 0 });
  await eventually("a position", () => messages.length === 1);
  for (let round = 1; round <= 5; round += 1) {
    // The connection breaks; what is published meanwhile is missed.
    sockets.at(-1).terminate();
    await node.publish("chat/1", { n: 2 * round - 1 });
    await eventually("another socket", () => sockets.length > round);
    await node.publish("chat/1", { n: 2 * round });
    await eventually("what was missed", () => messages.length >= 2 * round + 1);
  }
  assert.deepEqual(messages.map(({ n }) => n), Array.from({ length: 11 }, (_, n) => n));
  const metrics = await (await fetch(`${node.url}/metrics`)).text();
  assert.match(metrics, /pollux_restored_sessions_total 5\n/);
});

test("AnyCable's client tells who is present", async (t) => {
  const node = await startNode(t);
  const one = connect(t, node, "actioncable-v1-ext-json");
  const other = connect(t, node, "actioncable-v1-ext-json");
  const events = [];
  const { channel } = await listen(one.cable, "chat/1");
  channel.on("presence", (event) => events.push(event));
  const { channel: second } = await listen(other.cable, "chat/1");
  channel.presence.join("1", { name: "Ada" });
  second.presence.join("2", { name: "Bob" });
  await eventually("both joins", () => events.filter(({ type }) => type === "join").length === 2);
  const present = await second.presence.info();
  assert.deepEqual(Object.keys(present).sort(), ["1", "2"]);
  second.presence.leave();
  await eventually("a leave", () => events.some(({ type, id }) => type === "leave" && id === "2"));
});

test("Rails' client in a browser: subscribes, receives, unsubscribes and comes back", async (t) => {
  const port = await freePort();
  const first = await startNode(t, [], { port });
  const module = await readFile(new URL("node_modules/@rails/actioncable/app/assets/javascripts/actioncable.esm.js", import.meta.url));
  const origin = await startPages(t, { "/actioncable.js": module });
  const browser = await launch(t);
  const { page } = await openPage(browser);
  await page.goto(origin);
  await page.evaluate(async ([url, identifier]) => {
    const { createConsumer } = await import("/actioncable.js");
    const consumer = createConsumer(url);
    window.seen = { messages: [], connected: 0, disconnected: 0 };
    window.subscription = consumer.subscriptions.create(JSON.parse(identifier), {
      connected: () => { window.seen.connected += 1; },
      disconnected: () => { window.seen.disconnected += 1; },
      received: (message) => window.seen.messages.push(message),
    });
  }, [cableUrl(first), publicStream("chat/1")]);
  const seen = () => page.evaluate(() => window.seen);
  await page.waitForFunction(() => window.seen.connected === 1);
  for (let n = 0; n < 10; n += 1) await first.publish("chat/1", { n });
  await page.waitForFunction(() => window.seen.messages.length === 10);
  assert.deepEqual((await seen()).messages.map(({ n }) => n), Array.from({ length: 10 }, (_, n) => n));
  await first.kill();
  await page.waitForFunction(() => window.seen.disconnected === 1);
  const second = await startNode(t, [], { port });
  // Its monitor looks every few seconds.
  await page.waitForFunction(() => window.seen.connected === 2, null, { timeout: 30_000 });
  await second.publish("chat/1", { n: 10 });
  await page.waitForFunction(() => window.seen.messages.length === 11);
  await page.evaluate(() => window.subscription.unsubscribe());
  await eventually("nobody is subscribed", async () => / pollux_subscriptions 0\n|\npollux_subscriptions 0\n/.test(await (await fetch(`${second.url}/metrics`)).text()));
});
