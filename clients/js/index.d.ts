/** What the transport can be told. All times are in milliseconds. */
export interface LongPollingOptions {
  /** Pause after an answer without messages. Default 0: poll again at once. */
  cooldownPeriod?: number;
  /** Commands of this time travel together. Default 10. */
  sendBuffer?: number;
  /** How often the monitor is told that the server lives; 0 for never. Default 3000. */
  pingInterval?: number;
  /** How long a request may take; 0 for any time. Must exceed the server's poll_interval. Default 90000. */
  requestTimeout?: number;
  /** The first pause before a poll is tried again; it doubles, with jitter. Default 250. */
  retryDelay?: number;
  /** The longest such pause. Default 5000. */
  retryDelayMax?: number;
  /** How often a poll is tried again before the connection is given up. Default 5. */
  retries?: number;
  /** Headers of every request, or what makes them for each. */
  headers?: HeadersInit | (() => HeadersInit | Promise<HeadersInit>);
  /** Whether cookies are sent. Default "same-origin". */
  credentials?: RequestCredentials;
  /** In place of the global fetch. */
  fetchImplementation?: typeof fetch;
}

export interface LongPollingEvents {
  open: () => void;
  /** The session is over; with an error if that was not wanted. */
  close: (error?: Error) => void;
  /** Something went wrong that the session survives. */
  error: (error: Error) => void;
  /** One line from the server. */
  data: (line: string) => void;
  /** Messages were lost before the next ones. */
  gap: () => void;
}

export declare const DEFAULTS: Readonly<Required<Omit<LongPollingOptions, "headers" | "fetchImplementation">>>;

/** An answer that ended the connection, or refused it. */
export declare class AnswerError extends Error {
  constructor(status: number, message?: string);
  readonly status: number;
}

/** A transport for `createCable({ transport })` of @anycable/core and @anycable/web. */
export declare class LongPollingTransport {
  constructor(url: string, options?: LongPollingOptions);
  url: string;
  displayName(): string;
  setURL(url: string): void;
  setParam(name: string, value: string): void;
  setToken(value: string, name?: string): void;
  open(): Promise<void>;
  send(command: string): void;
  close(): Promise<void>;
  on<E extends keyof LongPollingEvents>(event: E, callback: LongPollingEvents[E]): () => void;
  once<E extends keyof LongPollingEvents>(event: E, callback: LongPollingEvents[E]): () => void;
}
