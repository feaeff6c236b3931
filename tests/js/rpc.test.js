// Real clients, a node, and an application that decides.

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { Channel, createCable } from "@anycable/core";
import WebSocket from "ws";
import { LongPollingTransport } from "../../clients/js/index.js";
import { GrpcApplication, HttpApplication, startApplication } from "./application.js";
import { createClient } from "./client.js";
import { eventually, within } from "./eventually.js";
import { freePort, startNode } from "./node.js";

const SECRET = "s3Krit";
const BASE = "actioncable-v1-json";
const EXTENDED = "actioncable-v1-ext-json";

class ChatChannel extends Channel {
  static identifier = "ChatChannel";
}

class SecretChannel extends Channel {
  static identifier = "SecretChannel";
}

const socketUrl = (node) => node.url.replace("http", "ws") + "/cable";
/** The node's addresses, with who is asking. */
const asUser = (node, user) => ({
  url: node.url,
  poll: user ? `${node.poll}?user=${user}` : node.poll,
  socket: user ? `${socketUrl(node)}?user=${user}` : socketUrl(node),
});

function overSocket(protocol) {
  return (t, node, user, options) => {
    const cable = createCable(asUser(node, user).socket, {
      protocol, websocketImplementation: WebSocket, logLevel: "error", reconnectStrategy: () => 50, ...options,
    });
    t.after(() => cable.disconnect());
    return cable;
  };
}

function overStockPolls(protocol) {
  return (t, node, user, options) => createClient(t, asUser(node, user), { protocol, ...options }).cable;
}

const CLIENTS = {
  "WebSocket, base protocol": overSocket(BASE),
  "WebSocket, extended protocol": overSocket(EXTENDED),
  "the stock polling transport, base protocol": overStockPolls(BASE),
  "the stock polling transport, extended protocol": overStockPolls(EXTENDED),
  "pollux-js": (t, node, user, options) => {
    const transport = new LongPollingTransport(asUser(node, user).poll);
    const cable = createCable({ transport, logLevel: "error", reconnectStrategy: () => 50, ...options });
    t.after(() => cable.disconnect());
    return cable;
  },
};

const FACES = { HTTP: HttpApplication, gRPC: GrpcApplication };

async function start(t, face, ...args) {
  const application = await startApplication(t, FACES[face]);
  const node = await startNode(t, [
    "--rpc_host", application.url,
    "--broadcast_key", "none", "--http_broadcast_port", String(await freePort()),
    ...args,
  ]);
  return { node, application };
}

/** A channel of the chat, and what is heard on it. */
function join(cable, room) {
  const channel = new ChatChannel({ room });
  const messages = [];
  channel.on("message", (message) => messages.push(message));
  cable.subscribe(channel);
  return { channel, messages };
}

function token(user, lives) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const claims = { ext: JSON.stringify({ user }), exp: Math.floor(Date.now() / 1000) + lives };
  const text = `${part({ alg: "HS256", typ: "JWT" })}.${part(claims)}`;
  return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
}

for (const [name, connect, face] of Object.entries(CLIENTS)
  .flatMap(([client, connect]) => Object.keys(FACES).map((face) => [`${client}, over ${face}`, connect, face]))) {
  test(`a user connects, subscribes, speaks, hears, and is sent away: ${name}`, async (t) => {
    const { node, application } = await start(t, face);
    const cable = connect(t, node, "ann");
    const { channel, messages } = join(cable, "1");
    await within(5_000, "a subscription", channel.ensureSubscribed());
    await eventually("a greeting", () => messages.length === 1);
    await channel.perform("speak", { text: "one" });
    await channel.perform("speak", { text: "two" });
    await eventually("both echoes", () => messages.length === 3);
    await node.publish("chat/1", { n: 1 });
    await eventually("news", () => messages.length === 4);
    assert.deepEqual(messages, [{ hello: "ann" }, { said: "one", n: 1 }, { said: "two", n: 2 }, { n: 1 }]);
    assert.deepEqual(application.calls.map(({ kind }) => kind), ["connect", "subscribe", "message", "message"]);
    assert.deepEqual(new Set(application.calls.map(({ sid }) => sid)), new Set([cable.sessionId]));

    const closed = new Promise((resolve) => cable.on("close", resolve));
    const response = await fetch(node.broadcast, {
      method: "POST",
      body: JSON.stringify({ command: "disconnect", payload: { identifier: '{"user":"ann"}', reconnect: false } }),
    });
    assert.equal(response.status, 201);
    const event = await within(5_000, "the end", closed);
    assert.equal(event.reason, "remote");
    const [gone] = await eventually("the application hears of it", () => application.of("disconnect").length > 0
      && application.of("disconnect"));
    assert.equal(gone.body.identifiers, '{"user":"ann"}');
    assert.deepEqual(gone.body.subscriptions, [channel.identifier]);
    assert.deepEqual(application.complaints, []);
  });

  test(`who is refused stays away, and what is rejected is known: ${name}`, async (t) => {
    const { node, application } = await start(t, face);
    const refused = connect(t, node, "mallory");
    await assert.rejects(within(5_000, "an answer", refused.connect()), { reason: "unauthorized" });
    const cable = connect(t, node, "ann");
    const secret = new SecretChannel();
    cable.subscribe(secret);
    await assert.rejects(within(5_000, "an answer", secret.ensureSubscribed()), { name: "SubscriptionRejectedError" });
    const { channel } = join(cable, "1");
    await within(5_000, "a subscription", channel.ensureSubscribed());
    assert.equal(application.of("connect").length, 2, "nobody tried again");
    assert.equal(application.of("subscribe").length, 2);
    assert.deepEqual(application.complaints, []);
  });

  test(`channels live on with a newer token: ${name}`, async (t) => {
    const { node, application } = await start(t, face, "--jwt_secret", SECRET);
    let fetched = 0;
    const cable = connect(t, node, undefined, {
      auth: { token: token("ann", 2) },
      tokenRefresher: async (transport) => {
        fetched += 1;
        transport.setToken(token("ann", 3_600));
      },
    });
    const { channel, messages } = join(cable, "1");
    await within(5_000, "a subscription", channel.ensureSubscribed());
    await eventually("the token is replaced", () => fetched > 0, 10_000);
    await eventually("messages again", async () => {
      await node.publish("chat/1", { n: 2 });
      return messages.some(({ n }) => n === 2);
    }, 10_000);
    await channel.perform("speak", { text: "me again" });
    await eventually("an echo", () => messages.some(({ said }) => said === "me again"));
    assert.equal(fetched, 1);
    assert.equal(application.of("connect").length, 0, "tokens speak for themselves");
    assert.deepEqual(application.complaints, []);
  });

  test(`a node is started again, and everybody is back in their rooms: ${name}`, async (t) => {
    const port = await freePort();
    const application = await startApplication(t, FACES[face]);
    const args = [
      "--rpc_host", application.url,
      "--broadcast_key", "none", "--http_broadcast_port", String(await freePort()),
    ];
    const first = await startNode(t, args, { port });
    const { channel, messages } = join(connect(t, first, "ann"), "1");
    await within(5_000, "a subscription", channel.ensureSubscribed());
    await first.kill();
    const second = await startNode(t, args, { port });
    await eventually("messages again", async () => {
      await second.publish("chat/1", { n: 1 });
      return messages.some(({ n }) => n === 1);
    }, 15_000);
    assert.equal(application.of("connect").length, 2);
    assert.equal(application.of("subscribe").length, 2);
  });
}

test("whoever may whisper is the application's to say", async (t) => {
  const { node } = await start(t, "HTTP");
  const [ann, bea] = ["ann", "bea"].map((user) => join(overSocket(EXTENDED)(t, node, user), "1"));
  for (const { channel } of [ann, bea]) await within(5_000, "a subscription", channel.ensureSubscribed());
  await ann.channel.whisper({ text: "psst" });
  await eventually("the whisper", () => bea.messages.some(({ text }) => text === "psst"));
  assert.deepEqual(ann.messages, [{ hello: "ann" }]);
});

/** Rails' client looks at the page it is on; here is as much of one as it needs. */
async function railsConsumer(t, node, user) {
  globalThis.document ??= { visibilityState: "visible" };
  globalThis.addEventListener ??= () => {};
  globalThis.removeEventListener ??= () => {};
  const rails = await import("@rails/actioncable");
  rails.adapters.WebSocket = WebSocket;
  const consumer = rails.createConsumer(asUser(node, user).socket);
  t.after(() => consumer.disconnect());
  return consumer;
}

test("Rails' client subscribes, speaks, is rejected, and unsubscribes", async (t) => {
  const { node, application } = await start(t, "HTTP");
  const consumer = await railsConsumer(t, node, "ann");
  const seen = { connected: 0, rejected: 0, messages: [] };
  const chat = consumer.subscriptions.create({ channel: "ChatChannel", room: "1" }, {
    connected: () => { seen.connected += 1; },
    received: (message) => seen.messages.push(message),
  });
  consumer.subscriptions.create("SecretChannel", { rejected: () => { seen.rejected += 1; } });
  await eventually("both answers", () => seen.connected === 1 && seen.rejected === 1);
  chat.perform("speak", { text: "hi" });
  await eventually("an echo", () => seen.messages.length === 2);
  await node.publish("chat/1", { n: 1 });
  await eventually("news", () => seen.messages.length === 3);
  assert.deepEqual(seen.messages, [{ hello: "ann" }, { said: "hi", n: 1 }, { n: 1 }]);
  chat.unsubscribe();
  await eventually("the application hears of it", () => application.of("unsubscribe").length === 1);
  assert.equal(seen.connected, 1);
  assert.deepEqual(application.complaints, []);
});

test("Rails' client is refused and stays away", async (t) => {
  const { node, application } = await start(t, "HTTP");
  const consumer = await railsConsumer(t, node, "mallory");
  consumer.connect();
  await eventually("a refusal", () => application.of("connect").length === 1);
  // It has closed for good when its monitor has stopped.
  await eventually("it has given up", () => !consumer.connection.monitor.isRunning() && !consumer.connection.isOpen());
  assert.equal(application.of("connect").length, 1);
});
