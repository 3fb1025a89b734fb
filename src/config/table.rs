//! Every setting, once: from this table come the structs, the checks, `.env.example` and the README's tables.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use super::layers::Places;
use super::secret::{SECRET_BYTES_MIN, Secret};
use super::setting::Fallback::{Otherwise, Value};
use super::setting::Kind::{self, Choice, List, Number, Text};
use super::setting::Setting;
use super::value::{
    Database, Durability, Environment, HostPort, Limit, LogFormat, LogOutput, Origin, Origins, RedisMode, Switch,
    TrustedProxies, is_host, parse_net,
};

const HOST: Kind = Text("a host name or an IP address", is_host);
const PORT: Kind = Number(0, 65_535);
const LIMIT: Kind = Number(0, u32::MAX as u64);
const KEY: Kind = Kind::Secret(SECRET_BYTES_MIN);
const FILE: Kind = Text("a path", |text| !text.is_empty());
const LEVEL: Kind = Text("off, error, warn, info, debug or trace, or directives such as info,burble=debug", is_level);

/// A lone word that is no level would be taken for a target, and a misspelt level would open the floodgates.
fn is_level(text: &str) -> bool {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let known = |directive: &str| directive.contains('=') || LEVELS.contains(&directive.to_ascii_lowercase().as_str());
    text.split(',').all(known) && EnvFilter::builder().parse(text).is_ok()
}

fn is_node_name(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_prefix(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "_-".contains(c))
}

fn is_sentinel_name(text: &str) -> bool {
    !text.is_empty() && !text.contains(char::is_whitespace)
}

macro_rules! settings {
    (
        node {
            $($(#[doc = $help:literal])+ $env:literal $field:ident: $type:ty, $kind:expr, $default:expr;)*
        }
        $(
            $(#[doc = $section_help:literal])+
            $section:ident: $Section:ident {
                $($(#[doc = $member_help:literal])+
                $member_env:literal $member:ident: $member_type:ty, $member_kind:expr, $member_default:expr;)*
            }
        )*
    ) => {
        /// What a node is told before it starts. Every value has been checked.
        #[derive(Debug, Clone, Serialize, Deserialize)]
        pub struct Settings {
            $($(#[doc = $help])+ pub $field: $type,)*
            $($(#[doc = $section_help])+ pub $section: $Section,)*
            #[serde(skip)]
            pub(super) places: Places,
        }

        $(
            $(#[doc = $section_help])+
            #[derive(Debug, Clone, Serialize, Deserialize)]
            pub struct $Section { $($(#[doc = $member_help])+ pub $member: $member_type,)* }
        )*

        /// Every setting, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[
            $(Setting {
                env: $env, section: "", name: stringify!($field), kind: $kind, default: $default, help: concat!($($help),+),
            },)*
            $($(Setting {
                env: $member_env,
                section: stringify!($section),
                name: stringify!($member),
                kind: $member_kind,
                default: $member_default,
                help: concat!($($member_help),+),
            },)*)*
        ];

        /// The sections of `burble.toml`, each with its sentence.
        pub(super) const SECTIONS: &[(&str, &str)] = &[$((stringify!($section), concat!($($section_help),+)),)*];
    };
}

settings! {
    node {
        /// What the node is run for; `development` allows weak password hashes and a made-up token key.
        "ENV" env: Environment, Choice(Environment::NAMES), Value("production");
        /// The node's name in `welcome`, logs and metrics.
        "NODE_NAME" node_name: String, Text("letters, digits, dots, - and _", is_node_name), Otherwise("the host name");
        /// The folder of the embedded Redis, the SQLite file and the token key.
        "DATA_DIR" data_dir: PathBuf, FILE, Value("data");
    }

    /// The public listener.
    server: Server {
        /// The address that clients, or the reverse proxy, connect to.
        "SERVER_HOST" host: String, HOST, Value("127.0.0.1");
        /// Its port; 0 takes any that is free.
        "SERVER_PORT" port: u16, PORT, Value("8080");
        /// Where users and channels are kept. More than one node needs Postgres.
        "SERVER_DB" db: Database, Kind::Database, Otherwise("<DATA_DIR>/burble.db");
        /// Origins whose pages may connect, beside the server's own.
        "SERVER_ORIGINS" origins: Origins,
            List("scheme://host[:port]", |text| text.parse::<Origin>().is_ok()), Otherwise("none");
        /// Reverse proxies whose `X-Forwarded-For` counts.
        "SERVER_TRUSTED_PROXIES" trusted_proxies: TrustedProxies,
            List("an address or a range such as 10.0.0.0/8", |text| parse_net(text).is_some()), Otherwise("none");
        /// How long a client may take for the headers of a request, and then for its body.
        "SERVER_REQUEST_MS" request_ms: u64, Number(10, 600_000), Value("10000");
        /// How long a node that stops gives its sessions to leave.
        "SERVER_DRAIN_SECONDS" drain_seconds: u64, Number(0, 3_600), Value("10");
    }

    /// The listener for operators: `/livez`, `/readyz` and `/metrics`. Keep it off the public network.
    ops: Ops {
        /// The address that Prometheus and probes connect to.
        "OPS_HOST" host: String, HOST, Value("127.0.0.1");
        /// Its port; 0 takes any that is free.
        "OPS_PORT" port: u16, PORT, Value("9100");
    }

    /// Tokens and passwords.
    auth: Auth {
        /// The key that signs access tokens, the same on all nodes; make one with: openssl rand -base64 48
        "AUTH_SECRET" secret: Option<Secret>, KEY, Otherwise("none; with the embedded Redis one is made and kept");
        /// The key before that, whose tokens stay good during a rotation.
        "AUTH_SECRET_PREVIOUS" secret_previous: Option<Secret>, KEY, Otherwise("none");
        /// How long an access token is good.
        "AUTH_ACCESS_SECONDS" access_seconds: u64, Number(1, 86_400), Value("900");
        /// How long a sign-in lasts without being used.
        "AUTH_REFRESH_DAYS" refresh_days: u32, Number(1, 3_650), Value("30");
        /// Rounds of PBKDF2 for a password; fewer than 600000 only with `ENV=development`.
        "AUTH_PASSWORD_ROUNDS" password_rounds: u32, Number(1_000, u32::MAX as u64), Value("600000");
        /// Threads that hash passwords; 0 is one for every two cores.
        "AUTH_PASSWORD_THREADS" password_threads: usize, Number(0, 256), Value("0");
    }

    /// The log of all messages: Redis Streams.
    pubsub: PubSub {
        /// The Redis to use, or several Sentinels or nodes of a Cluster. With none, Burble starts a private one.
        "PUBSUB_SERVER_HOST" server_host: Vec<HostPort>,
            List("host or host:port", |text| text.parse::<HostPort>().is_ok()), Otherwise("none: an embedded Redis");
        /// The port where the host names none.
        "PUBSUB_SERVER_PORT" server_port: u16, Number(1, 65_535), Value("6379");
        /// The password of that Redis.
        "PUBSUB_SERVER_PASS" server_pass: Option<Secret>, Kind::Secret(1), Otherwise("none");
        /// What the hosts are: one Redis, Sentinels that name the primary, or nodes of a Redis Cluster.
        "PUBSUB_SERVER_MODE" server_mode: RedisMode, Choice(RedisMode::NAMES), Value("single");
        /// What the Sentinels call the primary.
        "PUBSUB_SENTINEL_NAME" sentinel_name: String, Text("a name without spaces", is_sentinel_name), Value("mymaster");
        /// The password of the Sentinels themselves.
        "PUBSUB_SENTINEL_PASS" sentinel_pass: Option<Secret>, Kind::Secret(1), Otherwise("none");
        /// Whether Redis, and Sentinels, are spoken to in TLS.
        "PUBSUB_TLS" tls: Switch, Choice(Switch::NAMES), Value("off");
        /// The authorities that may have signed their certificates, in PEM.
        "PUBSUB_TLS_CA" tls_ca: Option<PathBuf>, FILE, Otherwise("those of the system");
        /// The certificate that is shown to a Redis that asks for one, in PEM.
        "PUBSUB_TLS_CERT" tls_cert: Option<PathBuf>, FILE, Otherwise("none");
        /// Its key.
        "PUBSUB_TLS_KEY" tls_key: Option<PathBuf>, FILE, Otherwise("none");
        /// What an `ok` promises: Redis has the message in memory, has flushed it to disk, or replicas have it.
        "PUBSUB_DURABILITY" durability: Durability, Choice(Durability::NAMES), Otherwise("embedded: fsync; else memory");
        /// How many replicas must confirm under `replica`.
        "PUBSUB_REPLICAS" replicas: u32, Number(1, 16), Value("1");
        /// What all keys in Redis begin with; installations that share a Redis need different ones.
        "PUBSUB_PREFIX" prefix: String, Text("a-z, 0-9, _ and -", is_prefix), Value("burble");
        /// Shards that channels are spread over, each with a feed of its own on a Cluster; fixed once there are messages.
        "PUBSUB_FEEDS" feeds: u16, Number(1, 256), Otherwise("16; on a Cluster 64");
        /// How much a feed keeps for a node that was cut off.
        "PUBSUB_FEED_SECONDS" feed_seconds: u64, Number(1, 3_600), Value("30");
        /// After how much silence a node counts as dead and what it left in Redis is removed.
        "PUBSUB_NODE_DEAD_SECONDS" node_dead_seconds: u64, Number(1, 86_400), Value("600");
        /// After which time without an answer from Redis a `send` is told `outcome_unknown`.
        "PUBSUB_APPEND_TIMEOUT_MS" append_timeout_ms: u64, Number(1, 600_000), Value("3000");
        /// How long a repeated `cid` is recognised.
        "PUBSUB_DEDUPE_SECONDS" dedupe_seconds: u64, Number(600, 604_800), Value("900");
    }

    /// What the log of a channel keeps: whichever of the two ends first.
    channel: ChannelSettings {
        /// Messages a channel keeps at least.
        "CHANNEL_RETENTION_MESSAGES" retention_messages: u64, Number(1, u32::MAX as u64), Value("10000");
        /// Days after which the log of an idle channel goes.
        "CHANNEL_RETENTION_DAYS" retention_days: u32, Number(1, 36_500), Value("30");
    }

    /// One WebSocket connection.
    session: SessionSettings {
        /// How often the server pings.
        "SESSION_PING_MS" ping_ms: u64, Number(10, 3_600_000), Value("25000");
        /// After how much silence a connection is dropped; more than `SESSION_PING_MS`.
        "SESSION_SILENCE_MS" silence_ms: u64, Number(10, 7_200_000), Value("60000");
        /// How long a connection may take to sign in.
        "SESSION_SIGN_IN_MS" sign_in_ms: u64, Number(10, 600_000), Value("10000");
    }

    /// Limits; 0 is none.
    limit: Limits {
        /// Connections of a node; beyond it 503.
        "LIMIT_CONNECTIONS" connections: Limit, LIMIT, Value("50000");
        /// Connections of a client's address to a node, IPv6 by /64; behind a trusted proxy, its requests and sockets; beyond it 429.
        "LIMIT_CONNECTIONS_PER_ADDRESS" connections_per_address: Limit, LIMIT, Value("20000");
        /// Sockets of a node on which nobody has signed in yet; beyond it the one that has waited longest closes with 1013.
        "LIMIT_CONNECTIONS_UNSIGNED" connections_unsigned: Limit, LIMIT, Value("5000");
        /// Signed-in upgrades of a node that are under way, until `welcome`; beyond it 503.
        "LIMIT_UPGRADES" upgrades: Limit, LIMIT, Value("2048");
        /// Bytes of request bodies that a node holds at a time; beyond it 503.
        "LIMIT_BODIES_BYTES" bodies_bytes: Limit, LIMIT, Value("67108864");
        /// Sessions of a user on a node.
        "LIMIT_SESSIONS_PER_USER" sessions_per_user: Limit, LIMIT, Value("100");
        /// Channels that a session has joined.
        "LIMIT_SESSION_JOINS" session_joins: Limit, LIMIT, Value("1000");
        /// Commands of a session in a second.
        "LIMIT_SESSION_COMMANDS_PER_SECOND" session_commands_per_second: Limit, LIMIT, Value("10000");
        /// Commands of all sessions of a user on a node, and their HTTP requests, in a second.
        "LIMIT_USER_COMMANDS_PER_SECOND" user_commands_per_second: Limit, LIMIT, Value("20000");
        /// Bytes of frames that a node reads from all sessions of a user in a second; what is more waits unread.
        "LIMIT_USER_BYTES_PER_SECOND" user_bytes_per_second: Limit, LIMIT, Value("4194304");
        /// Wrong passwords for a name from one address in 15 minutes, before each doubles the wait for the next.
        "LIMIT_SIGN_IN_FAILURES" sign_in_failures: Limit, LIMIT, Value("10");
        /// The same for a name from all addresses; who signed in from theirs in the last 30 days does not wait.
        "LIMIT_SIGN_IN_FAILURES_PER_NAME" sign_in_failures_per_name: Limit, LIMIT, Value("100");
        /// The same for an address and all names.
        "LIMIT_SIGN_IN_FAILURES_PER_ADDRESS" sign_in_failures_per_address: Limit, LIMIT, Value("500");
        /// Sign-ups from an address in 15 minutes, before each doubles the wait for the next.
        "LIMIT_SIGN_UPS_PER_ADDRESS" sign_ups_per_address: Limit, LIMIT, Value("2000");
        /// Sign-ins and sign-ups that wait for a password thread; beyond it `rate_limited`.
        "LIMIT_PASSWORD_QUEUE" password_queue: usize, Number(1, 65_536), Value("64");
        /// Pages of history read from Redis at a time.
        "LIMIT_PAGE_READS" page_reads: usize, Number(1, 65_536), Value("16");
        /// Sessions of a node that are given what they missed at a time; the others wait for their turn.
        "LIMIT_REPLAYS" replays: Limit, LIMIT, Value("16");
    }

    /// Logs.
    log: Log {
        /// Where they go.
        "LOG_OUTPUT" output: LogOutput, Choice(LogOutput::NAMES), Value("stdout");
        /// The file; each day begins a new one, named with its date.
        "LOG_FILE" file: PathBuf, FILE, Value("logs/server.log");
        /// What standard output shows.
        "LOG_CONSOLE_LEVEL" console_level: String, LEVEL, Value("info");
        /// What the file holds.
        "LOG_FILE_LEVEL" file_level: String, LEVEL, Value("info");
        /// `text` for people, `json` for log collectors.
        "LOG_FORMAT" format: LogFormat, Choice(LogFormat::NAMES), Value("text");
    }
}
