// An application behind a node: a small chat that answers the node's calls, over HTTP or gRPC.

import { once } from "node:events";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import * as grpc from "@grpc/grpc-js";
import { loadSync } from "@grpc/proto-loader";

const PROTO = fileURLToPath(new URL("../../crates/rpc/proto/rpc.proto", import.meta.url));

/** What each call may consist of; the strictest of the known backends refuses everything else. */
const FIELDS = {
  "/_anycable/connect": ["env"],
  "/_anycable/command": ["command", "identifier", "connection_identifiers", "data", "env"],
  "/_anycable/disconnect": ["identifiers", "subscriptions", "env"],
};
const ENV_FIELDS = ["url", "headers", "cstate", "istate"];

/** Starts a chat that ends with the test `t`. */
export async function startApplication(t, Kind = HttpApplication) {
  const application = new Kind();
  await application.listen();
  t.after(() => application.close());
  return application;
}

class Application {
  /** Every call: { kind, sid, body }, with the command's name for a kind where there is one. */
  calls = [];
  /** What the node did that the protocol does not allow. */
  complaints = [];

  of(kind) {
    return this.calls.filter((call) => call.kind === kind);
  }

  /** The answer to a call that was understood. */
  decide(kind, sid, body) {
    this.calls.push({ kind, sid, body });
    return DECISIONS[kind](body, sid);
  }
}

/** The chat over HTTP, as Laravel and serverless functions serve it. */
export class HttpApplication extends Application {
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
    return { status: 200, answer: this.decide(kind, sid, body) };
  }
}

/** The chat over gRPC, as Rails serves it. */
export class GrpcApplication extends Application {
  #server = new grpc.Server();
  #port;

  async listen() {
    const { anycable } = grpc.loadPackageDefinition(loadSync(PROTO, { keepCase: true }));
    this.#server.addService(anycable.RPC.service, {
      Connect: (call, answer) => this.#answer(call, answer, "connect"),
      Command: (call, answer) => this.#answer(call, answer, call.request.command),
      Disconnect: (call, answer) => this.#answer(call, answer, "disconnect"),
    });
    const credentials = grpc.ServerCredentials.createInsecure();
    this.#port = await new Promise((resolve, reject) => {
      this.#server.bindAsync("127.0.0.1:0", credentials, (error, port) => (error ? reject(error) : resolve(port)));
    });
  }

  /** What a node's `--rpc_host` takes. */
  get url() {
    return `127.0.0.1:${this.#port}`;
  }

  async close() {
    this.#server.forceShutdown();
  }

  #answer({ request, metadata }, answer, kind) {
    const [sid] = metadata.get("sid");
    const [version] = metadata.get("protov");
    try {
      if (version !== "v1" || !sid) throw new Error(`${kind} of version ${version} for ${sid}`);
      answer(null, this.decide(kind, sid, request));
    } catch (error) {
      this.complaints.push(String(error));
      answer({ code: grpc.status.INVALID_ARGUMENT, message: String(error) });
    }
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
