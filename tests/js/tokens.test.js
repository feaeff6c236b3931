import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { createCable } from "@anycable/core";
import WebSocket from "ws";
import { LongPollingTransport } from "../../clients/js/index.js";
import { createClient } from "./client.js";
import { eventually, within } from "./eventually.js";
import { freePort, startNode } from "./node.js";
import { publicStream } from "./poller.js";

const SECRET = "s3Krit";
const ARGS = ["--jwt_secret", SECRET, "--public_streams", "--broadcast_key", "none", "--http_broadcast_port"];
const part = (value) => Buffer.from(typeof value === "string" ? value : JSON.stringify(value)).toString("base64url");

/** As backends do it. */
function token(identifiers, { lives, bits = 256 } = {}) {
  const exp = lives === undefined ? undefined : Math.floor(Date.now() / 1000) + lives;
  const text = `${part({ alg: `HS${bits}`, typ: "JWT" })}.${part({ ext: JSON.stringify(identifiers), exp })}`;
  return `${text}.${createHmac(`sha${bits}`, SECRET).update(text).digest("base64url")}`;
}

/** How each client connects with a token. */
const CLIENTS = {
  "WebSocket, token in the query": (t, node, options) => {
    const cable = createCable(node.url.replace("http", "ws") + "/cable", { websocketImplementation: WebSocket, logLevel: "error", ...options });
    t.after(() => cable.disconnect());
    return cable;
  },
  "WebSocket, token as a subprotocol": (t, node, options) => {
    const cable = createCable(node.url.replace("http", "ws") + "/cable", {
      websocketImplementation: WebSocket, websocketAuthStrategy: "sub-protocol", logLevel: "error", ...options,
    });
    t.after(() => cable.disconnect());
    return cable;
  },
  "the stock polling transport": (t, node, options) => createClient(t, node, options).cable,
  "pollux-js": (t, node, options) => {
    const cable = createCable({ transport: new LongPollingTransport(node.poll), logLevel: "error", ...options });
    t.after(() => cable.disconnect());
    return cable;
  },
};

async function start(t) {
  return startNode(t, [...ARGS, String(await freePort())]);
}

for (const [name, connect] of Object.entries(CLIENTS)) {
  test(`a token lets its bearer in: ${name}`, async (t) => {
    const node = await start(t);
    const cable = connect(t, node, { auth: { token: token({ user: "ann" }, { bits: 384 }) } });
    const channel = cable.streamFrom("chat/1");
    const messages = [];
    channel.on("message", (message) => messages.push(message));
    await within(5_000, "a subscription", channel.ensureSubscribed());
    await node.publish("chat/1", { n: 1 });
    await eventually("the message", () => messages.length === 1);
  });

  test(`a forged one does not: ${name}`, async (t) => {
    const node = await start(t);
    const forged = token({ user: "ann" }).replace(/.$/, (last) => (last === "A" ? "Q" : "A"));
    const cable = connect(t, node, { auth: { token: forged } });
    await assert.rejects(within(5_000, "an answer", cable.connect()), { reason: "unauthorized" });
  });

  test(`an expired token is replaced, and the session goes on with the next: ${name}`, async (t) => {
    const node = await start(t);
    let fetched = 0;
    const cable = connect(t, node, {
      auth: { token: token({ user: "ann" }, { lives: 2 }) },
      tokenRefresher: async (transport) => {
        fetched += 1;
        transport.setToken(token({ user: "ann" }, { lives: 3_600 }));
      },
    });
    const channel = cable.streamFrom("chat/1");
    const messages = [];
    channel.on("message", (message) => messages.push(message));
    await within(5_000, "a subscription", channel.ensureSubscribed());
    await eventually("the token is replaced", () => fetched > 0, 10_000);
    await eventually("messages again", async () => {
      await node.publish("chat/1", { n: 2 });
      return messages.some(({ n }) => n === 2);
    }, 10_000);
    assert.equal(fetched, 1);
  });
}

test("Rails' identifier of a public stream is what tokens open, not more", async (t) => {
  const node = await start(t);
  const response = await fetch(`${node.poll}?jid=${token({ user: "ann" })}`, {
    method: "POST",
    body: `${JSON.stringify({ command: "subscribe", identifier: JSON.stringify({ channel: "ChatChannel" }) })}\n`
      + JSON.stringify({ command: "subscribe", identifier: publicStream("a") }),
  });
  const types = (await response.text()).trim().split("\n").map((line) => JSON.parse(line).type);
  assert.deepEqual(types, ["welcome", "reject_subscription", "confirm_subscription"]);
});
