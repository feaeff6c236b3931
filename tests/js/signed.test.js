import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { test } from "node:test";
import { createClient } from "./client.js";
import { eventually, within } from "./eventually.js";
import { freePort, startNode } from "./node.js";

const SECRET = "s3Krit";

/** As backends do it; Ruby's uses the other alphabet. */
function sign(name, { secret = SECRET, encoding = "base64" } = {}) {
  let encoded = Buffer.from(JSON.stringify(name)).toString(encoding);
  if (encoding === "base64url") encoded = encoded.padEnd(Math.ceil(encoded.length / 4) * 4, "=");
  return `${encoded}--${createHmac("sha256", secret).update(encoded).digest("hex")}`;
}

async function start(t) {
  return startNode(t, ["--streams_secret", SECRET, "--noauth", "--http_broadcast_port", String(await freePort())]);
}

/** Resolves with the error that a channel is closed with. */
const closed = (channel) => within(5_000, "the subscription is rejected", new Promise((resolve) => {
  channel.once("close", resolve);
}));

test("our signatures are the published ones", () => {
  assert.equal(
    sign("chat/2023"),
    "ImNoYXQvMjAyMyI=--2b2e054b6413bf3bc7e8bbad2f68962aa2ba19821800ccbd8de6fd7314e8320c",
  );
});

for (const encoding of ["base64", "base64url"]) {
  test(`a signed stream is accepted, ${encoding}`, async (t) => {
    const node = await start(t);
    const { cable, logger } = createClient(t, node, { sendBuffer: 50, cooldownPeriod: 50 });
    const name = "room?~>1";
    const channel = cable.streamFromSigned(sign(name, { encoding }));
    const messages = [];
    channel.on("message", (message) => messages.push(message));
    await within(5_000, "the subscription is confirmed", channel.ensureSubscribed());
    await node.publish(name, { text: "secret" });
    await eventually("the message", () => messages.length > 0);
    assert.deepEqual(messages, [{ text: "secret" }]);
    assert.deepEqual(logger.complaints, []);
  });
}

test("wrong signatures and plain names are rejected, and the rest goes on", async (t) => {
  const node = await start(t);
  const { cable } = createClient(t, node, { sendBuffer: 50, cooldownPeriod: 50 });
  await cable.connect();
  const good = sign("chat/1");
  const forged = [
    sign("chat/1", { secret: "guess" }),
    sign("chat/1", { secret: "x" }).replace(/--.*/, ""),
    `${good.slice(0, -1)}${good.endsWith("0") ? "1" : "0"}`,
    good.replace(/^[^-]+/, sign("chat/2").split("--")[0]),
  ];
  for (const name of forged) {
    assert.equal((await closed(cable.streamFromSigned(name))).name, "SubscriptionRejectedError", name);
  }
  assert.equal((await closed(cable.streamFrom("chat/1"))).name, "SubscriptionRejectedError");
  await within(5_000, "a right one is confirmed", cable.streamFromSigned(good).ensureSubscribed());
});
