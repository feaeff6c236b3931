// A long-polling transport for @anycable/core that treats a server as the stock one does.
//
// Applications will not be rebuilt for us, so the oddities are what is tested here and none may
// be "fixed": a send aborts the poll that waits; the handler of an aborted poll forgets the
// controller of the poll that replaced it, so that two loops arise; the last command has no
// newline; an id that cannot be read is sent as "null"; no request has a deadline; pings are
// made up locally.

const POLL_ID = "X-Anycable-Poll-ID";
const EMULATED_PING = JSON.stringify({ type: "ping", source: "long polling transport emulation" });

export class StockTransport {
  #options;
  #listeners = new Map();
  /** Commands that wait for the send buffer's time to be over. */
  #commands = [];
  #flushTimer;
  #pollTimer;
  #pingTimer;
  /** The poll that a flush can abort, which is not always the one that waits. */
  #controller;
  /** The server's name for the session, as the header had it. */
  #id;
  /** Changes with every connection, to tell an answer that outlived its own. */
  #generation = 0;
  #connected = false;

  constructor(url, options = {}) {
    this.url = url;
    this.#options = {
      cooldownPeriod: 500,
      sendBuffer: 500,
      pingInterval: 3_000,
      credentials: "same-origin",
      fetchImplementation: fetch,
      ...options,
    };
  }

  displayName() {
    return `LongPolling(${this.url})`;
  }

  setURL(url) {
    this.url = url;
  }

  setParam(name, value) {
    const url = new URL(this.url);
    url.searchParams.set(name, value);
    this.setURL(url.href);
  }

  setToken(value, name = "jid") {
    this.setParam(name, value);
  }

  async open() {
    const generation = ++this.#generation;
    const answer = await this.#request({});
    if (generation !== this.#generation) return;
    if (answer.ok) {
      this.#id = answer.id;
      this.#connected = true;
      this.#emit("open");
    }
    this.#take(answer);
    // What came with the answer may have closed us.
    if (!this.#connected || generation !== this.#generation) return;
    this.#pingTimer = setInterval(() => this.#emit("data", EMULATED_PING), this.#options.pingInterval);
    this.#schedulePoll();
  }

  send(command) {
    if (!this.#connected) throw new Error("not connected");
    this.#commands.push(command);
    this.#flushTimer ??= setTimeout(() => this.#flush(), this.#options.sendBuffer);
  }

  async close() {
    this.#closeWith(undefined);
  }

  on(event, callback) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    const listeners = this.#listeners.get(event);
    listeners.add(callback);
    return () => listeners.delete(callback);
  }

  once(event, callback) {
    const unbind = this.on(event, (...args) => {
      unbind();
      callback(...args);
    });
    return unbind;
  }

  // === the loops ===

  #schedulePoll() {
    // There is one timer for as many loops as there are: a second loop takes the field over, and
    // a flush then stops only that one.
    this.#pollTimer = setTimeout(() => this.#poll(), this.#options.cooldownPeriod);
  }

  #flush() {
    clearTimeout(this.#pollTimer);
    this.#controller?.abort();
    this.#poll();
  }

  async #poll() {
    clearTimeout(this.#flushTimer);
    this.#flushTimer = undefined;
    const body = this.#commands.length > 0 ? this.#commands.join("\n") : undefined;
    this.#commands = [];
    const generation = this.#generation;
    const controller = new AbortController();
    this.#controller = controller;
    try {
      // The literal "null" for an id that could not be read comes from String(null).
      const answer = await this.#request({
        headers: { [POLL_ID]: String(this.#id) },
        body,
        signal: controller.signal,
      });
      // Not known of the stock transport: what a poll does that ends after the close. We let it
      // end in silence, so that a test sees one connection at a time.
      if (generation !== this.#generation) return;
      this.#take(answer);
      if (this.#connected && generation === this.#generation) this.#schedulePoll();
    } catch (error) {
      if (generation !== this.#generation) return;
      // It may be another poll's controller by now, and nobody can abort that poll any more.
      this.#controller = undefined;
      if (error.name !== "AbortError") this.#closeWith(error);
    }
  }

  async #request(init) {
    const { credentials, fetchImplementation } = this.#options;
    const response = await fetchImplementation(this.url, { method: "POST", credentials, ...init });
    const { ok, status } = response;
    // An answer counts when it is complete; nothing is read while it comes in.
    const body = await response.text();
    const lines = body.split("\n").filter((line) => line !== "");
    return { ok, status, id: response.headers.get(POLL_ID), lines };
  }

  #take({ ok, status, lines }) {
    // A refusal may say why; other failures are not listened to.
    if (ok || status === 401) for (const line of lines) this.#emit("data", line);
    if (!ok) throw new Error(`the server answered ${status}`);
  }

  #closeWith(error) {
    clearTimeout(this.#flushTimer);
    clearTimeout(this.#pollTimer);
    clearInterval(this.#pingTimer);
    this.#flushTimer = undefined;
    this.#generation += 1;
    this.#controller?.abort();
    this.#controller = undefined;
    this.#id = undefined;
    this.#commands = [];
    if (!this.#connected) return;
    this.#connected = false;
    this.#emit("close", error);
  }

  #emit(event, ...args) {
    for (const callback of [...(this.#listeners.get(event) ?? [])]) callback(...args);
  }
}
