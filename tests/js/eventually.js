// Waiting with a deadline, for what has no event to wait for.

import { setTimeout as delay } from "node:timers/promises";

const LOOK_EVERY_MS = 20;

/** Calls `check` until it returns something true, and returns that. */
export async function eventually(what, check, within = 5_000) {
  const deadline = performance.now() + within;
  for (;;) {
    const value = await check();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`not within ${within} ms: ${what}`);
    await delay(LOOK_EVERY_MS);
  }
}

/** A promise with a deadline, so that a test that hangs says where. */
export async function within(ms, what, promise) {
  const deadline = new AbortController();
  const late = delay(ms, undefined, { signal: deadline.signal }).then(() => {
    throw new Error(`not within ${ms} ms: ${what}`);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    deadline.abort();
    late.catch(() => {});
  }
}
