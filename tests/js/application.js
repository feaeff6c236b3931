// An application behind a node: a small chat that answers the node's calls over HTTP.

import { once } from "node:events";
import { createServer } from "node:http";

/** What each call may consist of; the strictest of the known backends refuses everything else. */
const FIELDS = {
  "/_anycable/connect": ["env"],
  "/_anycable/command": ["command", "identifier", "connection_identifiers", "data", "env"],
  "/_anycable/disconnect": ["identifiers", "subscriptions", "env"],
};
const ENV_FIELDS = ["url", "headers", "cstate", "istate"];

/** Starts a chat that ends with the test `t`. */
export async function startApplication(t) {
  const application = new Application();
  await application.listen();
  t.after(() => application.close());
  return application;
}

class Application {
  /** Every call: { kind, sid, body }, with the command's name for a kind where there is one. */
  calls = [];
  /** What the node did that the protocol does not allow. */
  complaints = [];
  #server = createServer((request, response) => {
    this.#answer(request).then(({ status, answer }) => {
      response.writeHead(status, { "Content-Type": "application/json" });
      response.end(JSON.stringify(answer));
    }, (error) => {
      this.complaints.push(String(error));
      response.writeHead(422).end();
    });
  });

  async listen() {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
  }

  /** What a node's `--rpc_host` takes. */
  get url() {
    return `http://127.0.0.1:${this.#server.address().port}/_anycable`;
  }

  of(kind) {
    return this.calls.filter((call) => call.kind === kind);
  }

  async close() {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, "close");
  }

  async #answer(request) {
    let text = "";
    for await (const chunk of request.setEncoding("utf8")) text += chunk;
    const body = JSON.parse(text);
    const sid = request.headers["x-anycable-meta-sid"];
    const fields = FIELDS[request.url];
    const unknown = Object.keys(body).filter((name) => !fields?.includes(name))
      .concat(Object.keys(body.env).filter((name) => !ENV_FIELDS.includes(name)));
    if (request.method !== "POST" || request.headers["x-anycable-meta-protov"] !== "v1" || !sid || unknown.length > 0) {
      throw new Error(`${request.method} ${request.url} ${text}`);
    }
    const kind = body.command ?? request.url.split("/").pop();
    this.calls.push({ kind, sid, body });
    return { status: 200, answer: DECISIONS[kind](body, sid) };
  }
}

const refusal = JSON.stringify({ type: "disconnect", reason: "unauthorized", reconnect: false });

const DECISIONS = {
  connect({ env }, sid) {
    const user = new URL(env.url).searchParams.get("user");
    if (!user || user === "mallory") return { status: 2, transmissions: [refusal] };
    return {
      status: 1,
      identifiers: JSON.stringify({ user }),
      transmissions: [JSON.stringify({ type: "welcome", sid })],
    };
  },

  subscribe({ identifier, connection_identifiers }) {
    const { channel, room } = JSON.parse(identifier);
    if (channel !== "ChatChannel") {
      return { status: 2, transmissions: [JSON.stringify({ type: "reject_subscription", identifier })] };
    }
    const { user } = JSON.parse(connection_identifiers);
    const frames = [{ type: "confirm_subscription", identifier }, { identifier, message: { hello: user } }];
    return {
      status: 1,
      streams: [`chat/${room}`],
      transmissions: frames.map((frame) => JSON.stringify(frame)),
      env: { istate: { "$w": `chat/${room}` } },
    };
  },

  message({ identifier, data, env }) {
    const { action, text } = JSON.parse(data);
    if (action !== "speak") return { status: 2 };
    const n = Number(env.istate?.n ?? 0) + 1;
    return {
      status: 1,
      transmissions: [JSON.stringify({ identifier, message: { said: text, n } })],
      env: { istate: { n: String(n) } },
    };
  },

  unsubscribe: () => ({ status: 1, stop_streams: true }),

  disconnect: () => ({ status: 1 }),
};
