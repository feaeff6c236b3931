import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "./client.js";
import { eventually } from "./eventually.js";
import { startNode } from "./node.js";
import { startRedis } from "./redis.js";

const QUICK = { sendBuffer: 50, cooldownPeriod: 50 };

test("what a backend publishes with FCALL reaches the clients of two nodes, in its order", async (t) => {
  const redis = await startRedis(t);
  const nodes = [await startNode(t, ["--redis_url", redis.url]), await startNode(t, ["--redis_url", redis.url])];
  const heard = await Promise.all(nodes.map(async (node) => {
    const { cable } = createClient(t, node, QUICK);
    const messages = [];
    const channel = cable.streamFrom("chat/ü 1");
    channel.on("message", (message) => messages.push(message));
    await channel.ensureSubscribed();
    return messages;
  }));
  const keys = ["pollux:{chat/ü 1}"];
  const values = [{ text: "hi" }, "text", 42, [null, "\u2028 😀"]];
  for (const [at, value] of values.entries()) {
    const offset = await redis.client.fCall("pollux_publish", { keys, arguments: [JSON.stringify(value)] });
    assert.equal(offset, at + 1);
  }
  const transient = ["true", JSON.stringify({ transient: true })];
  assert.equal(await redis.client.fCall("pollux_publish", { keys, arguments: transient }), 0);
  await eventually("both have the last", () => heard.every((messages) => messages.at(-1) === true));
  for (const messages of heard) assert.deepEqual(messages, [...values, true]);
});

test("a call that is wrong is an error of Redis", async (t) => {
  const redis = await startRedis(t);
  await startNode(t, ["--redis_url", redis.url]);
  const call = (key, ...rest) => redis.client.fCall("pollux_publish", { keys: [key], arguments: rest });
  await assert.rejects(call("chat/1", "1"), /expected one key/);
  await assert.rejects(call("pollux:{chat/1}", "1", "[]"), /meta must be a JSON object/);
  assert.equal(await call("pollux:{chat/1}", "1"), 1, "nothing took an offset before");
});
