//! The bare round trip that every message of a server on Redis Streams makes: `XADD`, and a blocking read on another
//! connection. Nothing beside it: no script, no group, no channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use redis::aio::MultiplexedConnection;
use redis::streams::{StreamReadOptions, StreamReadReply};
use redis::{AsyncCommands, AsyncConnectionConfig};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Flush, RedisServer, connect};
use crate::cli::{Common, TripArgs};
use crate::failure::Tally;
use crate::latency::{Latency, Recorder};
use crate::order::{Clock, Stamp};
use crate::progress::Progress;
use crate::report::{Report, count};
use crate::watch::Watch;

/// As a node of the server reads its feeds.
const READ_ENTRIES_MAX: usize = 512;
/// No entry for so long: the run is over.
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// Measures the Redis of `--redis`, or one of its own.
pub(crate) async fn run(common: &Common, args: &TripArgs) -> Result<Report> {
    let folder = tempfile::tempdir()?;
    let flush = if args.fsync { Flush::Always } else { Flush::EverySecond };
    let own = match common.redis {
        Some(_) => None,
        None => Some(RedisServer::start(folder.path(), flush).await?),
    };
    let url = common.redis.as_ref().or(own.as_ref().map(|own| &own.url)).context("one of the two is there")?;
    let mut pids = common.pids.clone();
    pids.extend(own.as_ref().map(|own| own.process.clone()));

    let mut asking = connect(url).await?;
    let (_, flushing): (String, String) =
        redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async(&mut asking).await?;
    let stream = format!("burble-bench:{}:{}", std::process::id(), common.seed);
    let (append, trip) = (Latency::new(), Latency::new());
    let watch = Watch::start(&pids, Some(url)).await?;
    let start = Instant::now();
    exchange(url, args, &stream, &append, &trip).await?;
    let took = start.elapsed();
    let used = watch.stop(&Tally::default()).await;
    let _: () = asking.del(&stream).await?;

    let mut report = Report::new("limit redis", own.as_ref().map_or(url, |_| "a Redis of its own"));
    report.setting("appendfsync", flushing).setting("in flight", args.in_flight);
    report.setting("messages", args.messages).setting("text bytes", args.size);
    report.latency("append", append.summary()).latency("round trip", trip.summary());
    report.figure("round trips", count(u64::from(args.messages)) / took.as_secs_f64(), "1/s");
    report.cost("round trip", count(u64::from(args.messages)), used);
    Ok(report)
}

/// Each entry is one of `in_flight` until the reader has it.
async fn exchange(url: &str, args: &TripArgs, stream: &str, append: &Latency, trip: &Latency) -> Result<()> {
    let clock = Clock::start();
    let in_flight = Arc::new(Semaphore::new(args.in_flight as usize));
    let reader = Reader {
        connection: connect_patiently(url).await?,
        stream: stream.to_owned(),
        messages: args.messages,
        in_flight: in_flight.clone(),
        latency: trip.recorder(),
    };
    let connection = connect(url).await?;
    let mut tasks = JoinSet::new();
    tasks.spawn(reader.read(clock));
    for index in 0..args.messages {
        in_flight.acquire().await?.forget();
        let (mut connection, stream, mut latency) = (connection.clone(), stream.to_owned(), append.recorder());
        let text = Stamp { index, due_ns: clock.now_ns() }.text(args.size);
        tasks.spawn(async move {
            let start = Instant::now();
            let _: String = connection.xadd(stream, "*", &[("m", text)]).await?;
            latency.record(start.elapsed());
            Ok(())
        });
        while let Some(done) = tasks.try_join_next() {
            done??;
        }
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// A blocking read may take longer than an answer usually does.
async fn connect_patiently(url: &str) -> Result<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(Some(SILENCE_MAX * 2));
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection_with_config(&config).await?)
}

struct Reader {
    connection: MultiplexedConnection,
    stream: String,
    messages: u32,
    in_flight: Arc<Semaphore>,
    latency: Recorder,
}

impl Reader {
    async fn read(mut self, clock: Clock) -> Result<()> {
        let progress = Progress::new("round trips", u64::from(self.messages));
        let block_ms = usize::try_from(SILENCE_MAX.as_millis())?;
        let options = StreamReadOptions::default().count(READ_ENTRIES_MAX).block(block_ms);
        let (mut last, mut read) = ("0".to_owned(), 0);
        while read < self.messages {
            let reply: Option<StreamReadReply> =
                self.connection.xread_options(&[&self.stream], &[&last], &options).await?;
            let entries = reply.into_iter().flat_map(|reply| reply.keys).flat_map(|key| key.ids);
            let before = read;
            for entry in entries {
                let text: String = entry.get("m").context("an entry of somebody else")?;
                let stamp = Stamp::read(&text).context("an entry of somebody else")?;
                self.latency.record_ns(clock.now_ns().saturating_sub(stamp.due_ns));
                self.in_flight.add_permits(1);
                read += 1;
                last = entry.id;
            }
            if read == before {
                bail!("nothing to read for {SILENCE_MAX:?}: {read} of {} came", self.messages);
            }
            progress.advance(u64::from(read - before));
        }
        Ok(())
    }
}
