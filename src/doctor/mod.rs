//! Examines what a node rests on, beside nodes that run: settings, machine, database, Redis, and the way through the
//! reverse proxy. Changes nothing, but for an entry in each feed, which nodes ignore.

mod advice;
mod client;
mod host;
mod path;
mod report;
mod socket;

use std::time::Duration;

use anyhow::ensure;
use tokio::time::timeout;

pub use path::Visit;
pub use report::{document, is_healthy, line, summary};

use crate::broker::{self, Options, embedded};
use crate::config::{ConfigError, Ops, Settings};
use crate::finding::Finding;
use crate::store::{self, StoreUrl};

/// How long all that concerns the log may take. Each of its parts has a limit of its own, so that this is reached only
/// where many servers are silent.
const LOG_MAX: Duration = Duration::from_secs(60);

/// Looks at everything in turn and tells each finding as it comes. Without the options of a `log`, the embedded Redis
/// does not run, or it is told why there are none; without a `visit`, nobody goes through the proxy.
pub async fn examine(
    settings: &Settings,
    log: anyhow::Result<Option<Options>>,
    store: StoreUrl,
    visit: Option<Visit>,
    mut tell: impl FnMut(Finding),
) {
    let mut all = |findings: Vec<Finding>| findings.into_iter().for_each(&mut tell);
    all(advice::examine(settings));
    all(host::examine(settings).await);
    let (findings, installation) = store::doctor::examine(&store).await;
    all(findings);
    all(match log {
        Err(why) => vec![Finding::failure("redis", format!("{why:#}"), "mend the file, or the setting that names it")],
        Ok(None) => vec![not_started().await],
        Ok(Some(options)) => match timeout(LOG_MAX, broker::doctor::examine(&options, installation)).await {
            Ok(findings) => findings,
            Err(_) => vec![Finding::failure(
                "redis",
                format!("not all answered within {LOG_MAX:?}"),
                "see which servers of PUBSUB_SERVER_HOST answer: redis-cli -h … PING",
            )],
        },
    });
    if let Some(visit) = visit {
        all(visit.examine(settings).await);
    }
}

/// Whether the node of these settings is ready, as its listener for operators says.
///
/// # Errors
/// It is not, or does not answer; says what is amiss.
pub async fn ready(settings: &Settings) -> anyhow::Result<()> {
    let Ops { host, port } = &settings.ops;
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let answer = client::Client::new(&format!("http://{host}:{port}"))?.ask("GET", "/readyz", &[], None).await?;
    ensure!(answer.status.is_success(), "the node is not ready: {}", String::from_utf8_lossy(&answer.body));
    Ok(())
}

/// What is wrong with settings that cannot be, each a failure.
pub fn unreadable(error: &ConfigError) -> Vec<Finding> {
    let remedy = "mend it; burble check-config looks at the settings alone";
    error.problems.iter().map(|problem| Finding::failure("settings", problem, remedy)).collect()
}

async fn not_started() -> Finding {
    const CHECK: &str = "embedded redis";
    match embedded::installed().await {
        Ok((program, version)) if is_fit(&version) => Finding::note(
            CHECK,
            format!("it does not run; {} of version {version} would be started", program.display()),
            "start Burble, and look again",
        ),
        Ok((program, version)) => Finding::failure(
            CHECK,
            format!("{} is of version {version}, which is too old", program.display()),
            "install Redis 7.0 or later, or Valkey; or name a Redis in PUBSUB_SERVER_HOST",
        ),
        Err(error) => {
            Finding::failure(CHECK, format!("{error:#}"), "apt-get install redis-server, or brew install redis")
        }
    }
}

/// Redis 7.0, and any Valkey, whose first version was 7.2.
fn is_fit(version: &str) -> bool {
    version.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 7)
}

#[cfg(test)]
mod tests {
    use super::is_fit;

    #[test]
    fn seven_and_what_came_after_it_is_fit() {
        for (version, fit) in [("7.0.15", true), ("10.0.0", true), ("6.2.14", false), ("of unknown version", false)] {
            assert_eq!(is_fit(version), fit, "{version}");
        }
    }
}
