//! What a server that holds feeds says of itself, judged. No I/O.

use std::collections::HashMap;
use std::time::Duration;

use super::super::setup::{Info, fitness};
use super::super::{Address, Durability, Options};
use crate::finding::{Finding, Verdict};
use crate::model::{DATA_BYTES_MAX, TEXT_BYTES_MAX};

/// A median of the pings beyond this is felt by everybody who sends.
const PING_SLOW: Duration = Duration::from_millis(5);
/// Clocks that differ by more show in times that users see.
const CLOCK_WARNING_MS: u64 = 1_000;
/// Clocks that differ by more make tokens and epochs go wrong.
const CLOCK_FAILURE_MS: u64 = 60_000;
/// Of the memory or the clients that there may be, in percent.
const FILLED_WARNING: u64 = 80;
const FILLED_FAILURE: u64 = 95;
/// How long a replica may be silent, in seconds; a sound one is heard of each second.
const REPLICA_LAG_MAX: u64 = 10;
/// What we ship; a log with one entry takes 1.3 KB, with Redis's default 4.3 KB.
const STREAM_NODE_BYTES: &str = "1024";
/// What an entry costs beside its text and data: names, ids, the frame of the stream.
const ENTRY_OVERHEAD_BYTES: u64 = 256;

/// What a server answered.
pub(super) struct Facts {
    pub(super) info: Info,
    /// Nothing where it forbids `CONFIG`.
    pub(super) config: Option<HashMap<String, String>>,
    pub(super) ping: Duration,
    /// By how much its clock is ahead of this machine's.
    pub(super) ahead_ms: i64,
    pub(super) address: Address,
}

impl Facts {
    fn setting(&self, name: &str) -> Option<&str> {
        self.config.as_ref()?.get(name).map(String::as_str)
    }
}

pub(super) fn judge(facts: &Facts, options: &Options) -> Vec<Finding> {
    let mut findings = vec![ping(facts)];
    findings.extend(fitness(&facts.info, facts.setting("appendfsync"), &facts.address, options.durability));
    findings.push(persistence(facts, options.durability));
    findings.push(written(&facts.info));
    findings.push(memory(&facts.info));
    findings.extend(retention(&facts.info, options.retention_messages));
    findings.push(clients(&facts.info));
    findings.extend(replicas(facts, options.durability));
    findings.push(configuration(facts));
    findings.push(clock(facts.ahead_ms));
    findings
}

fn ping(facts: &Facts) -> Finding {
    const CHECK: &str = "redis latency";
    let found = format!("PING takes {:.2} ms (median)", facts.ping.as_secs_f64() * 1_000.0);
    if facts.ping <= PING_SLOW {
        return Finding::ok(CHECK, found);
    }
    Finding::warning(CHECK, found, "move Redis nearer to the nodes, or see what it is busy with: redis-cli SLOWLOG GET")
}

/// What is on the disk beyond what an `ok` promises.
fn persistence(facts: &Facts, durability: Durability) -> Finding {
    const CHECK: &str = "redis persistence";
    let appendfsync = facts.setting("appendfsync").unwrap_or("unknown");
    match (facts.info.field("aof_enabled") == "1", durability) {
        (false, Durability::Memory | Durability::Replica { .. }) => Finding::warning(
            CHECK,
            "Redis keeps no append-only file: its restart empties all logs",
            "CONFIG SET appendonly yes, and the same in redis.conf",
        ),
        (false, Durability::Fsync) => {
            Finding::failure(CHECK, "Redis keeps no append-only file", "CONFIG SET appendonly yes")
        }
        (true, Durability::Memory) if appendfsync == "always" => Finding::note(
            CHECK,
            "Redis flushes before it answers, which costs what fsync costs, and an ok promises only memory",
            "set PUBSUB_DURABILITY=fsync, or CONFIG SET appendfsync everysec",
        ),
        (true, _) if appendfsync == "no" => Finding::warning(
            CHECK,
            "appendfsync is no: a crash of the machine costs what the system had not written yet",
            "CONFIG SET appendfsync everysec",
        ),
        (true, _) => Finding::ok(CHECK, format!("an append-only file, appendfsync {appendfsync}")),
    }
}

/// Whether what it wrote last went well.
fn written(info: &Info) -> Finding {
    const CHECK: &str = "redis last writes";
    let failed = |name: &str| !matches!(info.field(name), "ok" | "");
    if info.field("loading") == "1" {
        return Finding::warning(CHECK, "it is loading its data and answers nobody", "wait until it has");
    }
    if failed("aof_last_write_status") {
        let remedy = "make room on its disk, or mend it; its log says what is wrong";
        return Finding::failure(
            CHECK,
            "the last write to the append-only file failed: Redis refuses to write",
            remedy,
        );
    }
    if failed("aof_last_bgrewrite_status") {
        let remedy = "see its log for why; often disk or memory (sysctl vm.overcommit_memory=1)";
        return Finding::warning(
            CHECK,
            "the last rewrite of the append-only file failed, so that it only grows",
            remedy,
        );
    }
    if failed("rdb_last_bgsave_status") {
        let remedy = "see its log; without a need for snapshots: CONFIG SET save ''";
        return Finding::warning(
            CHECK,
            "the last snapshot failed: Redis may refuse to write until one succeeds",
            remedy,
        );
    }
    Finding::ok(CHECK, "the last write, rewrite and snapshot went well")
}

fn memory(info: &Info) -> Finding {
    let (used, (max, whose)) = (info.number("used_memory"), info.memory_max());
    let found = format!("{} used, {whose} {}", bytes(used), bytes(max));
    let remedy = "raise maxmemory or the machine's memory, or lower CHANNEL_RETENTION_MESSAGES";
    filled("redis memory", used, max, found, remedy)
}

fn clients(info: &Info) -> Finding {
    let (used, max) = (info.number("connected_clients"), info.number("maxclients"));
    filled("redis clients", used, max, format!("{used} of {max}"), "CONFIG SET maxclients to more")
}

fn filled(check: &str, used: u64, max: u64, found: String, remedy: &str) -> Finding {
    let verdict = match used.saturating_mul(100).checked_div(max).unwrap_or(0) {
        percent if percent >= FILLED_FAILURE => Verdict::Failure,
        percent if percent >= FILLED_WARNING => Verdict::Warning,
        _ => return Finding::ok(check, found),
    };
    Finding::new(check, verdict, found, remedy)
}

/// What one channel full of the largest messages takes.
fn retention(info: &Info, messages: u64) -> Option<Finding> {
    let entry = (TEXT_BYTES_MAX + DATA_BYTES_MAX) as u64 + ENTRY_OVERHEAD_BYTES;
    let (channel, (max, whose)) = (messages.saturating_mul(entry), info.memory_max());
    let found = format!("one channel of the largest messages takes {}, {whose} {}", bytes(channel), bytes(max));
    match max {
        0 => None,
        _ if channel > max => {
            Some(Finding::warning("retention", found, "lower CHANNEL_RETENTION_MESSAGES, or give Redis more memory"))
        }
        _ => Some(Finding::ok("retention", found)),
    }
}

fn replicas(facts: &Facts, durability: Durability) -> Option<Finding> {
    const CHECK: &str = "redis replicas";
    let lines = facts.info.0.lines().filter_map(|line| {
        let (name, state) = line.split_once(':')?;
        name.strip_prefix("slave")?.parse::<u32>().ok().map(|_| state.trim())
    });
    let states: Vec<_> = lines.map(Replica::parse).collect();
    let sound = states.iter().filter(|replica| replica.online && replica.lag <= REPLICA_LAG_MAX).count();
    let needed = match durability {
        Durability::Replica { replicas } => replicas,
        _ => usize::from(!matches!(facts.address, Address::Unix(_) | Address::Single(_))),
    };
    let least: usize = facts.setting("min-replicas-to-write").and_then(|least| least.parse().ok()).unwrap_or(0);
    let found = format!("{sound} in sync, {} connected, {needed} needed", states.len());
    if sound < least {
        let remedy = "start more replicas, or CONFIG SET min-replicas-to-write to fewer";
        return Some(Finding::failure(
            CHECK,
            format!("{found}; min-replicas-to-write is {least}: Redis refuses to write"),
            remedy,
        ));
    }
    if sound < needed {
        let remedy = "start or mend them: redis-cli INFO replication says which lag";
        let verdict =
            if matches!(durability, Durability::Replica { .. }) { Verdict::Failure } else { Verdict::Warning };
        return Some(Finding::new(CHECK, verdict, found, remedy));
    }
    if needed > 0 && least == 0 && matches!(facts.address, Address::Sentinel { .. }) {
        let found =
            format!("{found}; a primary that was cut off goes on taking writes, which are lost when it comes back");
        return Some(Finding::note(CHECK, found, "CONFIG SET min-replicas-to-write 1"));
    }
    (needed > 0 || !states.is_empty()).then(|| Finding::ok(CHECK, found))
}

struct Replica {
    online: bool,
    lag: u64,
}

impl Replica {
    /// Reads `ip=…,port=…,state=online,offset=…,lag=0`.
    fn parse(state: &str) -> Self {
        let field = |name: &str| state.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
        let lag = field("lag").and_then(|lag| lag.parse().ok());
        Self { online: field("state") == Some("online"), lag: lag.unwrap_or(u64::MAX) }
    }
}

/// Settings that cost, and break nothing at once.
fn configuration(facts: &Facts) -> Finding {
    const CHECK: &str = "redis configuration";
    if facts.config.is_none() {
        return Finding::note(
            CHECK,
            "CONFIG is forbidden here: appendfsync, min-replicas-to-write, stream-node-max-bytes and timeout could not be checked",
            "compare them with deploy/redis.conf in the console of whoever runs it",
        );
    }
    if let Some(timeout) = facts.setting("timeout").filter(|timeout| *timeout != "0") {
        let found = format!("timeout is {timeout}: Redis hangs up on connections that are idle for so many seconds");
        return Finding::warning(CHECK, found, "CONFIG SET timeout 0");
    }
    match facts.setting("stream-node-max-bytes") {
        Some(found) if found != STREAM_NODE_BYTES => Finding::note(
            CHECK,
            format!("stream-node-max-bytes is {found}: short logs take about three times the memory"),
            format!("CONFIG SET stream-node-max-bytes {STREAM_NODE_BYTES}"),
        ),
        _ => Finding::ok(CHECK, "as in deploy/redis.conf"),
    }
}

fn clock(ahead_ms: i64) -> Finding {
    const CHECK: &str = "redis clock";
    let found = format!("{ahead_ms} ms ahead of this machine's");
    let remedy = "have both machines keep the time: timedatectl set-ntp true";
    match ahead_ms.unsigned_abs() {
        ms if ms > CLOCK_FAILURE_MS => Finding::failure(CHECK, found, remedy),
        ms if ms > CLOCK_WARNING_MS => Finding::warning(CHECK, found, remedy),
        _ => Finding::ok(CHECK, found),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..0x10_0000 => format!("{} KiB", bytes >> 10),
        0x10_0000..0x4000_0000 => format!("{} MiB", bytes >> 20),
        _ => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that a sound primary says and that is looked at.
    const SOUND: &str = "redis_mode:standalone\nredis_version:7.0.15\nrole:master\nmaxmemory_policy:noeviction\n\
        maxmemory:0\ntotal_system_memory:17179869184\nused_memory:1000000\nconnected_clients:9\nmaxclients:10000\n\
        aof_enabled:1\naof_last_write_status:ok\naof_last_bgrewrite_status:ok\nrdb_last_bgsave_status:ok\n";

    fn facts(info: &str, config: &[(&str, &str)]) -> Facts {
        let config = config.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let address = Address::Single(("redis".into(), 6379));
        Facts { info: Info(info.into()), config: Some(config), ping: Duration::ZERO, ahead_ms: 0, address }
    }

    /// The one check that is not ok, and how bad it is.
    fn wrong(findings: Vec<Finding>) -> (String, Verdict) {
        let mut wrong = findings.into_iter().filter(|finding| finding.verdict > Verdict::Ok);
        let finding = wrong.next().expect("something is wrong");
        assert_eq!(wrong.next(), None);
        assert!(!finding.remedy.is_empty());
        (finding.check, finding.verdict)
    }

    #[test]
    fn what_a_server_says_of_its_state_is_judged() {
        use Verdict::{Failure, Warning};
        let cases = [
            ("aof_last_write_status:ok", "aof_last_write_status:err", "redis last writes", Failure),
            ("aof_last_bgrewrite_status:ok", "aof_last_bgrewrite_status:err", "redis last writes", Warning),
            ("rdb_last_bgsave_status:ok", "rdb_last_bgsave_status:err", "redis last writes", Warning),
            ("used_memory:1000000", "used_memory:14000000000", "redis memory", Warning),
            ("used_memory:1000000", "used_memory:17000000000", "redis memory", Failure),
            ("connected_clients:9", "connected_clients:9900", "redis clients", Failure),
            ("redis_version:7.0.15", "redis_version:6.2.1", "redis version", Failure),
            ("total_system_memory:17179869184", "total_system_memory:100000000", "retention", Warning),
        ];
        assert_eq!(findings(SOUND).iter().find(|finding| finding.verdict > Verdict::Ok), None);
        for (right, instead, check, verdict) in cases {
            assert_eq!(wrong(findings(&SOUND.replace(right, instead))), (check.into(), verdict), "{instead}");
        }
    }

    fn findings(info: &str) -> Vec<Finding> {
        let facts = facts(info, &[]);
        let retention_messages = 10_000;
        let mut findings = vec![written(&facts.info), memory(&facts.info), clients(&facts.info)];
        findings.extend(fitness(&facts.info, None, &facts.address, Durability::Memory));
        findings.extend(retention(&facts.info, retention_messages));
        findings
    }

    #[test]
    fn a_replica_that_lags_does_not_count() {
        let needs = Durability::Replica { replicas: 1 };
        let state = |state: &str| format!("{SOUND}slave0:ip=ten,port=6379,state={state},offset=9,lag=0\n");
        assert_eq!(replicas(&facts(&state("online"), &[]), needs).expect("told").verdict, Verdict::Ok);
        assert_eq!(replicas(&facts(&state("wait_bgsave"), &[]), needs).expect("told").verdict, Verdict::Failure);
        let lags = state("online").replace("lag=0", "lag=60");
        assert_eq!(replicas(&facts(&lags, &[]), needs).expect("told").verdict, Verdict::Failure);
    }

    #[test]
    fn clocks_may_differ_by_a_second() {
        for (ahead_ms, verdict) in
            [(-1_000, Verdict::Ok), (1_500, Verdict::Warning), (-61_000, Verdict::Failure), (61_000, Verdict::Failure)]
        {
            assert_eq!(clock(ahead_ms).verdict, verdict, "{ahead_ms}");
        }
    }

    #[test]
    fn what_cannot_be_asked_is_said() {
        let silent = Facts { config: None, ..facts(SOUND, &[]) };
        assert!(configuration(&silent).found.contains("CONFIG is forbidden"));
        assert_eq!(configuration(&silent).verdict, Verdict::Note);
        let unsure = fitness(&silent.info, None, &silent.address, Durability::Fsync);
        assert_eq!(wrong(unsure.into()), ("redis durability".into(), Verdict::Warning));
    }
}
