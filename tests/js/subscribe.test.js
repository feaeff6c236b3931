import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "./client.js";
import { eventually, within } from "./eventually.js";
import { startNode } from "./node.js";
import { ofType, poll, publicStream, subscribe } from "./poller.js";

/** Beyond the time in which the server takes a second subscribe for a crossing one. */
const NO_LONGER_CROSSING_MS = 1_800;

test("a subscription is confirmed once", async (t) => {
  const node = await startNode(t);
  const { cable, ofType: received, logger } = createClient(t, node);
  const channel = cable.streamFrom("chat/1");
  await within(5_000, "the subscription is confirmed", channel.ensureSubscribed());
  cable.send({ command: "ping" });
  await eventually("a pong, behind which nothing can still come", () => received("pong").length === 1);
  assert.equal(received("confirm_subscription").length, 1);
  assert.deepEqual(logger.complaints, []);
});

test("a second subscribe that crosses the confirmation does not kill the subscription", async (t) => {
  const node = await startNode(t);
  const { cable, ofType: received, logger } = createClient(t, node, { sendBuffer: 50, cooldownPeriod: 50 });
  const channel = cable.streamFrom("chat/1");
  const messages = [];
  channel.on("message", (message) => messages.push(message));
  await channel.ensureSubscribed();

  // A confirmation that nobody waits for makes the client unsubscribe behind the channel's back.
  cable.send(subscribe(channel.identifier));
  cable.send(subscribe(channel.identifier));
  cable.send({ command: "ping" });
  await eventually("a pong", () => received("pong").length === 1);
  assert.equal(received("confirm_subscription").length, 1);

  await node.publish("chat/1", { text: "still there?" });
  await eventually("the message", () => messages.length === 1);
  assert.deepEqual(logger.complaints, []);
});

test("a confirmation that got lost is sent again when the client asks again", async (t) => {
  const node = await startNode(t);
  const client = createClient(t, node, {
    sendBuffer: 50,
    cooldownPeriod: 50,
    protocolOptions: { subscribeRetryInterval: NO_LONGER_CROSSING_MS },
  });
  const { cable, wire, ofType: received } = client;
  let lost = 0;
  wire.change(async (response) => {
    const body = await response.text();
    if (lost === 0 && body.includes("confirm_subscription")) {
      lost += 1;
      throw new DOMException("aborted when the answer was already written", "AbortError");
    }
    return new Response(body || null, response);
  });
  const channel = cable.streamFrom("chat/1");
  await within(8_000, "the subscription is confirmed after all", channel.ensureSubscribed());
  assert.equal(lost, 1);
  assert.equal(received("confirm_subscription").length, 1);
});

test("duplicates are answered when they can't be crossing, and only then", async (t) => {
  const node = await startNode(t);
  const command = subscribe(publicStream("chat/1"));
  const { id, frames } = await poll(node, { commands: [command, command] });
  assert.equal(ofType(frames, "confirm_subscription").length, 1, "two in one body");

  const crossing = await poll(node, { id, commands: [command, { command: "ping" }] });
  assert.deepEqual(crossing.frames.map(({ type }) => type), ["pong"]);

  // That time passes is what is tested here.
  await delay(NO_LONGER_CROSSING_MS);
  const late = await poll(node, { id, commands: [command, { command: "ping" }] });
  assert.deepEqual(late.frames.map(({ type }) => type), ["confirm_subscription", "pong"]);
});

test("after unsubscribe nothing comes, and a new subscribe is confirmed", async (t) => {
  const node = await startNode(t);
  const { cable, ofType: received, frames } = createClient(t, node, { sendBuffer: 50, cooldownPeriod: 50 });
  const first = cable.streamFrom("chat/1");
  await first.ensureSubscribed();
  first.disconnect();
  cable.send({ command: "ping" });
  await eventually("a pong", () => received("pong").length === 1);
  await node.publish("chat/1", { text: "for nobody" });

  const second = cable.streamFrom("chat/1");
  await within(5_000, "the second subscription is confirmed", second.ensureSubscribed());
  const messages = [];
  second.on("message", (message) => messages.push(message));
  await node.publish("chat/1", { text: "for somebody" });
  await eventually("the message", () => messages.length > 0);
  assert.deepEqual(messages, [{ text: "for somebody" }]);
  assert.equal(received("confirm_subscription").length, 2);
  assert.equal(frames.filter((frame) => frame.message?.text === "for nobody").length, 0);
});
