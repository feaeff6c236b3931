import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "./client.js";
import { eventually } from "./eventually.js";
import { startNode } from "./node.js";

const MESSAGES = 1_000;
const ALL = Array.from({ length: MESSAGES }, (_, number) => number);

/** Messages come in bursts with pauses, or a poll would always find some and never be held. */
async function publishAll(node, { burst, every }) {
  for (let number = 0; number < MESSAGES; number += burst) {
    const pause = delay(every);
    for (let next = number; next < number + burst; next += 1) await node.publish("count", { number: next });
    await pause;
  }
}

/** Sends one command after the other until the test is over or `stop` is called. */
function keepTalking(t, { cable }, { identifier }, every) {
  let sent = 0;
  const timer = setInterval(() => {
    const all = [
      // Channels without a backend can perform nothing, and the command must do no harm either.
      { command: "message", identifier, data: JSON.stringify({ action: "speak", sent }) },
      { command: "whisper", identifier, data: { whisper: sent } },
      { command: "ping" },
    ];
    cable.send(all[sent % all.length]);
    sent += 1;
  }, every);
  const stop = () => {
    clearInterval(timer);
    return { sent, whispers: ALL.slice(0, sent).filter((index) => index % 3 === 1) };
  };
  t.after(stop);
  return stop;
}

/** Subscribes to the stream and collects what comes: numbers of messages, and whispers. */
function listen({ cable }) {
  const channel = cable.streamFrom("count");
  const numbers = [];
  const whispers = [];
  channel.on("message", ({ number, whisper }) => (whisper === undefined ? numbers.push(number) : whispers.push(whisper)));
  return { channel, numbers, whispers };
}

const abortsOf = ({ wire }) => wire.requests.filter(({ status }) => status === "AbortError").length;

const sorted = (numbers) => [...numbers].sort((a, b) => a - b);

/** How often a message came before an earlier one. */
const overtaken = (numbers) => numbers.filter((number, index) => index > 0 && number < numbers[index - 1]).length;

test("a thousand messages arrive in order, once, while commands abort the polls", async (t) => {
  // Shorter than the stock times, but with what makes the stock client abort: polls that are held for
  // longer than commands wait to be sent.
  const node = await startNode(t, ["--poll_flush_interval", "100"]);
  const times = { cooldownPeriod: 20, sendBuffer: 20 };
  const talker = createClient(t, node, times);
  const other = createClient(t, node, times);
  const [own, others] = [listen(talker), listen(other)];
  await Promise.all([own.channel.ensureSubscribed(), others.channel.ensureSubscribed()]);

  const stop = keepTalking(t, talker, own.channel, 70);
  await publishAll(node, { burst: 20, every: 150 });
  await eventually("the last message", () => own.numbers.includes(MESSAGES - 1), 20_000);
  await eventually("the other's last message", () => others.numbers.includes(MESSAGES - 1), 20_000);
  const { sent, whispers } = stop();

  // The one that never aborts gets them in order. For the other, an answer waits at most 100 ms for the
  // one before it, over another connection, to arrive: a machine that stalls for longer lets it pass.
  assert.deepEqual(others.numbers, ALL);
  assert.deepEqual(sorted(own.numbers), ALL);
  assert.ok(overtaken(own.numbers) <= 2, `${overtaken(own.numbers)} overtaken`);
  await eventually("every whisper", () => others.whispers.length >= whispers.length);
  assert.deepEqual(others.whispers, whispers);
  assert.deepEqual(own.whispers, []);
  assert.equal(talker.ofType("welcome").length, 1, "one session did it all");
  assert.deepEqual(talker.logger.complaints, []);
  t.diagnostic(`${talker.wire.requests.length} requests, ${abortsOf(talker)} aborted, ${sent} commands`);
  assert.ok(abortsOf(talker) > 5, "polls were aborted while messages came");
});

test("no message is lost or doubled when polls are aborted at every moment", async (t) => {
  const node = await startNode(t, ["--poll_flush_interval", "40"]);
  const talker = createClient(t, node, { cooldownPeriod: 2, sendBuffer: 5 });
  const { channel, numbers } = listen(talker);
  await channel.ensureSubscribed();

  const stop = keepTalking(t, talker, channel, 12);
  await publishAll(node, { burst: 5, every: 25 });
  await eventually("as many messages", () => numbers.length >= MESSAGES, 20_000);
  const { sent } = stop();

  t.diagnostic(`${talker.wire.requests.length} requests, ${abortsOf(talker)} aborted, ${sent} commands, ${overtaken(numbers)} overtaken`);
  // Two answers that are on their way at once, over two connections, may be read in any order.
  assert.deepEqual(sorted(numbers), ALL);
  assert.equal(talker.ofType("welcome").length, 1, "one session did it all");
});
