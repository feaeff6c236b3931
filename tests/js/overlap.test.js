import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "./client.js";
import { eventually } from "./eventually.js";
import { startNode } from "./node.js";

const IDLE_MS = 5_000;
/** Room for a poll that was just ending; two loops that chase each other made ten in this time. */
const IDLE_REQUESTS_MAX = 3;

test("the client's two loops wait side by side instead of chasing each other", async (t) => {
  const node = await startNode(t);
  // The stock times: the loops arise from them.
  const { cable, wire } = createClient(t, node);
  const messages = [];
  const channel = cable.streamFrom("chat/1");
  channel.on("message", (message) => messages.push(message));
  await channel.ensureSubscribed();

  // Two flushes while polls are held: the first aborts one, the second no longer can. The command
  // is one that nothing answers, so that the poll which carries it is held as well.
  for (const flush of [1, 2]) {
    await eventually("a held poll", () => wire.inFlight > 0);
    cable.send({ command: "pong" });
    await eventually(`flush ${flush}`, () => wire.requests.filter(({ body }) => body?.includes("pong")).length === flush);
  }
  await eventually("two loops", () => wire.inFlight === 2);

  const before = wire.requests.length;
  // Idleness is what is measured.
  await delay(IDLE_MS);
  const requests = wire.requests.length - before;
  t.diagnostic(`${requests} requests in ${IDLE_MS} ms of idleness`);
  assert.ok(requests <= IDLE_REQUESTS_MAX, `${requests} requests in ${IDLE_MS} ms`);
  assert.equal(wire.inFlight, 2, "both loops are still held");

  for (let number = 0; number < 5; number += 1) await node.publish("chat/1", { number });
  await eventually("all messages", () => messages.length >= 5);
  assert.deepEqual(messages.map(({ number }) => number), [0, 1, 2, 3, 4]);
  assert.deepEqual(wire.requests.filter(({ status }) => ![undefined, 200, 204, "AbortError"].includes(status)), []);
});
