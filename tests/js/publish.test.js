import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "./client.js";
import { eventually } from "./eventually.js";
import { startNode } from "./node.js";

const QUICK = { sendBuffer: 50, cooldownPeriod: 50 };

test("a publication leaves out the client that exclude_socket names", async (t) => {
  const node = await startNode(t);
  const clients = [createClient(t, node, QUICK), createClient(t, node, QUICK)];
  const heard = await Promise.all(clients.map(async ({ cable }) => {
    const messages = [];
    const channel = cable.streamFrom("chat/1");
    channel.on("message", (message) => messages.push(message));
    await channel.ensureSubscribed();
    return messages;
  }));
  await node.publish("chat/1", { text: "not for the first" }, { exclude_socket: clients[0].cable.sessionId });
  await node.publish("chat/1", { text: "for both" });
  await eventually("both have the last", () => heard.every((messages) => messages.at(-1)?.text === "for both"));
  assert.deepEqual(heard[0], [{ text: "for both" }]);
  assert.deepEqual(heard[1], [{ text: "not for the first" }, { text: "for both" }]);
});

test("what is published arrives as it was, whatever it is", async (t) => {
  const node = await startNode(t);
  const { cable } = createClient(t, node, QUICK);
  const messages = [];
  const channel = cable.streamFrom("chat/ü 1");
  channel.on("message", (message) => messages.push(message));
  await channel.ensureSubscribed();
  const values = [{ b: 1, a: { "<>&": "\u2028 😀" } }, "text", 42, ["x", null], { text: "line\nbreak" }];
  for (const value of values) await node.publish("chat/ü 1", value);
  await eventually("all of them", () => messages.length >= values.length);
  assert.deepEqual(messages, values);
});

test("data need not be wrapped in a string", async (t) => {
  const node = await startNode(t);
  const { cable } = createClient(t, node, QUICK);
  const messages = [];
  const channel = cable.streamFrom("chat/1");
  channel.on("message", (message) => messages.push(message));
  await channel.ensureSubscribed();
  const response = await fetch(node.broadcast, { method: "POST", body: '{"stream":"chat/1","data":{"b":1}}' });
  assert.equal(response.status, 201);
  await eventually("the message", () => messages.length > 0);
  assert.deepEqual(messages, [{ b: 1 }]);
});

test("a publication that is none is refused with a reason", async (t) => {
  const node = await startNode(t);
  const refused = ["", "nonsense", "{}", '{"stream":"","data":"1"}', '{"stream":"a"}'];
  for (const body of refused) {
    const response = await fetch(node.broadcast, { method: "POST", body });
    assert.equal(response.status, 422, body);
    const { error, reason } = await response.json();
    assert.ok(error && reason, "it says what and why");
  }
});
