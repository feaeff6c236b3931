// What a program in TypeScript would write; `types.test.js` has it checked.

import { createCable } from "@anycable/core";
import { AnswerError, DEFAULTS, LongPollingTransport, type LongPollingOptions } from "../../clients/js/index.js";

const options: LongPollingOptions = {
  headers: async () => ({ Authorization: "Bearer x" }),
  requestTimeout: DEFAULTS.requestTimeout * 2,
  credentials: "include",
};
const transport = new LongPollingTransport("https://example.com/lp", options);
createCable({ transport, protocol: "actioncable-v1-ext-json" });
createCable("wss://example.com/cable", { fallbacks: [transport] });

const stop: () => void = transport.on("close", (error) => {
  if (error instanceof AnswerError) console.log(error.status + 1);
});
transport.once("data", (line) => console.log(line.length));
transport.on("gap", () => stop());

// @ts-expect-error There is no such option.
new LongPollingTransport("/lp", { pollInterval: 5 });
// @ts-expect-error Nor such an event.
transport.on("message", () => {});
