import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "./client.js";
import { eventually, within } from "./eventually.js";
import { startNode } from "./node.js";

for (const protocol of ["actioncable-v1-json", "actioncable-v1-ext-json"]) {
  test(`a node that stops says so, and its clients find the next one, ${protocol}`, async (t) => {
    const node = await startNode(t);
    const { cable, wire, ofType } = createClient(t, node, { sendBuffer: 50, cooldownPeriod: 50, protocol });
    const messages = [];
    const channel = cable.streamFrom("chat/1");
    channel.on("message", (message) => messages.push(message));
    await channel.ensureSubscribed();

    const disconnected = new Promise((resolve) => cable.once("disconnect", resolve));
    await eventually("a held poll", () => wire.inFlight > 0);
    node.terminate();
    const { reason } = await within(5_000, "the client is told", disconnected);
    assert.equal(reason, "server_restart");
    assert.deepEqual(ofType("disconnect"), [{ type: "disconnect", reason: "server_restart", reconnect: true }]);
    assert.deepEqual(await node.exit(), { code: 0, signal: null });

    const resubscribed = new Promise((resolve) => channel.once("connect", resolve));
    const next = await startNode(t, [], { port: node.port });
    await within(10_000, "the client finds the next node", resubscribed);
    await next.publish("chat/1", { text: "same place" });
    await eventually("messages flow again", () => messages.length > 0);
    assert.deepEqual(messages, [{ text: "same place" }]);
  });
}

test("a node that dies is replaced without a word", async (t) => {
  const node = await startNode(t);
  const { cable, ofType } = createClient(t, node, { sendBuffer: 50, cooldownPeriod: 50 });
  const messages = [];
  const channel = cable.streamFrom("chat/1");
  channel.on("message", (message) => messages.push(message));
  await channel.ensureSubscribed();

  const disconnected = new Promise((resolve) => cable.once("disconnect", resolve));
  await node.kill();
  await within(5_000, "the client notices", disconnected);
  const resubscribed = new Promise((resolve) => channel.once("connect", resolve));
  const next = await startNode(t, [], { port: node.port });
  await within(10_000, "the client finds the next node", resubscribed);
  await next.publish("chat/1", { text: "back" });
  await eventually("messages flow again", () => messages.length > 0);
  assert.deepEqual(messages, [{ text: "back" }]);
  assert.deepEqual(ofType("disconnect"), []);
});
