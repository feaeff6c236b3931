//! The option table: the only place that names an option, its default and its meaning.
//!
//! Rows stand in the order of `Section::ALL`. A new row needs a field of the same name in
//! [`Config`](super::Config) and nothing else; tests hold the two together and the reference
//! page up to date.

use super::spec::{
    Kind::{Bool, Bytes, Choice, List, Millis, Number, Port, Ratio, Seconds, Secret, Text, Url},
    OptionSpec,
    Section::{
        Broadcasting, Broker, Category, Limits, LongPolling, Mailbox, Operations, Redis, Room, Rpc,
        Server, Sse, Streams, WebSocket,
    },
    row,
};

/// Every option.
pub(super) const OPTIONS: &[OptionSpec] = &[
    row(
        Server,
        "host",
        Text,
        "127.0.0.1",
        "Address to listen on, without the port: an IP address or a host name; 0.0.0.0 or :: for \
         every interface. Beyond the loopback interface it takes a secret, or public, or noauth.",
    ),
    row(
        Server,
        "port",
        Port,
        "8080",
        "Port to listen on. 0 lets the system choose a free one.",
    )
    .variable(&["PORT"]),
    row(
        Server,
        "public",
        Bool,
        "false",
        "Let everyone in: connections without authentication, public streams, and publishing \
         without a key unless broadcast_key is set.",
    ),
    row(
        Server,
        "noauth",
        Bool,
        "false",
        "Accept every connection without authentication. Streams and publishing keep their own \
         rules.",
    ),
    row(
        Server,
        "secret",
        Secret,
        "",
        "The application's secret. Tokens and signed streams use it unless jwt_secret or \
         streams_secret is set, and the \
         broadcast key is derived from it unless broadcast_key is set. Absent or \"none\": no \
         secret.",
    ),
    row(
        Server,
        "allowed_origins",
        List,
        "",
        "Origins whose pages may connect: host or host:port, a leading * matches any beginning. \
         Empty: any origin.",
    ),
    row(
        Server,
        "trusted_proxies",
        List,
        "127.0.0.0/8, ::1",
        "Proxies in front of this node, by address or network: their X-Pollux-Route decides which \
         node a client belongs to, their X-Forwarded-For whom its sessions count for. private: loopback, link-local and private networks. Clients \
         must not be among them. Empty: none.",
    ),
    row(
        Server,
        "node_id",
        Text,
        "",
        "Name of this node in logs and between nodes: up to 64 letters, digits, dots, dashes and \
         underscores, different for every node. Empty: a random one.",
    ),
    row(
        Server,
        "max_connections",
        Number,
        "100000",
        "Connections open at once, and a few more for health checks. 0: no limit but the system's.",
    ),
    row(
        Server,
        "header_read_timeout",
        Seconds,
        "75s",
        "How long a client may take to send the head of a request, and how long an idle \
         connection is kept. Keep it above the idle time of a proxy's connections (nginx: 60 s), \
         or the proxy sends requests into connections that are just being closed. More than 0.",
    ),
    row(
        Server,
        "shutdown_timeout",
        Seconds,
        "30s",
        "How long open polls and requests get to end when the server stops. 0 ends them at once.",
    ),
    row(
        Server,
        "shutdown_delay",
        Seconds,
        "0s",
        "How long the server goes on accepting after it was told to stop and has become not \
         ready, so that load balancers can notice. 0: no delay.",
    ),
    row(
        Server,
        "workers",
        Number,
        "0",
        "Threads that serve connections, at most 1024. 0: one for each core.",
    ),
    row(
        Server,
        "ssl_cert",
        Text,
        "",
        "PEM file of the certificate, with those between it and its authority after it. With \
         ssl_key every port speaks TLS, and nothing else. Looked at every 10 s and on SIGHUP: \
         what has changed is for new connections. Empty: no TLS.",
    ),
    row(
        Server,
        "ssl_key",
        Text,
        "",
        "PEM file of the certificate's private key.",
    ),
    row(
        Server,
        "console",
        Choice(&["auto", "on", "off"]),
        "auto",
        "The console page at /. auto: on in development mode only.",
    ),
    row(
        Server,
        "console_port",
        Port,
        "0",
        "Port of its own for the console, so that clients can't reach it. What the page asks for \
         is served there too: polls, publishing with a key or where the main port has it, metrics, \
         health_path and ready_path. May be that of metrics_port. 0: the main port.",
    ),
    row(
        Server,
        "console_host",
        Text,
        "",
        "Address that the console's own port listens on. Empty: host.",
    ),
    row(
        LongPolling,
        "poll",
        Bool,
        "true",
        "Serve clients by long polling.",
    ),
    row(
        LongPolling,
        "poll_path",
        Text,
        "/lp",
        "Path of the long polls.",
    ),
    row(
        LongPolling,
        "poll_interval",
        Seconds,
        "15s",
        "How long a poll is held when there is nothing to send. More than 0, and less than the \
         read timeout of any proxy in front.",
    ),
    row(
        LongPolling,
        "poll_flush_interval",
        Millis,
        "500ms",
        "Least time between two answers to a session: messages that come sooner share the next \
         one. 0: every message is sent at once.",
    ),
    row(
        LongPolling,
        "poll_max_request_size",
        Bytes,
        "65536",
        "Largest body of a poll, in bytes; larger ones are answered with 413. At least 1.",
    )
    .variable(&["ANYCABLE_POLL_MAX_REQEUEST_SIZE"]),
    row(
        LongPolling,
        "poll_keepalive_timeout",
        Seconds,
        "5s",
        "How long a session lives without a poll. More than 0.",
    ),
    row(
        LongPolling,
        "poll_max_waiting",
        Number,
        "3",
        "Polls of one session that may wait at the same time. At least 1.",
    ),
    row(
        LongPolling,
        "poll_overflow",
        Choice(&["expire", "drop_oldest"]),
        "expire",
        "What happens when a session's outbox is full. expire: the session ends, and its client \
         reconnects and recovers from history. drop_oldest: the oldest messages are dropped, and \
         the client is told.",
    ),
    row(
        LongPolling,
        "poll_outbox_max_frames",
        Number,
        "1000",
        "Messages that may wait for one session. At least 1.",
    ),
    row(
        LongPolling,
        "poll_outbox_max_bytes",
        Bytes,
        "1048576",
        "Bytes that may wait for one session. At least 1.",
    ),
    row(
        LongPolling,
        "poll_write_timeout",
        Seconds,
        "10s",
        "An answer of which no byte moves for this long is given up, and its messages go back to \
         the session. More than 0.",
    ),
    row(
        LongPolling,
        "poll_compress_min_size",
        Bytes,
        "1024",
        "Answers to polls of at least this many bytes are compressed with gzip for clients that \
         send Pollux-Cursor and whose Accept-Encoding asks for it. 0: none are.",
    ),
    row(
        WebSocket,
        "websocket",
        Bool,
        "true",
        "Serve clients by WebSocket.",
    ),
    row(
        WebSocket,
        "path",
        List,
        "/cable",
        "Paths of the WebSocket, separated by commas.",
    ),
    row(
        WebSocket,
        "ping_interval",
        Seconds,
        "3s",
        "Time between two pings to a client, which notices by them that its connection lives. 0: \
         no pings. A client may ask for another interval with the query parameter pi (seconds).",
    ),
    row(
        WebSocket,
        "ping_timestamp_precision",
        Choice(&["s", "ms", "ns"]),
        "s",
        "What the time in a ping is told in. A client may ask for another with the query \
         parameter ptp.",
    ),
    row(
        WebSocket,
        "pong_timeout",
        Seconds,
        "0s",
        "How long a client of the extended protocol may be silent before it is sent away. 0: for \
         ever.",
    ),
    row(
        WebSocket,
        "enable_native_pings",
        Bool,
        "false",
        "Ping with the frames that WebSocket has for it instead of messages; pong_timeout then \
         holds for all clients.",
    ),
    row(
        WebSocket,
        "ws_write_timeout",
        Seconds,
        "2s",
        "A client that takes nothing for this long is given up. More than 0.",
    ),
    row(
        WebSocket,
        "ws_max_pending_size",
        Bytes,
        "1048576",
        "Bytes that may wait for one client; beyond it the client is sent away (too_slow), \
         reconnects and recovers from history. At least 1.",
    ),
    row(
        WebSocket,
        "max_message_size",
        Bytes,
        "65536",
        "Largest message of a client, in bytes. At least 1.",
    ),
    row(
        Sse,
        "sse",
        Bool,
        "true",
        "Serve clients by server-sent events.",
    ),
    row(
        Sse,
        "sse_path",
        Text,
        "/events",
        "Path of the event streams.",
    ),
    row(
        Sse,
        "sse_compress",
        Bool,
        "false",
        "Compress event streams with gzip for clients whose Accept-Encoding asks for it, as every \
         browser's does. Each open stream then takes several times the memory.",
    ),
    row(
        Category,
        "category",
        Choice(&["auto", "on", "off"]),
        "auto",
        "Serve clients that poll a category, as those of golongpoll do. A category is the stream of \
         that name, so auto means: where clients may subscribe by plain names, or category_user is \
         set.",
    ),
    row(
        Category,
        "category_path",
        Text,
        "/longpoll/events",
        "Path of the polls.",
    ),
    row(
        Category,
        "category_publish_path",
        Text,
        "/longpoll/publish",
        "Path that takes publications to a category.",
    ),
    row(
        Category,
        "category_max_timeout",
        Seconds,
        "110s",
        "The longest time a poll may ask to wait. At least 1 second; keep it below the read timeout \
         of any proxy in front.",
    ),
    row(
        Category,
        "category_buffer_size",
        Number,
        "250",
        "Events kept for each category, and returned by one poll at most. At least 1.",
    ),
    row(
        Category,
        "category_ttl",
        Seconds,
        "0s",
        "How long an event can be had. 0: while it is among the last category_buffer_size, and the \
         broker has room.",
    ),
    row(
        Category,
        "category_delete_after_retrieval",
        Bool,
        "false",
        "An event that a poll was answered with is gone for later polls.",
    ),
    row(
        Category,
        "category_cors",
        Bool,
        "false",
        "Let pages of other origins poll and publish: those of allowed_origins.",
    ),
    row(
        Category,
        "category_user",
        Text,
        "",
        "User that pollers and publishers must be by HTTP Basic authentication. Empty: none, and \
         then polls are authenticated as all other clients are, and publishers need the broadcast \
         key where that is asked for.",
    ),
    row(
        Category,
        "category_password",
        Secret,
        "",
        "That user's password.",
    ),
    row(
        Category,
        "category_file",
        Text,
        "",
        "File in which the memory broker's events are kept across restarts, one a line, as \
         golongpoll's file add-on writes it. Written every second, and shortened at every start. \
         Empty: none.",
    ),
    row(
        Mailbox,
        "mailbox",
        Bool,
        "true",
        "Serve mailboxes: raw bytes for one recipient, taken by one poll.",
    ),
    row(
        Mailbox,
        "mailbox_poll_path",
        Text,
        "/poll",
        "Path where recipients wait.",
    ),
    row(
        Mailbox,
        "mailbox_push_path",
        Text,
        "/push",
        "Path that takes messages for recipients.",
    ),
    row(
        Mailbox,
        "mailbox_timeout",
        Seconds,
        "30s",
        "How long a recipient's poll is held when there is nothing for it. More than 0, and less \
         than the read timeout of any proxy in front.",
    ),
    row(
        Mailbox,
        "mailbox_timeout_status",
        Number,
        "200",
        "Status of the empty answer after that time: 200 or 204. Clients that ask for exactly 200 stop for \
         good at 204.",
    ),
    row(
        Mailbox,
        "mailbox_capacity",
        Number,
        "0",
        "Messages that may wait for a recipient who is away; one more is answered with 503. 0: \
         there must be a poll that waits.",
    ),
    row(
        Mailbox,
        "mailbox_ttl",
        Seconds,
        "3600s",
        "How long a mailbox is kept after the last message came. More than 0.",
    ),
    row(
        Room,
        "room",
        Bool,
        "true",
        "Serve rooms: typed JSON messages by polls and WebSocket.",
    ),
    row(
        Room,
        "room_poll_path",
        Text,
        "/ws/poll",
        "Path where messages of a room are fetched.",
    ),
    row(
        Room,
        "room_send_path",
        Text,
        "/ws/send",
        "Path that takes messages for rooms.",
    ),
    row(
        Room,
        "room_path",
        List,
        "/ws",
        "Paths of the rooms' WebSocket, separated by commas.",
    ),
    row(
        Room,
        "room_resolver",
        List,
        "room:{room}",
        "Which stream a message goes to: the first of these whose field the message has, else \
         broadcast. A field in braces is room, type, id, kind or payload.<name>; what stands \
         around it is kept.",
    ),
    row(
        Room,
        "room_ttl",
        Seconds,
        "60s",
        "How long messages wait for a room that nobody polls and nobody sends to. More than 0.",
    ),
    row(
        Room,
        "room_buffer_size",
        Number,
        "256",
        "Messages that may wait for the polls of a room; the oldest are dropped. 0: none wait.",
    ),
    row(
        Room,
        "room_wait",
        Seconds,
        "0s",
        "How long a poll is held when there is nothing and it does not say (wait=<seconds>). 0: \
         it is answered at once.",
    ),
    row(
        Room,
        "room_max_wait",
        Seconds,
        "30s",
        "The longest a poll may ask to be held. Less than the read timeout of any proxy in front. \
         0: every poll is answered at once.",
    ),
    row(
        Room,
        "room_ping_interval",
        Seconds,
        "30s",
        "Time between two pings of a room's WebSocket. 0: no pings.",
    ),
    row(
        Room,
        "room_idle_timeout",
        Seconds,
        "60s",
        "How long a room's WebSocket may be silent, pongs included, before it is closed. 0: for \
         ever.",
    ),
    row(
        Room,
        "room_history",
        Bool,
        "false",
        "Let clients read what a room's stream has in history: /rooms/<room>/messages and \
         /replay/<id>.",
    ),
    row(
        Server,
        "jwt_secret",
        Secret,
        "",
        "Secret that signs the tokens (JWT, by HS256, HS384 or HS512) with which clients prove \
         who they are. Several, separated by commas, are all accepted, which is how one is \
         replaced by another. Absent: secret. \"none\": no tokens.",
    )
    .alias(&["jwt_id_key"]),
    row(
        Server,
        "jwt_param",
        Text,
        "jid",
        "What a token is called in the query; the header is x- and this name.",
    )
    .alias(&["jwt_id_param"]),
    row(
        Server,
        "enforce_jwt",
        Bool,
        "false",
        "Refuse clients without a token, even with noauth and public.",
    )
    .alias(&["jwt_id_enforce"]),
    row(
        Rpc,
        "rpc_host",
        Text,
        "",
        "The backend that decides who may connect, what channels are and what clients' messages \
         do, by AnyCable's RPC. http://app:3000/_anycable, or with gRPC app:50051, \
         dns:///app:50051 or grpc-list://app1:50051,app2:50051. Several, separated by commas, \
         take turns. Empty: no backend.",
    ),
    row(
        Rpc,
        "norpc",
        Bool,
        "false",
        "Ask no backend, whatever rpc_host is.",
    ),
    row(
        Rpc,
        "rpc_concurrency",
        Number,
        "28",
        "Calls to the backend at one time. At least 1.",
    ),
    row(
        Rpc,
        "rpc_max_waiting",
        Number,
        "5000",
        "Calls that may wait for their turn. Clients beyond them are asked to come again later.",
    ),
    row(
        Rpc,
        "rpc_command_timeout",
        Millis,
        "3000ms",
        "How long a call may take with all its waiting and tries. More than 0.",
    ),
    row(
        Rpc,
        "rpc_request_timeout",
        Millis,
        "0ms",
        "How long one try may take. 0: 3 s for HTTP, and for gRPC as long as the call may.",
    )
    .alias(&["http_rpc_timeout"]),
    row(
        Rpc,
        "http_rpc_secret",
        Secret,
        "",
        "Key that calls by HTTP carry as a bearer token. Absent: derived from secret. \"none\", or \
         neither: no key.",
    ),
    row(
        Rpc,
        "rpc_enable_tls",
        Bool,
        "false",
        "Speak TLS to a backend of gRPC. With https:// it is always spoken.",
    ),
    row(
        Rpc,
        "rpc_tls_verify",
        Bool,
        "true",
        "Whether the backend's certificate must be valid. False lets anybody in between listen.",
    ),
    row(
        Rpc,
        "rpc_tls_root_ca",
        Text,
        "",
        "PEM file of those who sign the backend's certificates. Empty: whom the system trusts.",
    ),
    row(
        Rpc,
        "rpc_tls_client_cert_path",
        Text,
        "",
        "PEM file of the certificate that this node shows to the backend. Empty: none.",
    ),
    row(
        Rpc,
        "rpc_tls_client_key_path",
        Text,
        "",
        "PEM file of that certificate's private key.",
    ),
    row(
        Rpc,
        "rpc_max_call_recv_size",
        Bytes,
        "4MiB",
        "The largest answer that is read. At least 1.",
    ),
    row(
        Rpc,
        "headers",
        List,
        "cookie",
        "Headers of a client's request that the backend is told, besides the address of the \
         client (REMOTE_ADDR) and its token.",
    )
    .alias(&["proxy_headers"]),
    row(
        Rpc,
        "proxy_cookies",
        List,
        "",
        "Cookies that the backend is told, by name. Empty: all.",
    ),
    row(
        Rpc,
        "disconnect_mode",
        Choice(&["auto", "always", "never"]),
        "auto",
        "Whether the backend is told that a session has ended. auto: of those it has heard of.",
    ),
    row(
        Rpc,
        "disconnect_rate",
        Number,
        "100",
        "Ended sessions that the backend is told of, a second. At least 1.",
    ),
    row(
        Rpc,
        "disconnect_backlog_size",
        Number,
        "4096",
        "Ended sessions that may wait for that; of those beyond them it is not told. At least 1.",
    ),
    row(
        Streams,
        "public_streams",
        Bool,
        "false",
        "Let clients subscribe to streams by their plain names. Always on in development and \
         public mode.",
    ),
    row(
        Streams,
        "streams_secret",
        Secret,
        "",
        "Secret that signs stream names. Several, separated by commas, are all accepted, which \
         is how one is replaced by another. Absent: secret. \"none\": no signed streams.",
    ),
    row(
        Streams,
        "turbo_streams",
        Bool,
        "false",
        "Let clients subscribe to Turbo's signed streams, of the channel Turbo::StreamsChannel.",
    ),
    row(
        Streams,
        "turbo_streams_secret",
        Secret,
        "",
        "Secret, or several, that signs the names of Turbo's streams. Absent: streams_secret, \
         else secret.",
    )
    .alias(&["turbo_rails_key"]),
    row(
        Streams,
        "cable_ready",
        Bool,
        "false",
        "Let clients subscribe to CableReady's signed streams, of the channel \
         CableReady::Stream.",
    )
    .alias(&["cable_ready_streams"]),
    row(
        Streams,
        "cable_ready_secret",
        Secret,
        "",
        "Secret, or several, that signs the names of CableReady's streams. Absent: \
         streams_secret, else secret.",
    )
    .alias(&["cable_ready_key"]),
    row(
        Streams,
        "streams_whisper",
        Bool,
        "false",
        "Let clients send to the other subscribers of a stream without a backend (whisper).",
    ),
    row(
        Streams,
        "streams_presence",
        Bool,
        "true",
        "Let subscribers of signed streams be present in them, and ask who is. Those of public \
         streams always may.",
    ),
    row(
        Broadcasting,
        "broadcast_key",
        Secret,
        "",
        "Key that publishers send as a bearer token. Absent: derived from secret. \"none\": no \
         key, and then publishing is open on a port of its own.",
    )
    .alias(&["http_broadcast_secret"]),
    row(
        Broadcasting,
        "api_secret",
        Secret,
        "",
        "Key of the REST API (/api/publish, /api/presence/<stream>/users), sent as a bearer token. \
         Absent: derived from secret. \"none\", or neither: the API is there only in development \
         and public mode, and open.",
    ),
    row(
        Broadcasting,
        "http_broadcast_path",
        Text,
        "/_broadcast",
        "Path that takes publications.",
    ),
    row(
        Broadcasting,
        "http_broadcast_port",
        Port,
        "0",
        "Port that takes publications. 0: the main port if there is a key or in development or \
         public mode, else 8090; in development mode 8090 too if it is free. A port of its own \
         that has no key must be kept private.",
    ),
    row(
        Broadcasting,
        "http_broadcast_cors",
        Bool,
        "false",
        "Let pages of other origins publish.",
    ),
    row(
        Broker,
        "broker",
        Choice(&["auto", "memory", "redis"]),
        "auto",
        "What orders publications, keeps history and connects nodes. memory: this node alone. \
         redis: all nodes that share one Redis. auto: redis if redis_url is set, else memory.",
    ),
    row(
        Broker,
        "history_limit",
        Number,
        "100",
        "Publications kept for each stream. 0: no history, so nothing can be recovered.",
    ),
    row(
        Broker,
        "history_ttl",
        Seconds,
        "300s",
        "How long history is kept after a stream's last publication. More than 0.",
    ),
    row(
        Broker,
        "sessions_ttl",
        Seconds,
        "300s",
        "How long a client that lost its connection can come back by its session id and find its \
         subscriptions. 0: not at all.",
    ),
    row(
        Broker,
        "presence_ttl",
        Seconds,
        "15s",
        "How long a client stays present after its connection was lost. More than 0.",
    ),
    row(
        Broker,
        "memory_max_streams",
        Number,
        "100000",
        "Streams the memory broker keeps history for. At least 1.",
    ),
    row(
        Broker,
        "memory_max_bytes",
        Bytes,
        "268435456",
        "Bytes of history the memory broker keeps in total; beyond it the streams that were not \
         written to for longest lose theirs. At least 1.",
    ),
    row(
        Redis,
        "redis_url",
        Url,
        "",
        "Address of Redis, such as redis://user:password@host:6379/0, or rediss:// for TLS. \
         Several, separated by commas: nodes of a Redis Cluster. With redis_sentinels the host is \
         the name of the master. Empty: no Redis.",
    )
    .variable(&["REDIS_URL"]),
    row(
        Redis,
        "redis_sentinels",
        Url,
        "",
        "Sentinels that know the master, separated by commas: host:port, :password@host:port, or \
         rediss://host:port. Empty: no Sentinel.",
    ),
    row(
        Redis,
        "redis_sentinel_discovery_interval",
        Seconds,
        "10s",
        "How often the sentinels are asked who the master is, beside whenever a connection ends. \
         More than 0.",
    ),
    row(
        Redis,
        "redis_tls_verify",
        Bool,
        "true",
        "Whether the certificate of a rediss:// server must be valid. False lets anybody in \
         between listen.",
    ),
    row(
        Redis,
        "redis_tls_ca_cert_path",
        Text,
        "",
        "PEM file of those who sign Redis's certificates. Empty: whom the system trusts.",
    ),
    row(
        Redis,
        "redis_tls_client_cert_path",
        Text,
        "",
        "PEM file of the certificate that this node shows to Redis. Empty: none.",
    ),
    row(
        Redis,
        "redis_tls_client_key_path",
        Text,
        "",
        "PEM file of that certificate's private key.",
    ),
    row(
        Redis,
        "redis_prefix",
        Text,
        "pollux",
        "What the names of keys and channels begin with: letters, digits, dots, dashes, \
         underscores and colons. The same for all nodes of a cluster of Pollux.",
    ),
    row(
        Redis,
        "redis_channel",
        Text,
        "__anycable__",
        "Channel on which applications publish with PUBLISH.",
    ),
    row(
        Redis,
        "redisx_stream",
        Text,
        "__anycable__",
        "Redis stream to which applications publish with XADD. Empty: none is read.",
    ),
    row(
        Redis,
        "redisx_group",
        Text,
        "bx",
        "Consumer group that reads it. The same for all nodes.",
    ),
    row(
        Redis,
        "redis_linger",
        Seconds,
        "10s",
        "How long a stream is listened to after its last subscriber has left.",
    ),
    row(
        Redis,
        "redis_check_interval",
        Seconds,
        "10s",
        "How often a silent stream is compared with its history. More than 0.",
    ),
    row(
        Redis,
        "redis_keepalive_interval",
        Seconds,
        "30s",
        "How often an idle connection to Redis is checked. More than 0.",
    ),
    row(
        Operations,
        "health_path",
        Text,
        "/health",
        "Path that answers 200 while the process is alive.",
    ),
    row(
        Operations,
        "ready_path",
        Text,
        "/ready",
        "Path that answers 200 while the node should get traffic, and 503 when it should not.",
    ),
    row(
        Operations,
        "metrics_http",
        Text,
        "/metrics",
        "Path of the Prometheus metrics. Empty: off.",
    ),
    row(
        Operations,
        "metrics_port",
        Port,
        "0",
        "Port of their own for the metrics, so that clients can't reach them; health_path and \
         ready_path are served there too. 0: the main port.",
    ),
    row(
        Operations,
        "metrics_host",
        Text,
        "",
        "Address that the metrics' own port listens on. Empty: host.",
    ),
    row(
        Operations,
        "metrics_prefix",
        Text,
        "pollux_",
        "What the name of every metric begins with. Empty: nothing.",
    ),
    row(
        Operations,
        "log_level",
        Choice(&["error", "warn", "info", "debug"]),
        "info",
        "The least severe messages that are logged.",
    ),
    row(
        Operations,
        "debug",
        Bool,
        "false",
        "Log at level debug, whatever log_level says.",
    ),
    row(
        Operations,
        "log_format",
        Choice(&["text", "json"]),
        "text",
        "How log lines are written.",
    ),
    row(
        Operations,
        "otlp_endpoint",
        Url,
        "",
        "Where traces are sent, as OpenTelemetry's protocol has it: http or https, host and port; \
         over HTTP the path is completed with /v1/traces. Empty: there are no traces.",
    )
    .variable(&["OTEL_EXPORTER_OTLP_ENDPOINT"]),
    row(
        Operations,
        "otlp_protocol",
        Choice(&["grpc", "http/protobuf"]),
        "grpc",
        "How traces are sent: collectors listen for gRPC on port 4317 and for HTTP on 4318.",
    )
    .variable(&["OTEL_EXPORTER_OTLP_PROTOCOL"]),
    row(
        Operations,
        "otlp_headers",
        Secret,
        "",
        "Headers that go with them, such as a key of the collector's: name=value, several \
         separated by commas, values percent-encoded where needed. Absent or \"none\": none.",
    )
    .variable(&["OTEL_EXPORTER_OTLP_HEADERS"]),
    row(
        Operations,
        "traces_sample_ratio",
        Ratio,
        "0.01",
        "Share of the publications that are traced if their publisher has not decided it, by the \
         traceparent it sends. 0: only those whose publisher says so. The same on all nodes.",
    ),
    row(
        Operations,
        "traces_stream_names",
        Bool,
        "false",
        "Whether traces name the streams. Their names may be your users' data.",
    ),
    row(
        Operations,
        "service_name",
        Text,
        "",
        "What the nodes are called in traces. Empty: service.name of OTEL_RESOURCE_ATTRIBUTES, \
         else pollux.",
    )
    .variable(&["OTEL_SERVICE_NAME"]),
    row(
        Limits,
        "max_sessions",
        Number,
        "200000",
        "Sessions held at once. 0: no limit.",
    ),
    row(
        Limits,
        "max_sessions_per_address",
        Number,
        "10000",
        "Sessions held at once for one client's address: the peer's, or behind trusted_proxies \
         the last one in X-Forwarded-For that is not theirs. IPv6 is counted by networks of 64 \
         bits. Many clients may share an address. 0: no limit.",
    ),
    row(
        Limits,
        "max_subscriptions_per_session",
        Number,
        "1000",
        "Subscriptions one session may have. At least 1.",
    ),
    row(
        Limits,
        "max_commands_per_second",
        Number,
        "100",
        "Commands one session may send in a second. At once may come twice as many, or \
         max_subscriptions_per_session if that is more. A poll with more is answered with 429; what \
         comes by WebSocket is read later. 0: no limit.",
    ),
    row(
        Limits,
        "max_unknown_polls_per_minute",
        Number,
        "10000",
        "Polls with ids of no session that one client's address may send in a minute; more are \
         answered with 429. A poll of a session is always served. Clients poll like this once when \
         their session has ended, so allow as many as share an address. 0: no limit.",
    ),
    row(
        Limits,
        "max_publishes_per_second",
        Number,
        "0",
        "Publications that each door takes by HTTP in a second, and twice as many at once; more are \
         answered with 429. The doors are those of http_broadcast_path, /api, categories, mailboxes \
         and rooms. 0: no limit.",
    ),
    row(
        Limits,
        "max_publication_size",
        Bytes,
        "1048576",
        "Largest publication, in bytes. At least 1.",
    ),
];

/// The options of the command itself, which the file cannot hold.
pub(super) const COMMAND: &[OptionSpec] = &[CONFIG_PATH, IGNORE_CONFIG_PATH];

/// Which file to read.
pub(super) const CONFIG_PATH: OptionSpec = row(
    Server,
    "config_path",
    Text,
    "",
    "File to read. Absent: ./pollux.toml, else /etc/pollux/pollux.toml, if there is one.",
);

/// Whether to read none.
pub(super) const IGNORE_CONFIG_PATH: OptionSpec = row(
    Server,
    "ignore_config_path",
    Bool,
    "false",
    "Read no file, not even one that config_path names.",
);

/// The option that goes by a name or an alias.
pub(super) fn find(name: &str) -> Option<&'static OptionSpec> {
    OPTIONS
        .iter()
        .find(|option| option.names().any(|known| known == name))
}
