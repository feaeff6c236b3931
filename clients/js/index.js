// A long-polling transport for @anycable/core and @anycable/web.
//
// One session, and as a rule one poll that waits. Commands travel in a request of their own, which
// the server answers as it answers any poll, so the one that waits is not disturbed. Whichever
// request ends last starts the next one: there is never a second loop.
//
// Every answer says the number of its last frame (Pollux-Cursor). The number is sent back with the
// next request, so the server knows what has arrived; frames that come a second time are dropped.

const POLL_ID = "X-Anycable-Poll-ID";
const CURSOR = "Pollux-Cursor";
const GAP = "Pollux-Gap";

/** What the client's monitor waits for: long polling has no pings of its own. */
const PING = JSON.stringify({ type: "ping", source: "pollux-js" });

/** Empty answers that come faster than this would make the loop spin. */
const EMPTY_PAUSE_MS = 250;
/** Server errors that another try may mend. */
const TRANSIENT = new Set([408, 425, 429, 500, 502, 503, 504]);
/** Those of which the server says that nothing of the request was done. */
const UNDONE = new Set([429, 503]);

export const DEFAULTS = Object.freeze({
  cooldownPeriod: 0,
  sendBuffer: 10,
  pingInterval: 3_000,
  requestTimeout: 90_000,
  retryDelay: 250,
  retryDelayMax: 5_000,
  retries: 5,
  credentials: "same-origin",
});

/** An answer that ends the connection. */
export class AnswerError extends Error {
  constructor(status, message = `the server answered ${status}`) {
    super(message);
    this.name = "AnswerError";
    this.status = status;
  }
}

export class LongPollingTransport {
  #options;
  #listeners = new Map();
  #connection = null;

  constructor(url, options = {}) {
    this.url = url;
    this.#options = { ...DEFAULTS, ...options };
  }

  displayName() {
    return `LongPolling(${this.url})`;
  }

  setURL(url) {
    this.url = url;
  }

  setParam(name, value) {
    // Works for relative addresses too, which have no origin to parse.
    const [rest, hash = ""] = split(this.url, "#");
    const [path, query = ""] = split(rest, "?");
    const params = new URLSearchParams(query);
    params.set(name, value);
    this.setURL(`${path}?${params}${hash && `#${hash}`}`);
  }

  setToken(value, name = "jid") {
    this.setParam(name, value);
  }

  /** Opens a session. Rejects if the server can't be reached or says no. */
  async open() {
    this.#connection?.end();
    const connection = new Connection(this, this.#options, (event, ...args) => {
      if (this.#connection === connection) this.#emit(event, ...args);
    });
    this.#connection = connection;
    try {
      await connection.open();
    } catch (error) {
      if (this.#connection === connection) this.#connection = null;
      connection.end();
      throw error;
    }
  }

  /** Sends a command, a moment later and together with others of that moment. */
  send(command) {
    if (!this.#connection?.isOpen) throw new Error("not connected");
    this.#connection.send(command);
  }

  async close() {
    const connection = this.#connection;
    if (connection === null) return;
    connection.end();
    if (connection.isOpen) this.#emit("close");
    this.#connection = null;
  }

  /** Events: open, close(error?), error(error), data(line), gap(). Returns a function that stops it. */
  on(event, callback) {
    if (!this.#listeners.has(event)) this.#listeners.set(event, new Set());
    const listeners = this.#listeners.get(event);
    listeners.add(callback);
    return () => listeners.delete(callback);
  }

  once(event, callback) {
    const stop = this.on(event, (...args) => {
      stop();
      callback(...args);
    });
    return stop;
  }

  #emit(event, ...args) {
    if (event === "close") this.#connection = null;
    for (const callback of [...(this.#listeners.get(event) ?? [])]) callback(...args);
  }
}

/** One session, from its open to its end. */
class Connection {
  isOpen = false;
  #transport;
  #options;
  #emit;
  #end = new AbortController();
  #id = null;
  /** Number of the last frame that was passed on. */
  #cursor = null;
  /** Requests that are under way or about to be tried again. */
  #waiting = 0;
  #commands = [];
  #flushTimer;
  #pingTimer;
  /** Requests that failed and are tried again; while there are any, nothing says that the server lives. */
  #failing = 0;

  constructor(transport, options, emit) {
    this.#transport = transport;
    this.#options = options;
    this.#emit = emit;
  }

  async open() {
    const answer = await this.#request();
    if (this.#end.signal.aborted) throw new Error("closed while connecting");
    if (!answer.ok || answer.id === null) {
      if (answer.status === 401) this.#pass(answer);
      throw new AnswerError(answer.status, answer.ok ? "the server gave no poll id" : undefined);
    }
    this.#id = answer.id;
    this.isOpen = true;
    this.#emit("open");
    this.#pass(answer);
    const { pingInterval } = this.#options;
    if (pingInterval > 0 && !this.#end.signal.aborted) {
      this.#pingTimer = setInterval(() => this.#failing === 0 && this.#emit("data", PING), pingInterval);
    }
    this.#again();
  }

  send(command) {
    this.#commands.push(command);
    this.#flushTimer ??= setTimeout(() => this.#flush(), this.#options.sendBuffer);
  }

  end() {
    clearTimeout(this.#flushTimer);
    clearInterval(this.#pingTimer);
    this.#commands = [];
    this.#end.abort();
  }

  #flush() {
    this.#flushTimer = undefined;
    // The last newline is missing in nothing that is sent from here.
    const body = this.#commands.map((command) => `${command}\n`).join("");
    this.#commands = [];
    this.#poll(body);
  }

  /** Polls, if no request is under way. */
  #again() {
    if (this.#waiting === 0 && !this.#end.signal.aborted) this.#poll();
  }

  async #poll(body) {
    this.#waiting += 1;
    try {
      const started = Date.now();
      const answer = await this.#patiently(body);
      if (this.#end.signal.aborted) return;
      if (answer.status === 413) {
        // The session is untouched; what was too large is lost.
        this.#emit("error", new AnswerError(413, "the commands were too large"));
      } else if (answer.status === 401) {
        this.#pass(answer);
        return this.#fail(new AnswerError(401, "the session is gone"));
      } else if (!answer.ok) {
        return this.#fail(new AnswerError(answer.status));
      } else {
        this.#pass(answer);
      }
      const isEmpty = answer.lines.length === 0;
      const tooFast = isEmpty && Date.now() - started < EMPTY_PAUSE_MS && this.#waiting === 1;
      await this.#pause(Math.max(tooFast ? EMPTY_PAUSE_MS : 0, isEmpty ? this.#options.cooldownPeriod : 0));
    } catch (error) {
      if (!this.#end.signal.aborted) return this.#fail(error);
    } finally {
      this.#waiting -= 1;
    }
    this.#again();
  }

  /**
   * Tries again what may work the next time. A request with commands is not repeated after the
   * connection broke: nobody knows whether they were run. After 429 and 503 they were not.
   */
  async #patiently(body) {
    const { retries, retryDelay, retryDelayMax } = this.#options;
    let failed = false;
    try {
      for (let attempt = 0; ; attempt += 1) {
        let answer;
        let error;
        try {
          answer = await this.#request(body);
        } catch (caught) {
          error = caught;
        }
        if (this.#end.signal.aborted) throw error ?? new Error("closed");
        const mends = error ? body === undefined : TRANSIENT.has(answer.status) && (body === undefined || UNDONE.has(answer.status));
        if (!mends || attempt >= retries) {
          if (error) throw error;
          return answer;
        }
        if (!failed) this.#failing += 1;
        failed = true;
        const ceiling = Math.min(retryDelayMax, retryDelay * 2 ** attempt);
        const jittered = ceiling / 2 + (Math.random() * ceiling) / 2;
        await this.#pause(Math.max(jittered, (answer?.retryAfter ?? 0) * 1_000));
        if (this.#end.signal.aborted) throw new Error("closed");
      }
    } finally {
      if (failed) this.#failing -= 1;
    }
  }

  async #request(body) {
    const { credentials, requestTimeout, fetchImplementation = fetch } = this.#options;
    const headers = await this.#headers();
    const timeout = new AbortController();
    const give = () => timeout.abort(this.#end.signal.aborted ? new Error("closed") : new Error("the request took too long"));
    const timer = requestTimeout > 0 ? setTimeout(give, requestTimeout) : undefined;
    this.#end.signal.addEventListener("abort", give, { once: true });
    if (this.#end.signal.aborted) give();
    try {
      const response = await fetchImplementation(this.#transport.url, {
        method: "POST",
        cache: "no-store",
        credentials,
        headers,
        body,
        signal: timeout.signal,
      });
      // An answer counts when it is complete.
      const text = await response.text();
      const number = (name) => {
        const value = response.headers.get(name);
        return value !== null && /^\d+$/.test(value) ? Number(value) : null;
      };
      return {
        ok: response.ok,
        status: response.status,
        id: response.headers.get(POLL_ID),
        cursor: number(CURSOR),
        gap: response.headers.get(GAP) !== null,
        retryAfter: number("Retry-After"),
        lines: text.split("\n").filter((line) => line.trim() !== ""),
      };
    } finally {
      clearTimeout(timer);
      this.#end.signal.removeEventListener("abort", give);
    }
  }

  async #headers() {
    const { headers } = this.#options;
    const own = typeof headers === "function" ? await headers() : headers;
    const all = new Headers(own);
    if (this.#id !== null) all.set(POLL_ID, this.#id);
    if (this.#cursor !== null) all.set(CURSOR, String(this.#cursor));
    return all;
  }

  /** Passes on the frames of an answer that were not there before. */
  #pass({ lines, cursor, gap }) {
    let fresh = lines;
    if (cursor !== null) {
      const first = cursor - lines.length + 1;
      const known = this.#cursor ?? 0;
      fresh = lines.slice(Math.max(0, known - first + 1));
      this.#cursor = Math.max(known, cursor);
    }
    if (gap) this.#emit("gap");
    for (const line of fresh) {
      // A line may have closed us.
      if (this.#end.signal.aborted) return;
      this.#emit("data", line);
    }
  }

  #pause(ms) {
    if (ms <= 0) return Promise.resolve();
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#end.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#end.signal.addEventListener("abort", done);
    });
  }

  #fail(error) {
    if (this.#end.signal.aborted) return;
    this.end();
    this.#emit("close", error);
  }
}

function split(text, mark) {
  const at = text.indexOf(mark);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}
