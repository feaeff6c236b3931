// An @anycable/core cable over the stock transport, with a record of all that went over the wire.

import { createCable } from "@anycable/core";
import { StockTransport } from "./stock-transport.js";

const POLL_ID = "X-Anycable-Poll-ID";

/** Soon, because nobody else needs to be spared in a test. */
const RECONNECT_AFTER_MS = 100;

/** A client of `node` that goes away with the test `t`. The rest are the transport's options. */
export function createClient(t, node, { protocol, protocolOptions, auth, tokenRefresher, wire = new Wire(), ...options } = {}) {
  const transport = new StockTransport(node.poll, { ...options, fetchImplementation: wire.fetch });
  const logger = new RecordingLogger();
  const frames = [];
  // Before the cable listens, so that a frame is on record when the cable acts on it.
  transport.on("data", (line) => frames.push(JSON.parse(line)));
  const cable = createCable(node.poll, {
    transport,
    logger,
    reconnectStrategy: () => RECONNECT_AFTER_MS,
    ...(auth && { auth }),
    ...(tokenRefresher && { tokenRefresher }),
    ...(protocol && { protocol }),
    ...(protocolOptions && { protocolOptions }),
  });
  t.after(() => {
    cable.disconnect();
    wire.cut();
  });
  return {
    cable,
    transport,
    wire,
    logger,
    /** Every frame that arrived, emulated pings included. */
    frames,
    ofType: (type) => frames.filter((frame) => frame.type === type),
  };
}

/** Fetch that keeps a record, and that a test can interfere with. */
export class Wire {
  /** Every request: { method, url, id, body, status }, with status undefined while it is open. */
  requests = [];
  /** Requests open now, and at most. */
  inFlight = 0;
  maxInFlight = 0;
  #cut = new AbortController();
  #held;
  #change = (response) => response;

  /** Requests do not leave until the function that this returns is called. */
  hold() {
    const { promise, resolve } = withResolvers();
    this.#held = promise;
    return () => {
      this.#held = undefined;
      resolve();
    };
  }

  /** Lets `change` replace every response; it may throw, as the network does. */
  change(change) {
    this.#change = change;
  }

  /** Aborts everything, polls that the transport has lost sight of included. */
  cut() {
    this.#cut.abort();
  }

  fetch = async (url, init) => {
    const request = { method: init.method, url, id: new Headers(init.headers).get(POLL_ID), body: init.body };
    this.requests.push(request);
    this.inFlight += 1;
    this.maxInFlight = Math.max(this.maxInFlight, this.inFlight);
    const signal = init.signal ? AbortSignal.any([init.signal, this.#cut.signal]) : this.#cut.signal;
    try {
      if (this.#held) await Promise.race([this.#held, aborted(signal)]);
      const response = await fetch(url, { ...init, signal });
      request.status = response.status;
      return await this.#change(response, request);
    } catch (error) {
      request.status = error.name;
      throw error;
    } finally {
      this.inFlight -= 1;
    }
  };
}

/** The same response, but with headers that this page may not read. */
export function withoutPollId(response) {
  const headers = new Headers(response.headers);
  headers.delete(POLL_ID);
  return new Response(response.body, { status: response.status, headers });
}

function aborted(signal) {
  return new Promise((_, reject) => {
    signal.addEventListener("abort", () => reject(signal.reason), { once: true });
    if (signal.aborted) reject(signal.reason);
  });
}

// Promise.withResolvers came after Node 20.
function withResolvers() {
  let resolve;
  const promise = new Promise((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

class RecordingLogger {
  /** Warnings and errors, which a healthy conversation has none of. */
  complaints = [];

  debug() {}

  info() {}

  warn(message, details) {
    // The protocol has a reply that this client asks for and does not know.
    if (message === "unknown message type: pong") return;
    this.complaints.push(`warn: ${message} ${JSON.stringify(details ?? "")}`);
  }

  error(message, details) {
    this.complaints.push(`error: ${message} ${JSON.stringify(details ?? "")}`);
  }
}
