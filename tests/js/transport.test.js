import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { createCable } from "@anycable/core";
import { LongPollingTransport } from "../../clients/js/index.js";
import { launch, openPage } from "./browser.js";
import { eventually } from "./eventually.js";
import { freePort, startNode } from "./node.js";
import { startPages } from "./pages.js";

/** Notes every request, and can spoil some. */
function watched(spoil = () => undefined) {
  const wire = { requests: [], inFlight: 0 };
  wire.fetch = async (url, init) => {
    const request = {
      url: String(url),
      body: init.body,
      headers: Object.fromEntries(new Headers(init.headers)),
      aborted: false,
    };
    init.signal?.addEventListener("abort", () => { request.aborted = request.status === undefined; });
    wire.requests.push(request);
    wire.inFlight += 1;
    try {
      const response = await (spoil(request, () => fetch(url, init)) ?? fetch(url, init));
      request.status = response.status;
      return response;
    } finally {
      wire.inFlight -= 1;
    }
  };
  return wire;
}

function connect(t, node, { wire = watched(), protocol = "actioncable-v1-ext-json", ...options } = {}) {
  const transport = new LongPollingTransport(node.poll, { fetchImplementation: wire.fetch, ...options });
  const cable = createCable({ protocol, transport, logLevel: "error", historyTimestamp: false });
  t.after(() => cable.disconnect());
  return { cable, transport, wire };
}

async function listen(cable, stream) {
  const messages = [];
  const channel = cable.streamFrom(stream);
  channel.on("message", (message) => messages.push(message));
  await channel.ensureSubscribed();
  return { channel, messages };
}

test("messages come in order, and nothing waits that need not", async (t) => {
  const node = await startNode(t, ["--poll_flush_interval", "0"]);
  const { cable, wire } = connect(t, node);
  const { messages } = await listen(cable, "chat/1");
  for (let n = 0; n < 100; n += 1) await node.publish("chat/1", { n });
  await eventually("all messages", () => messages.length === 100);
  assert.deepEqual(messages.map(({ n }) => n), Array.from({ length: 100 }, (_, n) => n));
  // Every request but the first says what has arrived.
  assert.ok(wire.requests.slice(1).every(({ headers }) => /^\d+$/.test(headers["pollux-cursor"])));
});

test("a command does not disturb the poll that waits, and there is one loop", async (t) => {
  const node = await startNode(t);
  const { cable, wire } = connect(t, node);
  const { channel, messages } = await listen(cable, "chat/1");
  await eventually("a poll that waits", () => wire.inFlight === 1);
  const held = wire.requests.at(-1);
  channel.whisper({ text: "hi" });
  await eventually("the command's own request", () => wire.requests.at(-1).body?.includes("whisper"));
  assert.equal(held.aborted, false);
  assert.equal(wire.inFlight, 2);
  await node.publish("chat/1", { n: 1 });
  await eventually("the message", () => messages.length === 1);
  assert.ok(wire.requests.every(({ aborted }) => !aborted));
  // Whichever of them was answered, no more than two ever wait, and nothing spins.
  const before = wire.requests.length;
  await node.publish("chat/1", { n: 2 });
  await eventually("the second message", () => messages.length === 2);
  assert.ok(wire.inFlight <= 2);
  assert.ok(wire.requests.length - before <= 2, `${wire.requests.length - before} requests`);
});

test("an answer that was lost on the way comes again, once", async (t) => {
  const node = await startNode(t, ["--poll_flush_interval", "0"]);
  let lose = 0;
  const wire = watched((request, ask) => {
    if (lose === 0 || request.body) return undefined;
    return ask().then(async (response) => {
      if (response.status !== 200) return response;
      lose -= 1;
      // It was read from the socket, and then the tab was suspended, or a proxy failed.
      await response.text();
      throw new TypeError("network error");
    });
  });
  const { cable } = connect(t, node, { wire, retryDelay: 20 });
  const { messages } = await listen(cable, "chat/1");
  await eventually("a poll that waits", () => wire.inFlight === 1);
  lose = 2;
  for (let n = 0; n < 10; n += 1) await node.publish("chat/1", { n });
  await eventually("all messages", () => messages.length === 10);
  assert.equal(lose, 0);
  assert.deepEqual(messages.map(({ n }) => n), Array.from({ length: 10 }, (_, n) => n));
});

test("headers are asked for with every request", async (t) => {
  const node = await startNode(t);
  let asked = 0;
  const headers = async () => ({ "X-Request-Number": String(asked += 1) });
  const { cable, wire } = connect(t, node, { headers });
  await listen(cable, "chat/1");
  assert.ok(wire.requests.length >= 2);
  wire.requests.forEach((request, index) => {
    assert.equal(request.headers["x-request-number"], String(index + 1));
  });
});

test("a poll that takes too long, and one that is put off, are tried again", async (t) => {
  const node = await startNode(t, ["--poll_flush_interval", "0"]);
  const statuses = [];
  let trouble = [];
  const wire = watched((request) => {
    if (request.body || !request.headers["x-anycable-poll-id"]) return undefined;
    const next = trouble.shift();
    if (next === undefined) return undefined;
    statuses.push(next);
    if (next === "silence") return new Promise(() => {}); // Its signal is all that ends it.
    return Promise.resolve(new Response("", { status: next, headers: { "Retry-After": "0" } }));
  });
  // A fetch that ignores its signal would hang; the real one doesn't.
  const inner = wire.fetch;
  wire.fetch = (url, init) => Promise.race([
    inner(url, init),
    new Promise((_, reject) => init.signal.addEventListener("abort", () => reject(init.signal.reason))),
  ]);
  const { cable } = connect(t, node, { wire, requestTimeout: 20_000, retryDelay: 10 });
  const { messages } = await listen(cable, "chat/1");
  await eventually("a poll that waits", () => wire.inFlight === 1);
  trouble = [503, 502];
  await node.publish("chat/1", { n: 1 });
  await node.publish("chat/1", { n: 2 });
  await eventually("both messages", () => messages.length === 2);
  await eventually("the trouble", () => trouble.length === 0);
  await node.publish("chat/1", { n: 3 });
  await eventually("the third", () => messages.length === 3);
  assert.deepEqual(statuses, [503, 502]);

  const transport = new LongPollingTransport(node.poll, { fetchImplementation: wire.fetch, requestTimeout: 200, retries: 0 });
  trouble = ["silence"];
  const closed = new Promise((resolve) => transport.once("close", resolve));
  await transport.open();
  assert.match((await closed).message, /took too long/);
});

test("a node that is started again is found again", async (t) => {
  const port = await freePort();
  const first = await startNode(t, [], { port });
  const { cable } = connect(t, first, { retries: 2, retryDelay: 20, protocol: "actioncable-v1-json" });
  const { messages } = await listen(cable, "chat/1");
  await first.kill();
  const second = await startNode(t, [], { port });
  await eventually("a subscription", async () => {
    await second.publish("chat/1", { n: 1 });
    return messages.length > 0;
  // The client decides when it tries again.
  }, 20_000);
});

test("a session that is gone says so, and a close is the end", async (t) => {
  const node = await startNode(t, ["--poll_keepalive_timeout", "1"]);
  const wire = watched();
  const transport = new LongPollingTransport(node.poll, { fetchImplementation: wire.fetch });
  const seen = [];
  for (const event of ["open", "close", "error", "gap"]) transport.on(event, (error) => seen.push([event, error?.status]));
  await transport.open();
  transport.send('{"command":"ping"}');
  await eventually("a poll that waits", () => wire.inFlight >= 1);
  await transport.close();
  assert.deepEqual(seen, [["open", undefined], ["close", undefined]]);
  await eventually("no request under way", () => wire.inFlight === 0);
  const before = wire.requests.length;
  assert.throws(() => transport.send("{}"), /not connected/);
  assert.equal(wire.requests.length, before);

  // Another session, which the server is told to forget.
  seen.length = 0;
  const sid = new Promise((resolve) => transport.on("data", (line) => JSON.parse(line).sid && resolve(JSON.parse(line).sid)));
  await transport.open();
  const identifier = JSON.stringify({ sid: await sid });
  const command = JSON.stringify({ command: "disconnect", payload: { identifier, reconnect: false } });
  const lines = [];
  transport.on("data", (line) => lines.push(JSON.parse(line)));
  const answer = await fetch(node.broadcast, { method: "POST", body: command });
  assert.equal(answer.status, 201);
  await eventually("the end", () => seen.some(([event]) => event === "close"));
  assert.equal(lines.find(({ type }) => type === "disconnect").reason, "remote");
  assert.deepEqual(seen.at(-1), ["close", 401]);
});

test("its address takes parameters, relative or not", () => {
  const transport = new LongPollingTransport("/lp");
  transport.setParam("sid", "a b");
  transport.setToken("t");
  assert.equal(transport.url, "/lp?sid=a+b&jid=t");
  transport.setURL("https://a.example/lp?x=1#top");
  transport.setParam("x", "2");
  assert.equal(transport.url, "https://a.example/lp?x=2#top");
});

test("it works in a browser, from a page of another origin", async (t) => {
  const node = await startNode(t, ["--poll_flush_interval", "0"]);
  const modules = new URL("node_modules/", import.meta.url);
  const imports = { "@anycable/core": "/modules/@anycable/core/index.js", nanoevents: "/modules/nanoevents/index.js" };
  const origin = await startPages(t, {
    "/": `<!doctype html><title>test</title><link rel="icon" href="data:,"><script type="importmap">${JSON.stringify({ imports })}</script>`,
    "/pollux/": new URL("../../clients/js/", import.meta.url),
    "/modules/": modules,
  });
  const browser = await launch(t);
  const { page, complaints } = await openPage(browser);
  await page.goto(origin);
  await page.evaluate(async (url) => {
    const { LongPollingTransport } = await import("/pollux/index.js");
    const { createCable } = await import("@anycable/core");
    const transport = new LongPollingTransport(url);
    window.cable = createCable({ transport, protocol: "actioncable-v1-ext-json", logLevel: "error" });
    window.messages = [];
    const channel = window.cable.streamFrom("chat/1");
    channel.on("message", (message) => window.messages.push(message));
    await channel.ensureSubscribed();
  }, node.poll);
  for (let n = 0; n < 20; n += 1) await node.publish("chat/1", { n });
  await page.waitForFunction(() => window.messages.length === 20);
  const got = await page.evaluate(() => window.messages.map(({ n }) => n));
  assert.deepEqual(got, Array.from({ length: 20 }, (_, n) => n));
  await page.evaluate(() => window.cable.disconnect());
  assert.deepEqual(complaints, []);
});

test("the module has no dependencies and its version is the package's", async () => {
  const folder = fileURLToPath(new URL("../../clients/js/", import.meta.url));
  const source = await readFile(`${folder}index.js`, "utf8");
  assert.doesNotMatch(source, /^\s*import\s/m);
  const { dependencies, exports, files } = JSON.parse(await readFile(`${folder}package.json`, "utf8"));
  assert.equal(dependencies, undefined);
  assert.equal(exports["."].default, "./index.js");
  assert.ok(files.includes("index.d.ts"));
});
