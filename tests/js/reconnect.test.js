import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient } from "./client.js";
import { eventually, within } from "./eventually.js";
import { startNode } from "./node.js";
import { poll } from "./poller.js";

for (const protocol of ["actioncable-v1-json", "actioncable-v1-ext-json"]) {
  test(`a client that was away too long comes back, ${protocol}`, async (t) => {
    const node = await startNode(t, ["--poll_keepalive_timeout", "0.3"]);
    const { cable, wire, ofType } = createClient(t, node, { sendBuffer: 20, cooldownPeriod: 20, protocol });
    const messages = [];
    const channel = cable.streamFrom("chat/1");
    channel.on("message", (message) => messages.push(message));
    await channel.ensureSubscribed();
    const firstId = wire.requests.at(-1).id;

    // As in a tab whose timers are throttled: the poll ends, and the next one does not start.
    const release = wire.hold();
    cable.send({ command: "ping" });
    await eventually("the node forgets the session", async () => await node.metric("pollux_sessions") === 0);
    const connected = new Promise((resolve) => cable.once("connect", resolve));
    const resubscribed = new Promise((resolve) => channel.once("connect", resolve));
    release();
    await within(5_000, "the client connects again", connected);
    await within(5_000, "the subscription is established again", resubscribed);

    assert.ok(wire.requests.some(({ id, status }) => id === firstId && status === 401));
    await node.publish("chat/1", { text: "back" });
    await eventually("messages flow again", () => messages.length > 0);
    assert.deepEqual(messages, [{ text: "back" }]);
    assert.equal(ofType("welcome").length, 2);
    assert.notEqual(wire.requests.at(-1).id, firstId);
  });
}

test("an unknown id is answered with 401 and does no harm to others", async (t) => {
  const node = await startNode(t);
  const open = await poll(node);
  for (const id of ["null", "undefined", "", `${open.id}x`, "a.b", "%00", "x".repeat(4_000)]) {
    const { status, frames } = await poll(node, { id });
    if (id === "") continue;
    assert.equal(status, 401, `for ${id.slice(0, 20)}`);
    for (const frame of frames) assert.deepEqual([frame.type, frame.reason], ["disconnect", "session_expired"]);
  }
  const pong = await poll(node, { id: open.id, commands: [{ command: "ping" }] });
  assert.deepEqual(pong.frames, [{ type: "pong" }]);
});
