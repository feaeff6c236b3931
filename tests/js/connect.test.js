import assert from "node:assert/strict";
import { test } from "node:test";
import { createClient, withoutPollId } from "./client.js";
import { eventually, within } from "./eventually.js";
import { startNode } from "./node.js";
import { poll } from "./poller.js";

test("a client connects and is welcomed", async (t) => {
  const node = await startNode(t);
  const { cable, transport, wire, frames, logger } = createClient(t, node);
  await cable.connect();

  assert.equal(frames[0].type, "welcome");
  assert.equal(cable.sessionId, frames[0].sid);
  assert.equal(new URL(transport.url).searchParams.get("sid"), cable.sessionId);
  const [open, next] = await eventually("a first poll", () => wire.requests.length > 1 && wire.requests);
  assert.deepEqual([open.method, open.id, open.body, open.status], ["POST", null, undefined, 200]);
  assert.equal(next.method, "POST");
  assert.ok(next.id && next.id !== "null", "the poll has the id that the opening was given");
  assert.deepEqual(logger.complaints, []);
});

test("the opening's answer is whole: id, length, newline", async (t) => {
  const node = await startNode(t);
  const { status, id, headers, body } = await poll(node);
  assert.equal(status, 200);
  assert.ok(id);
  assert.equal(headers.get("content-length"), String(Buffer.byteLength(body)));
  assert.ok(headers.get("pollux-cursor"), "every answer has a cursor");
  assert.match(body, /^\{"type":"welcome","sid":"[^"]+"\}\n$/);
});

test("an id that the page cannot read is answered with 401, and the client connects again", async (t) => {
  const node = await startNode(t);
  const { cable, wire } = createClient(t, node, { cooldownPeriod: 20 });
  wire.change((response, request) => {
    if (request !== wire.requests[0]) return response;
    return withoutPollId(response);
  });
  await cable.connect();
  const reconnected = new Promise((resolve) => cable.once("connect", resolve));
  assert.deepEqual(await within(5_000, "the client connects again", reconnected), { reconnect: true, restored: false });

  const [, blind, again] = wire.requests;
  assert.deepEqual([blind.id, blind.status], ["null", 401]);
  assert.equal(again.id, null);
  await eventually("the new session is polled", () => wire.requests.length > 3);
  assert.equal(cable.state, "connected");
});
