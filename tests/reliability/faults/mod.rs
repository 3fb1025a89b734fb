//! The faults, as a table: what each does, on which set-ups, and the code that makes it.

mod around;
mod attacks;
mod clients;
mod commands;
mod data;
mod links;
mod nodes;
mod people;
mod redis;

use std::time::Duration;

use anyhow::{Context, Result};
use fastrand::Rng;
use futures_util::future::LocalBoxFuture;

use crate::attackers::Attack;
use crate::load::checker::{Loss, Rules};
use crate::load::history::History;
use crate::load::{Load, LoadOptions};
use crate::system::{Options, RedisKind, System};

/// How many messages pass between two faults of a run, in the short form and in the long one: some number up to this,
/// which takes a second at the most.
const BETWEEN_MAX: (u64, u64) = (200, 2_500);

use RedisKind::{Cluster, Sentinel, Single};

/// Of the small disk: the file of Redis fits, for as long as nothing else is on it.
const DISK_BYTES: u64 = 64 * 1024 * 1024;

/// All set-ups; the long form makes most faults on each of them.
const ALL: &[RedisKind] = &[Single, Sentinel, Cluster];

/// Made only where there is a former version to begin with.
pub(crate) const UPGRADE: &str = "upgrade";

/// Every fault there is.
pub(crate) const FAULTS: &[Fault] = &[
    Fault {
        name: "none",
        sentence: "Nothing is broken: what all other runs are to be compared with.",
        short: ALL,
        full: ALL,
        options: one_replica,
        load: usual,
        unnoticed: true,
        make: |scene| Box::pin(none(scene)),
    },
    Fault {
        name: "kill-node",
        sentence: "One node after the other, whichever it is, is killed with SIGKILL and started again.",
        short: &[Single],
        full: ALL,
        options: one_replica,
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(nodes::kill(scene)),
    },
    Fault {
        name: "rolling-restart",
        sentence: "Every node is stopped with SIGTERM and started again, one after the other.",
        short: &[Single],
        full: ALL,
        options: one_replica,
        load: usual,
        unnoticed: true,
        make: |scene| Box::pin(nodes::restart_all(scene)),
    },
    Fault {
        name: UPGRADE,
        sentence: "Every node is of a former version, and replaced by one of this version, one after the other.",
        short: &[],
        full: ALL,
        options: one_replica,
        load: usual,
        unnoticed: true,
        make: |scene| Box::pin(nodes::upgrade(scene)),
    },
    Fault {
        name: "freeze-node",
        sentence: "A node stands still for five seconds; in the long form another one for a minute.",
        short: &[Single],
        full: ALL,
        options: one_replica,
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(nodes::freeze(scene)),
    },
    Fault {
        name: "redis-restart",
        sentence: "Redis is killed with SIGKILL and started again on its append-only file.",
        short: &[Single],
        full: &[Single],
        options: one_replica,
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(redis::restart(scene)),
    },
    Fault {
        name: "failover",
        sentence: "A primary is killed with SIGKILL, a replica takes over, and the former primary comes back as a replica.",
        short: &[Sentinel, Cluster],
        full: &[Sentinel, Cluster],
        options: all_replicas,
        load: may_lose_unacknowledged,
        unnoticed: false,
        make: |scene| Box::pin(redis::fail_over(scene)),
    },
    Fault {
        name: "failover-one-of-two",
        sentence: "The same where one of two replicas has to confirm: what the other one lacks may be lost, and is announced.",
        short: &[],
        full: &[Sentinel],
        options: one_of_two_replicas,
        load: may_lose,
        unnoticed: false,
        make: |scene| Box::pin(redis::fail_over(scene)),
    },
    Fault {
        name: "client-connections",
        sentence: "Connections of clients are reset, closed and refused; they stall, swallow what is sent, and trickle byte by byte, in one direction or both.",
        short: &[Single],
        full: &[Single],
        options: |_| Options { client_proxies: true, ..Options::default() },
        load: |load| load.patience = clients::PATIENCE,
        unnoticed: false,
        make: |scene| Box::pin(clients::cut(scene)),
    },
    Fault {
        name: "redis-connections",
        sentence: "A node is cut off from Redis, loudly and silently, for five seconds, and for longer than a feed keeps.",
        short: &[Single],
        full: &[Single],
        options: |_| Options {
            redis_proxies: true,
            settings: vec![("PUBSUB_FEED_SECONDS", links::WINDOW_SECONDS.to_string())],
            ..Options::default()
        },
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(links::cut(scene)),
    },
    Fault {
        name: "redis-commands",
        sentence: "Redis is told to pause, to sleep, to forget its scripts, and to close all connections.",
        short: &[Single],
        full: ALL,
        options: all_replicas,
        load: may_lose_unacknowledged,
        unnoticed: false,
        make: |scene| Box::pin(commands::disturb(scene)),
    },
    Fault {
        name: "groups-destroyed",
        sentence: "The nodes' consumer groups are destroyed, and a node that stood still is taken for dead and cleaned up after.",
        short: &[Single],
        full: ALL,
        options: |_| Options {
            replicas: 1,
            settings: vec![("PUBSUB_NODE_DEAD_SECONDS", commands::DEAD_AFTER_SECONDS.to_string())],
            ..Options::default()
        },
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(commands::forget_groups(scene)),
    },
    Fault {
        name: "lagging-replica",
        sentence: "Under `memory`, a replica that lacks the last messages is made to lead: what is lost is announced.",
        short: &[Sentinel, Cluster],
        full: &[Sentinel, Cluster],
        options: |_| Options { replicas: 1, durability: Some("memory"), ..Options::default() },
        load: may_lose,
        unnoticed: false,
        make: |scene| Box::pin(data::lag(scene)),
    },
    Fault {
        name: "flush-all",
        sentence: "`FLUSHALL`: all that Redis holds is gone, and that is announced.",
        short: &[Single],
        full: ALL,
        options: one_replica,
        load: may_lose,
        unnoticed: false,
        make: |scene| Box::pin(data::flush(scene)),
    },
    Fault {
        name: "log-deleted",
        sentence: "A channel's log is deleted behind Burble's back, and that is announced.",
        short: &[Single],
        full: ALL,
        options: one_replica,
        load: may_lose,
        unnoticed: false,
        make: |scene| Box::pin(data::delete_log(scene)),
    },
    Fault {
        name: "log-trimmed",
        sentence: "Logs are trimmed while slow listeners read them: they are told what they missed.",
        short: &[Single],
        full: ALL,
        options: one_replica,
        load: |load| {
            load.rules = Rules { loss: Loss::Forbidden, retention: Some(data::KEPT) };
            load.slow = Some(Duration::from_millis(5));
        },
        unnoticed: false,
        make: |scene| Box::pin(data::trim(scene)),
    },
    Fault {
        name: "sent-thrice",
        sentence: "Each message is sent to all three nodes at once: one of the answers is the first, and the log has it once.",
        short: ALL,
        full: ALL,
        options: one_replica,
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(people::send_thrice(scene)),
    },
    Fault {
        name: "member-removed",
        sentence: "Members are removed from private channels while they read them: they get nothing that was logged after.",
        short: &[Single],
        full: ALL,
        options: one_replica,
        load: |load| {
            load.private = true;
            load.slow = Some(Duration::from_millis(5));
        },
        unnoticed: false,
        make: |scene| Box::pin(people::remove(scene)),
    },
    Fault {
        name: "sign-in-revoked",
        sentence: "A sign-in is revoked while its session reads a long log: it is closed in the midst.",
        short: &[Single],
        full: &[Single],
        options: one_replica,
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(people::revoke(scene)),
    },
    Fault {
        name: "database-away",
        sentence: "Postgres is gone for ten seconds: messages go on, and what needs the database says so.",
        short: &[Single],
        full: &[Single],
        options: one_replica,
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(around::database(scene)),
    },
    Fault {
        name: "redis-disk-full",
        sentence: "The disk under the file of Redis is full for some seconds.",
        short: &[Single],
        full: &[Single],
        options: |_| Options { small_disk: Some(DISK_BYTES), ..Options::default() },
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(around::disk(scene)),
    },
    Fault {
        name: "data-disk-full",
        sentence: "The disk under a node's data folder is full: its SQLite file and the Redis that it started itself.",
        short: &[Single],
        full: &[Single],
        options: |_| Options { spare_disk: Some(DISK_BYTES), ..Options::default() },
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(around::data_folder(scene)),
    },
    Fault {
        name: "clock-jumps",
        sentence: "The clock of a node jumps by an hour, forth and back.",
        short: &[Single],
        full: &[Single],
        options: |_| Options { fake_clocks: true, ..Options::default() },
        load: usual,
        unnoticed: false,
        make: |scene| Box::pin(around::clock(scene)),
    },
    attack("slow-headers", "A thousand connections send the headers of a request byte by byte.", |scene| {
        Box::pin(attacks::make(scene, Attack::SlowHeaders))
    }),
    attack("slow-bodies", "A thousand connections send the body of a sign-in byte by byte.", |scene| {
        Box::pin(attacks::make(scene, Attack::SlowBodies))
    }),
    attack("slow-readers", "Two hundred sessions join the busy channels and read nothing.", |scene| {
        Box::pin(attacks::make(scene, Attack::SlowReaders))
    }),
    attack("strangers", "Ten thousand sockets are opened and never sign in.", |scene| {
        Box::pin(attacks::make(scene, Attack::Strangers))
    }),
    attack("large-frames", "Twenty sessions send frames of 1 MiB, over and over.", |scene| {
        Box::pin(attacks::make(scene, Attack::LargeFrames))
    }),
    attack("nested-json", "Twenty sessions send JSON that is ten thousand objects deep, over and over.", |scene| {
        Box::pin(attacks::make(scene, Attack::Nesting))
    }),
    attack(
        "login-flood",
        "Fifty clients guess passwords, at 600,000 rounds each, without a limit on guessing.",
        |scene| Box::pin(attacks::make(scene, Attack::Logins)),
    ),
];

/// Something that is broken on purpose, under load.
pub(crate) struct Fault {
    pub(crate) name: &'static str,
    pub(crate) sentence: &'static str,
    /// The set-ups on which the short form makes it.
    pub(crate) short: &'static [RedisKind],
    /// Those on which the long form does.
    pub(crate) full: &'static [RedisKind],
    pub(crate) options: fn(RedisKind) -> Options,
    /// What of the load is not as usual.
    pub(crate) load: fn(&mut LoadOptions),
    /// No client may see an error: all that it may be told is `reconnect`.
    pub(crate) unnoticed: bool,
    /// Makes it, once or more often; returns when all that was broken is on its way to be well again.
    pub(crate) make: for<'a> fn(&'a mut Scene) -> LocalBoxFuture<'a, Result<()>>,
}

impl Fault {
    pub(crate) fn setups(&self, form: Form) -> &'static [RedisKind] {
        match form {
            Form::Short => self.short,
            Form::Full => self.full,
        }
    }
}

/// How long a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Short,
    Full,
}

impl Form {
    /// How often, or how long: the first in the short form, the second in the long one.
    pub(crate) fn choose<T>(self, short: T, full: T) -> T {
        match self {
            Self::Short => short,
            Self::Full => full,
        }
    }
}

/// What a fault has to work with: the system, and the load that it is under.
pub(crate) struct Scene {
    pub(crate) system: System,
    pub(crate) load: Load,
    pub(crate) history: History,
    pub(crate) form: Form,
    /// Whom, and when: the same for the same seed.
    pub(crate) random: Rng,
    /// How many faults were made.
    pub(crate) made: usize,
    /// What else there is to tell of the run.
    pub(crate) note: Option<String>,
}

impl Scene {
    /// To be said right before each single fault.
    pub(crate) fn mark(&mut self, what: &str) {
        self.history.mark(what);
        self.made += 1;
    }

    /// Waits until so many more messages were acknowledged.
    pub(crate) async fn until_sent(&self, more: u64) -> Result<()> {
        self.load.until_acknowledged(more).await.context("the writers are gone")
    }

    /// Waits until some more messages were acknowledged: the next fault is to hit at any time.
    pub(crate) async fn until_any_time(&mut self) -> Result<()> {
        let more = self.random.u64(1..=self.form.choose(BETWEEN_MAX.0, BETWEEN_MAX.1));
        self.until_sent(more).await
    }

    /// Any of the nodes.
    pub(crate) fn any_node(&mut self) -> usize {
        self.random.usize(..self.system.nodes.len())
    }

    /// Some time up to this.
    pub(crate) fn any_pause(&mut self, longest: Duration) -> Duration {
        longest.mul_f64(self.random.f64())
    }
}

/// An attack on one node. Guessing is limited by its own limits, which are off here, and by what is measured.
const fn attack(
    name: &'static str,
    sentence: &'static str,
    make: for<'a> fn(&'a mut Scene) -> LocalBoxFuture<'a, Result<()>>,
) -> Fault {
    Fault {
        name,
        sentence,
        short: &[Single],
        full: &[Single],
        options: as_shipped,
        load: usual,
        unnoticed: false,
        make,
    }
}

async fn none(scene: &mut Scene) -> Result<()> {
    scene.until_any_time().await
}

fn one_replica(_: RedisKind) -> Options {
    Options { replicas: 1, ..Options::default() }
}

/// While the one replica of a shard leads, nobody is there to confirm. With Sentinel there is a second one, and both have
/// to: Sentinels need not promote the one that has.
fn all_replicas(kind: RedisKind) -> Options {
    let replicas = if kind == Sentinel { 2 } else { 1 };
    Options { replicas, settings: vec![("PUBSUB_REPLICAS", replicas.to_string())], ..Options::default() }
}

/// Service goes on at once, and what only the other replica has may be lost.
fn one_of_two_replicas(_: RedisKind) -> Options {
    Options { replicas: 2, ..Options::default() }
}

/// What a node meets that is set up as the documentation says.
fn as_shipped(_: RedisKind) -> Options {
    let settings = [
        ("AUTH_PASSWORD_ROUNDS", "600000"),
        ("LIMIT_PASSWORD_QUEUE", "64"),
        ("LIMIT_SESSIONS_PER_USER", "1000"),
        ("LIMIT_SESSION_COMMANDS_PER_SECOND", "10000"),
        ("LIMIT_USER_COMMANDS_PER_SECOND", "20000"),
        ("LIMIT_USER_BYTES_PER_SECOND", "4194304"),
    ];
    Options { settings: settings.map(|(name, value)| (name, value.to_owned())).into(), ..Options::default() }
}

fn usual(_: &mut LoadOptions) {}

/// What a primary took that was gone before a replica had it: never acknowledged, seen perhaps, and told to be gone.
fn may_lose_unacknowledged(load: &mut LoadOptions) {
    load.rules = Rules { loss: Loss::Unacknowledged, retention: None };
}

/// Redis itself is made to lose messages: they may be gone, and everybody has to be told.
fn may_lose(load: &mut LoadOptions) {
    load.rules = Rules { loss: Loss::Allowed, retention: None };
}
