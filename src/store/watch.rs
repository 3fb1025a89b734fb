//! Looks at the database from time to time, so that it shows in the metrics before it shows in the answers.

use std::time::Duration;

use sea_orm::DatabaseConnection;
use tokio::time::{Instant, sleep};

use super::{Store, StoreKind};
use crate::metrics::Metrics;

/// As often as an entry goes through each feed: both make a node ready.
const INTERVAL: Duration = Duration::from_secs(5);

impl Store {
    /// Records whether the database answers, how fast, and how many connections are busy; until it is dropped.
    pub async fn watch(self, metrics: Metrics) {
        loop {
            let (busy, idle) = self.connections();
            metrics.database_connections.with(["busy"]).set(f64::from(busy));
            metrics.database_connections.with(["idle"]).set(f64::from(idle));
            let began = Instant::now();
            let answered = self.ping().await.is_ok();
            metrics.database_ping_seconds.record(began.elapsed());
            metrics.database_up.set(f64::from(u8::from(answered)));
            sleep(INTERVAL).await;
        }
    }

    /// How many connections are in use, and how many are not.
    fn connections(&self) -> (u32, u32) {
        let pools: &[&DatabaseConnection] = match self.kind() {
            StoreKind::Sqlite => &[self.read(), self.write()],
            StoreKind::Postgres => &[self.read()],
        };
        let counts = pools.iter().map(|pool| match self.kind() {
            StoreKind::Sqlite => {
                let pool = pool.get_sqlite_connection_pool();
                (pool.size(), pool.num_idle())
            }
            StoreKind::Postgres => {
                let pool = pool.get_postgres_connection_pool();
                (pool.size(), pool.num_idle())
            }
        });
        counts.fold((0, 0), |(busy, idle), (size, free)| {
            let free = u32::try_from(free).unwrap_or(size).min(size);
            (busy + size - free, idle + free)
        })
    }
}
