import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";
import { launch, openPage } from "./browser.js";
import { startNode } from "./node.js";

/** A page of another origin than the node's. */
async function startElsewhere(t) {
  const server = createServer((request, response) => {
    response.setHeader("Content-Type", "text/html");
    response.end('<!doctype html><link rel="icon" href="data:,"><title>Elsewhere</title>');
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  return `http://127.0.0.1:${server.address().port}`;
}

test("a page of another origin polls and can read all it needs", async (t) => {
  const node = await startNode(t);
  const elsewhere = await startElsewhere(t);
  const browser = await launch(t);
  const { page, complaints } = await openPage(browser);
  await page.goto(elsewhere);

  const result = await page.evaluate(async (url) => {
    const POLL_ID = "X-Anycable-Poll-ID";
    const post = async (headers, body) => {
      const response = await fetch(url, { method: "POST", headers, body });
      return {
        status: response.status,
        id: response.headers.get(POLL_ID),
        cursor: response.headers.get("Pollux-Cursor"),
        body: await response.text(),
      };
    };
    const open = await post({});
    // The header makes it a request that needs a preflight.
    const next = await post({ [POLL_ID]: open.id }, '{"command":"ping"}');
    const withCursor = await post({ [POLL_ID]: open.id, "Pollux-Cursor": next.cursor }, '{"command":"ping"}');
    const stale = await post({ [POLL_ID]: "null" });
    return { open, next, withCursor, stale };
  }, node.poll);

  assert.equal(result.open.status, 200);
  assert.ok(result.open.id, "the poll id can be read");
  assert.ok(result.open.cursor, "so can the cursor");
  assert.deepEqual([result.next.status, result.next.body], [200, '{"type":"pong"}\n']);
  assert.deepEqual([result.withCursor.status, result.withCursor.body], [200, '{"type":"pong"}\n']);
  assert.equal(result.stale.status, 401);
  assert.match(result.stale.body, /^(\{"type":"disconnect".*\}\n)?$/);
  assert.ok(complaints.every((line) => line.includes("401")), complaints.join("\n"));
});

test("the preflight's answer is remembered, so that not every poll costs two requests", async (t) => {
  const node = await startNode(t);
  const response = await fetch(node.poll, {
    method: "OPTIONS",
    headers: {
      "Origin": "http://elsewhere.test",
      "Access-Control-Request-Method": "POST",
      "Access-Control-Request-Headers": "x-anycable-poll-id,pollux-cursor",
    },
  });
  assert.ok([200, 204].includes(response.status), String(response.status));
  const allowed = response.headers.get("access-control-allow-headers").toLowerCase();
  for (const name of ["x-anycable-poll-id", "pollux-cursor", "content-type"]) assert.ok(allowed.includes(name), name);
  assert.match(response.headers.get("access-control-allow-methods"), /POST/);
  assert.ok(Number(response.headers.get("access-control-max-age")) >= 600);
  assert.ok(response.headers.get("access-control-allow-origin"));
});

test("errors can be read from elsewhere too", async (t) => {
  const node = await startNode(t);
  const headers = { "Origin": "http://elsewhere.test", "X-Anycable-Poll-ID": "null" };
  for (const [status, init] of [[401, {}], [413, { body: "x".repeat(70_000) }]]) {
    const response = await fetch(node.poll, { method: "POST", headers, ...init });
    await response.text();
    assert.equal(response.status, status);
    assert.ok(response.headers.get("access-control-allow-origin"));
    assert.match(response.headers.get("access-control-expose-headers"), /x-anycable-poll-id/i);
    assert.match(response.headers.get("vary") ?? "", /origin/i);
  }
});
