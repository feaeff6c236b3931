// Loops that pages have had for years: they are copied into pages, and nobody changes them.

import assert from "node:assert/strict";
import { test } from "node:test";
import { launch, openPage } from "./browser.js";
import { startNode } from "./node.js";
import { startPages } from "./pages.js";

const upTo = (count) => Array.from({ length: count }, (_, n) => n);

test("a page's plain loop over one address gets a mailbox's messages, through a time of silence", async (t) => {
  const node = await startNode(t, ["--mailbox_capacity", "50", "--mailbox_timeout", "1"]);
  const browser = await launch(t);
  const { page } = await openPage(browser);
  await page.goto(await startPages(t));
  // Status 200 goes on, everything else ends the loop for good; an empty text means silence.
  await page.evaluate((url) => {
    window.seen = { messages: [], silences: 0, ended: null };
    const poll = () => {
      const request = new XMLHttpRequest();
      request.open("GET", url, true);
      request.onreadystatechange = () => {
        if (request.readyState !== 4) return;
        if (request.status !== 200) { window.seen.ended = request.status; return; }
        if (request.responseText === "") window.seen.silences += 1;
        else window.seen.messages.push(request.responseText);
        poll();
      };
      request.send(null);
    };
    poll();
  }, `${node.url}/poll?rcpt=ada`);
  const push = async (n) => {
    const { status } = await fetch(`${node.url}/push?rcpt=ada`, { method: "POST", body: `message ${n}` });
    assert.equal(status, 200);
  };
  for (const n of upTo(50)) await push(n);
  await page.waitForFunction(() => window.seen.messages.length === 50);
  await page.waitForFunction(() => window.seen.silences >= 1);
  for (const n of upTo(50)) await push(50 + n);
  await page.waitForFunction(() => window.seen.messages.length === 100);
  const { messages, ended } = await page.evaluate(() => window.seen);
  assert.deepEqual(messages, upTo(100).map((n) => `message ${n}`));
  assert.equal(ended, null);
});

test("a page falls back from a room's socket to polls and returns to it", async (t) => {
  const origin = await startPages(t);
  // Joining is said aloud in the room, which pages of unknown origins may not do.
  const node = await startNode(t, ["--room_wait", "1", "--allowed_origins", origin]);
  const browser = await launch(t);
  const { page } = await openPage(browser);
  await page.goto(origin);
  await page.evaluate(([ws, http]) => {
    window.seen = { texts: [], sockets: 0, joins: 0, polls: 0, blocked: false };
    const hear = (message) => {
      // The room is told of everybody who comes, the newcomer included.
      if (message.type === "chat.joined") window.seen.joins += 1;
      if (message.type === "chat.message") window.seen.texts.push(message.payload.text);
    };
    const connect = () => {
      // The test plays the firewall.
      const socket = window.seen.blocked ? null : new WebSocket(ws);
      if (socket === null) { poll(); return; }
      socket.onopen = () => {
        window.seen.sockets += 1;
        window.socket = socket;
        socket.send(JSON.stringify({ type: "chat.join", payload: { user: "ada", room: "general" } }));
      };
      socket.onmessage = ({ data }) => hear(JSON.parse(data));
      socket.onclose = () => poll();
    };
    const poll = async () => {
      window.seen.polls += 1;
      try {
        for (const message of await (await fetch(`${http}/ws/poll?session_id=room:general`)).json()) hear(message);
      } catch { /* The server is away for a moment. */ }
      if (window.seen.blocked) setTimeout(poll, 50); else connect();
    };
    connect();
  }, [`${node.url.replace("http", "ws")}/ws`, node.url]);
  const say = async (text) => {
    const body = JSON.stringify({ type: "chat.message", room: "general", payload: { text } });
    const { status } = await fetch(`${node.url}/ws/send`, { method: "POST", body });
    assert.equal(status, 202);
  };
  const heard = (text) => page.waitForFunction((text) => window.seen.texts.includes(text), text);
  await page.waitForFunction(() => window.seen.joins === 1);
  await say("by socket");
  await heard("by socket");
  await page.evaluate(() => { window.seen.blocked = true; window.socket.close(); });
  await page.waitForFunction(() => window.seen.polls > 1);
  await say("by poll");
  await heard("by poll");
  await page.evaluate(() => { window.seen.blocked = false; });
  await page.waitForFunction(() => window.seen.joins === 2);
  await say("by socket again");
  await heard("by socket again");
});
