// Examples of README and docs that take a library from npm or a browser. The others are run by
// tests/tests/docs, whose exceptions.rs names those that are run here.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { Channel, createCable } from "@anycable/core";
import WebSocket from "ws";
import { HttpApplication, startApplication } from "./application.js";
import { createClient } from "./client.js";
import { at, block, load, openSaved, runInPage, runProgram } from "./documents.js";
import { eventually } from "./eventually.js";
import { freePort, startNode } from "./node.js";
import { startRedis } from "./redis.js";

const HI = { text: "hi" };
const NODE = "127.0.0.1:8080";

const here = (node) => `127.0.0.1:${node.port}`;
const subscribed = (node) =>
  eventually("a subscription", async () => await node.metric("pollux_subscriptions") === 1);
const shown = (page) => page.locator("#messages li");

/** Waits until a page has logged what `lines` says, one list of values for each line. */
async function logs({ logged, complaints }, lines) {
  await eventually("what the example prints", () => logged.length >= lines.length
    && logged.every((line) => line.length > 0)).catch(() => {});
  assert.deepEqual(logged, lines, complaints.join("\n"));
}

/** A node with an application that decides, and a port for publishers without a key. */
async function startWith(t, url) {
  const publishers = String(await freePort());
  return startNode(t, ["--rpc_host", url, "--broadcast_key", "none", "--http_broadcast_port", publishers]);
}

for (const installed of ["redis4", "redis5", "redis"]) {
  test(`publish.md: a program publishes through Redis with the package ${installed}`, async (t) => {
    const redis = await startRedis(t);
    const node = await startNode(t, ["--redis_url", redis.url]);
    const { cable } = createClient(t, node);
    const messages = [];
    const channel = cable.streamFrom("chat/1");
    channel.on("message", (message) => messages.push(message));
    await channel.ensureSubscribed();
    const example = at(block("docs/publish.md", 'import { createClient } from "redis"'),
      { "127.0.0.1:6379": new URL(redis.url).host });
    assert.equal(await runProgram(t, example, { redis: installed }), "1");
    await eventually("the message", () => messages.length > 0);
    assert.deepEqual(messages, [HI]);
  });
}

test("authenticate.md: a node takes the token that jsonwebtoken makes", async (t) => {
  const node = await startNode(t, ["--secret", "s3Krit"]);
  const token = await runProgram(t, block("docs/authenticate.md", "console.log(jwt.sign("), { jsonwebtoken: "jsonwebtoken" });
  const come = (headers) => fetch(node.poll, { method: "POST", headers });
  const answer = await come({ "X-JID": token });
  assert.equal(answer.status, 200);
  assert.match(await answer.text(), /"welcome"/);
  assert.equal((await come({})).status, 401);
  assert.equal((await come({ "X-JID": `${token}x` })).status, 401);
});

test("client-action-cable.md: AnyCable's client listens in a page", async (t) => {
  const node = await startNode(t);
  const page = await runInPage(t, at(block("docs/client-action-cable.md", 'const cable = createCable("ws://'),
    { [NODE]: here(node) }));
  await logs(page, [["listening"]]);
  await node.publish("chat/1", HI);
  await logs(page, [["listening"], [HI]]);
  assert.deepEqual(page.complaints, []);
});

test("client-action-cable.md: it polls where WebSocket does not get through, and only there", async (t) => {
  const example = block("docs/client-action-cable.md", "import { LongPollingTransport }");
  for (const getsThrough of [true, false]) {
    const node = await startNode(t);
    const socket = getsThrough ? here(node) : `127.0.0.1:${await freePort()}`;
    const page = await runInPage(t, at(example,
      { "wss://example.com": `ws://${socket}`, "https://example.com": node.url }));
    await subscribed(node);
    await node.publish("chat/1", HI);
    await logs(page, [[HI]]);
    await eventually("the right number of polls", async () =>
      await node.metric("pollux_parked_polls") === (getsThrough ? 0 : 1));
  }
});

test("client-action-cable.md: Rails' client talks to a channel, and hears", async (t) => {
  const application = await startApplication(t, HttpApplication);
  const node = await startWith(t, application.url);
  const page = await runInPage(t, at(block("docs/client-action-cable.md", "import { createConsumer }"), { [NODE]: here(node) }));
  const greeting = [["listening"], [{ hello: "ann" }], [{ said: "hi", n: 1 }]];
  await logs(page, greeting);
  await node.publish("chat/1", HI);
  await logs(page, [...greeting, [HI]]);
  assert.deepEqual([page.complaints, application.complaints], [[], []]);
});

test("client-action-cable.md: a WebSocket is enough", async (t) => {
  const node = await startNode(t);
  const page = await runInPage(t, at(block("docs/client-action-cable.md", "const socket"), { [NODE]: here(node) }));
  await subscribed(node);
  await node.publish("chat/1", HI);
  await logs(page, [[HI, "at", 1]]);
  assert.deepEqual(page.complaints, []);
});

test("clients.md: an EventSource listens in a page", async (t) => {
  const node = await startNode(t);
  const page = await runInPage(t, at(block("docs/clients.md", "const events = new EventSource"), { [NODE]: here(node) }));
  await subscribed(node);
  await node.publish("chat/1", HI);
  await eventually("a message", () => page.logged.length === 1 && page.logged[0].length > 0);
  assert.deepEqual(page.logged[0][0], HI);
  assert.match(page.logged[0][1], /^1\/.+\/chat\/1$/);
  assert.deepEqual(page.complaints, []);
});

test("getting-started.md: the page, saved and opened, shows what is published", async (t) => {
  const node = await startNode(t);
  const { page, complaints } = await openSaved(t, at(block("docs/getting-started.md", "<!doctype html>"), { [NODE]: here(node) }));
  await subscribed(node);
  await node.publish("chat/1", HI);
  await shown(page).filter({ hasText: /^hi$/ }).waitFor();
  await node.kill();
  const next = await startNode(t, [], { port: node.port });
  // A browser waits for seconds before it comes back.
  await eventually("it is there again", async () => await next.metric("pollux_subscriptions") === 1, 20_000);
  await next.publish("chat/1", { text: "back" });
  await shown(page).filter({ hasText: /^back$/ }).waitFor();
  assert.ok(complaints.every((line) => line.includes("/events")), complaints.join("\n"));
});

test("client-event-streams.md: the page, saved and opened, listens and publishes", async (t) => {
  const node = await startNode(t, ["--http_broadcast_cors"]);
  const { page, complaints } = await openSaved(t, at(block("docs/client-event-streams.md", "<!doctype html>"), { [NODE]: here(node) }));
  await subscribed(node);
  await page.locator("[name=text]").fill("hi");
  await page.getByRole("button", { name: "Say" }).click();
  await shown(page).filter({ hasText: /^hi$/ }).waitFor();
  assert.equal(await shown(page).count(), 1);
  assert.deepEqual(complaints, []);
});

test("backend.md: an application of serverless-js decides, speaks and names streams", async (t) => {
  const { POST } = await load(t, block("docs/backend.md", "import { Application, Channel, handler }"),
    { "@anycable/serverless-js": "@anycable/serverless-js" });
  const node = await startWith(t, await serve(t, POST));
  class ChatChannel extends Channel {
    static identifier = "ChatChannel";
  }
  const come = (query) => {
    const cable = createCable(`ws://${here(node)}/cable${query}`, { websocketImplementation: WebSocket });
    t.after(() => cable.disconnect());
    return cable;
  };
  await assert.rejects(come("").connect(), { reason: "unauthorized" });
  const channel = new ChatChannel({ room: "1" });
  const messages = [];
  channel.on("message", (message) => messages.push(message));
  come("?user=ann").subscribe(channel);
  await channel.ensureSubscribed();
  await channel.perform("speak", { text: "hi" });
  await eventually("the answer", () => messages.length === 1);
  await node.publish("chat/1", { text: "news" });
  await eventually("news", () => messages.length === 2);
  assert.deepEqual(messages, [{ you: "ann", said: "hi" }, { text: "news" }]);
});

/** Serves a function that takes a `Request`, as hosts of such functions do. Returns what `rpc_host` takes. */
async function serve(t, handle) {
  const server = createServer(async (request, response) => {
    const { method, headers } = request;
    const parts = [];
    for await (const part of request) parts.push(part);
    try {
      const answer = await handle(new Request(`http://app${request.url}`, { method, headers, body: Buffer.concat(parts) }));
      response.writeHead(answer.status, { "Content-Type": "application/json" }).end(await answer.text());
    } catch (error) {
      response.writeHead(500).end(String(error));
    }
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}/_anycable`;
}

// What stands around these is told by the text beside them.
const IMPORTS = `
  import { createCable } from "@anycable/web";
  import { LongPollingTransport } from "pollux-js";
`;
const LISTENS = 'cable.streamFrom("chat/1").on("message", (message) => console.log(message));';

test("clients/js: pollux-js takes the place of WebSocket, with headers of one's own", async (t) => {
  const node = await startNode(t);
  const example = at(block("clients/js/README.md", "const cable = createCable({"), { "https://example.com": node.url });
  const page = await runInPage(t, `const token = async () => "x";\n${example}${LISTENS}`);
  await subscribed(node);
  await node.publish("chat/1", HI);
  await logs(page, [[HI]]);
  assert.deepEqual(page.complaints, []);
});

test("clients/js: pollux-js stands behind WebSocket", async (t) => {
  const node = await startNode(t);
  const example = at(block("clients/js/README.md", 'createCable("wss://'),
    { "wss://example.com": `ws://127.0.0.1:${await freePort()}`, "https://example.com": node.url });
  const page = await runInPage(t, `${IMPORTS}const cable = ${example}${LISTENS}`);
  await subscribed(node);
  await node.publish("chat/1", HI);
  await logs(page, [[HI]]);
});
