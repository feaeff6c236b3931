//! The node's doors, as its options say they are.

use super::Node;
use crate::{
    auth::BearerKey,
    config::{Config, Mode},
    http::{
        ApiDoor, BasicUser, BroadcastDoor, CableDoor, Category, CategoryDoor, Doors, EventDoor,
        FOREVER, Heads, MailboxConfig, MailboxDoor, Ops, Origins, PollDoor, Publishers, RoomDoor,
        RoomRoutes, RoomSocketConfig,
    },
    limits::Entrance,
    socket::{Precision, SocketConfig},
};
use ::http::StatusCode;
use pollux_broker::Keep;
use std::{sync::Arc, time::Duration};

impl Node {
    pub(crate) fn poll_door(&self) -> Option<(String, PollDoor)> {
        let origins = Origins::new(&self.config.allowed_origins);
        let door = PollDoor::new(
            Arc::clone(&self.runtime),
            origins,
            self.config.poll_compress_min_size,
        );
        self.config
            .poll
            .then(|| (self.config.poll_path.clone(), door))
    }

    pub(super) fn cable_door(&self) -> Option<(Vec<String>, CableDoor)> {
        let config = &self.config;
        let precision = Precision::parse(&config.ping_timestamp_precision);
        let door = CableDoor {
            runtime: Arc::clone(&self.runtime),
            origins: Origins::new(&config.allowed_origins),
            config: SocketConfig {
                ping_interval: config.ping_interval,
                precision: precision.unwrap_or(Precision::Seconds),
                pong_timeout: config.pong_timeout,
                native_pings: config.enable_native_pings,
                write_timeout: config.ws_write_timeout,
                max_message_size: config.max_message_size,
                max_pending: config.ws_max_pending_size,
            },
        };
        config.websocket.then(|| (config.path.clone(), door))
    }

    pub(super) fn event_door(&self) -> Option<(String, EventDoor)> {
        let door = EventDoor {
            runtime: Arc::clone(&self.runtime),
            origins: Origins::new(&self.config.allowed_origins),
            ping_interval: self.config.ping_interval,
            compress: self.config.sse_compress,
        };
        self.config
            .sse
            .then(|| (self.config.sse_path.clone(), door))
    }

    pub(super) fn api_door(&self) -> Option<ApiDoor> {
        let config = &self.config;
        let open = config.mode() != Mode::Secured && config.api_key().is_none();
        (open || config.api_key().is_some()).then(|| ApiDoor {
            is_admin: config.mode() == Mode::Development || config.api_key().is_some(),
            report: self.heart.report(),
            publish: BroadcastDoor {
                runtime: Arc::clone(&self.runtime),
                entrance: Entrance::Api,
                key: config.api_key().map(BearerKey::new),
                local_only: config.mode() == Mode::Development,
                max_size: config.max_publication_size,
                cors: false,
            },
        })
    }

    pub(super) fn category_door(&self) -> Option<([String; 2], CategoryDoor)> {
        let is_on = self.config.category_enabled();
        is_on.then(|| self.categories())
    }

    pub(super) fn categories(&self) -> ([String; 2], CategoryDoor) {
        let config = &self.config;
        let paths = [&config.category_path, &config.category_publish_path];
        let password = config.category_password.expose();
        let user = config.category_user.as_deref().zip(password);
        let (_, publish) = self.broadcast_door();
        let door = Category {
            runtime: Arc::clone(&self.runtime),
            origins: config
                .category_cors
                .then(|| Origins::new(&config.allowed_origins)),
            user: user.map(|(user, password)| BasicUser::new(user, password)),
            publish,
            is_open: config.mode() != Mode::Secured && config.broadcast_key().is_none(),
            max_timeout: config.category_max_timeout.as_secs(),
            keep: category_keep(config),
            delete: config.category_delete_after_retrieval,
            archive: self.archive.clone(),
            heads: Heads::default(),
        };
        (paths.map(String::clone), CategoryDoor(Arc::new(door)))
    }

    /// Who may publish through a dialect's door.
    pub(super) fn publishers(&self) -> Publishers {
        let (_, door) = self.broadcast_door();
        Publishers {
            door,
            origins: Origins::new(&self.config.allowed_origins),
            open: self.config.mode() != Mode::Secured,
        }
    }

    pub(super) fn mailbox_door(&self) -> Option<([String; 2], MailboxDoor)> {
        let config = &self.config;
        let empty = StatusCode::from_u16(config.mailbox_timeout_status);
        let paths = [&config.mailbox_poll_path, &config.mailbox_push_path];
        let door = MailboxDoor {
            runtime: Arc::clone(&self.runtime),
            origins: Origins::new(&config.allowed_origins),
            publishers: self.publishers(),
            config: MailboxConfig {
                timeout: config.mailbox_timeout,
                timeout_status: empty.unwrap_or(StatusCode::OK),
                capacity: config.mailbox_capacity,
                history_limit: config.history_limit,
                ttl: config.mailbox_ttl,
            },
        };
        config.mailbox.then(|| (paths.map(Clone::clone), door))
    }

    pub(super) fn room_routes(&self) -> Option<RoomRoutes> {
        let config = &self.config;
        config.room.then(|| RoomRoutes {
            door: RoomDoor {
                rooms: Arc::clone(&self.rooms),
                origins: Origins::new(&config.allowed_origins),
                publishers: self.publishers(),
                wait: config.room_wait,
                max_wait: config.room_max_wait,
                socket: RoomSocketConfig {
                    ping_interval: config.room_ping_interval,
                    idle_timeout: config.room_idle_timeout,
                    write_timeout: config.ws_write_timeout,
                    max_message_size: config.max_message_size,
                    max_pending: config.ws_max_pending_size,
                },
            },
            poll: config.room_poll_path.clone(),
            send: config.room_send_path.clone(),
            sockets: config.room_path.clone(),
            history: config.room_history,
        })
    }

    pub(super) fn broadcast_door(&self) -> (String, BroadcastDoor) {
        let door = BroadcastDoor {
            runtime: Arc::clone(&self.runtime),
            entrance: Entrance::Broadcast,
            key: self.config.broadcast_key().map(BearerKey::new),
            local_only: self.config.mode() == Mode::Development,
            max_size: self.config.max_publication_size,
            cors: self.config.http_broadcast_cors,
        };
        (self.config.http_broadcast_path.clone(), door)
    }

    /// The doors of the main port.
    pub(crate) fn doors(&self) -> Doors {
        let own_port = self.config.own_broadcast_port();
        Doors {
            broadcast: own_port.is_none().then(|| self.broadcast_door()),
            ops: self.main_ops(),
            ..self.all_doors()
        }
    }

    /// Every door, whichever port the options give it.
    pub(super) fn all_doors(&self) -> Doors {
        Doors {
            poll: self.poll_door(),
            cable: self.cable_door(),
            events: self.event_door(),
            mailbox: self.mailbox_door(),
            room: self.room_routes(),
            api: self.api_door(),
            category: self.category_door(),
            broadcast: Some(self.broadcast_door()),
            ops: self.all_ops(),
        }
    }

    /// The doors of the console's own port: the page, and what it asks for. It
    /// publishes, but not where that would need no key for the first time.
    pub(super) fn console_doors(&self) -> Doors {
        let config = &self.config;
        let publishes = config.own_broadcast_port().is_none() || config.broadcast_key().is_some();
        Doors {
            poll: self.poll_door(),
            broadcast: publishes.then(|| self.broadcast_door()),
            ..Doors::none_but(self.all_ops())
        }
    }

    /// The doors of the metrics' own port.
    pub(super) fn metrics_doors(&self) -> Doors {
        Doors::none_but(Ops {
            console: false,
            ..self.all_ops()
        })
    }

    /// What the main port has for operators.
    pub(super) fn main_ops(&self) -> Ops {
        let all = self.all_ops();
        let own_metrics = self.config.own_metrics_port();
        Ops {
            console: all.console && self.config.own_console_port().is_none(),
            metrics_path: all.metrics_path.filter(|_| own_metrics.is_none()),
            ..all
        }
    }

    /// All that there is for operators, whichever port the options give it.
    pub(super) fn all_ops(&self) -> Ops {
        Ops {
            runtime: Arc::clone(&self.runtime),
            rooms: self.config.room.then(|| Arc::clone(&self.rooms)),
            health_path: self.config.health_path.clone(),
            ready_path: self.config.ready_path.clone(),
            metrics_path: self.config.metrics_http.clone(),
            console: self.config.console_enabled(),
        }
    }
}

/// How much of a category is kept.
pub(super) fn category_keep(config: &Config) -> Keep {
    let ttl = match config.category_ttl {
        Duration::ZERO => FOREVER,
        ttl => ttl,
    };
    Keep {
        limit: config.category_buffer_size,
        ttl,
    }
}
