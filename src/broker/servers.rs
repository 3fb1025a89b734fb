//! Which Redis server holds what: the one that there is, the primary that Sentinels name, or the primary of a slot.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisConnectionInfo,
    RedisError, RedisResult, Value,
};
use tokio::time::timeout;

use super::tls::Tls;
use super::{Options, link, value};
use crate::config::Secret;

/// The connections to each server for what nobody waits for in bulk: checks, heartbeats, cleaning up, asking the way.
const POOL_SIZE: usize = 4;
/// The servers whose connections are kept; servers come and go, so beyond it all are let go of and made anew.
const POOLS_MAX: usize = 64;
/// How long others may take after the first has named the primary: the one that knows best may be slower.
const SECOND_OPINION: Duration = Duration::from_millis(200);

/// Where Redis is.
#[derive(Clone, Debug)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// One server: host and port.
    Single((String, u16)),
    /// Servers behind Sentinels.
    Sentinel {
        /// Each Sentinel's host and port.
        sentinels: Vec<(String, u16)>,
        /// Their password, where they have one.
        password: Option<Secret>,
        /// What the Sentinels call the primary.
        name: String,
    },
    /// Some nodes of a Cluster; the others are learnt from them.
    Cluster(Vec<(String, u16)>),
}

impl Address {
    /// Whether each slot may be on another server, so that no command may touch two.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Self::Cluster(_))
    }
}

/// One server.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Place {
    Unix(PathBuf),
    Tcp(String, u16),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Tcp(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

/// Finds servers and connects to them; clones share what was learnt.
#[derive(Clone)]
pub(super) struct Servers {
    shared: Arc<Shared>,
}

struct Shared {
    address: Address,
    password: Option<Secret>,
    /// Where it is not spoken to in the clear; Unix sockets always are.
    tls: Option<Tls>,
    patience: Duration,
    /// Nodes of the Cluster, the one that answered last in front.
    known: Mutex<Vec<Place>>,
    pools: Mutex<HashMap<Place, Pool>>,
}

impl Servers {
    /// Those of the options, each of which is to answer as fast as an append.
    pub(super) fn of(options: &Options) -> Self {
        let Options { address, password, tls, append_timeout, .. } = options;
        Self::new(address.clone(), password.clone(), tls.clone(), *append_timeout)
    }

    /// `patience` is how long an answer may take.
    fn new(address: Address, password: Option<Secret>, tls: Option<Tls>, patience: Duration) -> Self {
        let known = match &address {
            Address::Cluster(seeds) => seeds.iter().map(place).collect(),
            _ => Vec::new(),
        };
        let (known, pools) = (Mutex::new(known), Mutex::default());
        Self { shared: Arc::new(Shared { address, password, tls, patience, known, pools }) }
    }

    pub(super) fn address(&self) -> &Address {
        &self.shared.address
    }

    /// What to look at beside the network, where a server was reached and no connection came about.
    pub(super) fn remedy(&self, error: &RedisError) -> Option<&'static str> {
        match self.shared.tls {
            _ if error.is_connection_refusal() => None,
            // Who speaks no TLS may also just wait for what can be read.
            Some(_) if error.is_io_error() => Some(
                "with PUBSUB_TLS=on it has to speak TLS on this port, its certificate has to name it and be of an \
                 authority of PUBSUB_TLS_CA, and it may ask for PUBSUB_TLS_CERT",
            ),
            None if error.is_connection_dropped() => Some("if it speaks TLS alone, set PUBSUB_TLS=on"),
            _ => None,
        }
    }

    /// A new connection to the primary of a slot.
    pub(super) async fn connect(
        &self,
        slot: u16,
        config: &AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        let client = Client::open(self.info(&self.primary(slot).await?)?)?;
        let mut connection = client.get_multiplexed_async_connection_with_config(config).await?;
        if let Address::Sentinel { .. } = self.shared.address {
            // Sentinels name a server that was demoted a moment ago for a while yet.
            let role: Value = redis::cmd("ROLE").query_async(&mut connection).await?;
            if value::list(&role)?.first().map(value::text).transpose()? != Some("master") {
                return Err(failed("the server that the Sentinels name is not a primary yet"));
            }
        }
        Ok(connection)
    }

    /// A connection of the pool to the primary of a slot.
    pub(super) async fn pooled(&self, slot: u16) -> RedisResult<Connection> {
        self.of_pool(&self.primary(slot).await?).await
    }

    /// The primary of a slot, as of now.
    pub(super) async fn primary(&self, slot: u16) -> RedisResult<Place> {
        match &self.shared.address {
            Address::Unix(path) => Ok(Place::Unix(path.clone())),
            Address::Single(server) => Ok(place(server)),
            Address::Sentinel { sentinels, name, .. } => self.named_by_sentinels(sentinels, name).await,
            Address::Cluster(_) => self.of_slot(slot).await,
        }
    }

    /// Asks all and believes the one with the highest configuration epoch: one that was cut off names who was primary.
    async fn named_by_sentinels(&self, sentinels: &[(String, u16)], name: &str) -> RedisResult<Place> {
        let mut asked: FuturesUnordered<_> =
            sentinels.iter().map(|sentinel| self.named_by(place(sentinel), name)).collect();
        let (mut best, mut why) = (None, failed("no Sentinel is named"));
        while best.is_none() {
            match asked.next().await {
                Some(Ok(found)) => best = Some(found),
                Some(Err(error)) => why = error,
                None => return Err(why),
            }
        }
        let others = async {
            while let Some(answer) = asked.next().await {
                best = best.take().max(answer.ok());
            }
        };
        let _ = timeout(SECOND_OPINION, others).await;
        best.map(|(_, place)| place).ok_or(why)
    }

    /// With the configuration epoch, and the address that is told to clients: in the midst of a failover it is that of
    /// the new primary already.
    async fn named_by(&self, sentinel: Place, name: &str) -> RedisResult<(u64, Place)> {
        let mut connection = self.of_pool(&sentinel).await?;
        let mut ask = redis::pipe();
        ask.cmd("SENTINEL").arg("MASTER").arg(name).cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(name);
        let (state, (host, port)): (HashMap<String, String>, (String, u16)) = ask.query_async(&mut connection).await?;
        let epoch = state.get("config-epoch").and_then(|epoch| epoch.parse().ok());
        Ok((epoch.ok_or_else(|| value::unexpected("a primary"))?, Place::Tcp(host, port)))
    }

    /// Asks the nodes in turn. Each time begins with another, so that one that knows no better is not asked for ever.
    async fn of_slot(&self, slot: u16) -> RedisResult<Place> {
        let nodes = {
            let mut known = self.shared.known.lock().expect("nothing panics while it holds the nodes");
            known.rotate_left(1);
            known.clone()
        };
        let mut why = failed("no node of the Cluster is named");
        for node in nodes {
            match self.slots_known_to(&node).await {
                Ok(slots) => {
                    self.learn(&slots);
                    let found = slots.into_iter().find(|range| range.first <= slot && slot <= range.last);
                    match found.and_then(|range| range.nodes.into_iter().next()) {
                        Some(primary) => return Ok(primary),
                        None => why = failed("a slot of the Cluster has no primary"),
                    }
                }
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn slots_known_to(&self, node: &Place) -> RedisResult<Vec<Range>> {
        let mut connection = self.of_pool(node).await?;
        let slots: Value = redis::cmd("CLUSTER").arg("SLOTS").query_async(&mut connection).await?;
        value::list(&slots)?.iter().map(|range| Range::parse(range, node)).collect()
    }

    /// The nodes that were named in the settings stay known: behind their names there may be others by then.
    fn learn(&self, slots: &[Range]) {
        let Address::Cluster(seeds) = &self.shared.address else { return };
        let mut known = self.shared.known.lock().expect("nothing panics while it holds the nodes");
        let learnt = slots.iter().flat_map(|range| range.nodes.iter().cloned());
        let all: Vec<Place> = seeds.iter().map(place).chain(learnt).collect();
        known.retain(|node| all.contains(node));
        for node in all {
            if !known.contains(&node) {
                known.push(node);
            }
        }
    }

    /// A connection of the pool to one server.
    pub(super) async fn of_pool(&self, place: &Place) -> RedisResult<Connection> {
        let pool = {
            let mut pools = self.shared.pools.lock().expect("nothing panics while it holds the pools");
            if pools.len() > POOLS_MAX {
                pools.clear();
            }
            match pools.get(place) {
                Some(pool) => pool.clone(),
                None => {
                    let pool = self.pool(place)?;
                    pools.insert(place.clone(), pool.clone());
                    pool
                }
            }
        };
        pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => error,
            PoolError::Timeout(_) => RedisError::from(std::io::Error::from(std::io::ErrorKind::TimedOut)),
            _ => failed("the connections are closed"),
        })
    }

    fn pool(&self, place: &Place) -> RedisResult<Pool> {
        let patience = self.shared.patience;
        let manager = Manager::new_with_config(self.info(place)?, link::config(patience))?;
        let pool = Pool::builder(manager)
            .max_size(POOL_SIZE)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(patience))
            .create_timeout(Some(link::CONNECT_TIMEOUT))
            .recycle_timeout(Some(link::CONNECT_TIMEOUT))
            .build();
        pool.map_err(|_| failed("no connections can be kept"))
    }

    fn info(&self, place: &Place) -> RedisResult<ConnectionInfo> {
        let addr = match place {
            Place::Unix(path) => ConnectionAddr::Unix(path.clone()),
            Place::Tcp(host, port) => match &self.shared.tls {
                Some(tls) => tls.address(host, *port),
                None => ConnectionAddr::Tcp(host.clone(), *port),
            },
        };
        let password = match &self.shared.address {
            Address::Sentinel { sentinels, password, .. } if sentinels.iter().any(|it| self::place(it) == *place) => {
                password
            }
            _ => &self.shared.password,
        };
        let redis = RedisConnectionInfo::default();
        let redis = match password {
            Some(password) => redis.set_password(password.expose()),
            None => redis,
        };
        // The library leaves Nagle's algorithm on unless told otherwise.
        let tcp = TcpSettings::default().set_nodelay(true);
        Ok(addr.into_connection_info()?.set_redis_settings(redis).set_tcp_settings(tcp))
    }
}

/// A range of slots and the servers that have it, the primary first.
struct Range {
    first: u16,
    last: u16,
    nodes: Vec<Place>,
}

impl Range {
    /// Reads `[first, last, [host, port, …], …]`. A node that does not know its own address names none: it is where
    /// it was `asked`.
    fn parse(range: &Value, asked: &Place) -> RedisResult<Self> {
        let [first, last, nodes @ ..] = value::list(range)? else { return Err(value::unexpected("a range of slots")) };
        let node = |node: &Value| {
            let [host, port, ..] = value::list(node)? else { return Err(value::unexpected("a node")) };
            Ok(match (value::text(host)?, asked) {
                ("" | "?", Place::Tcp(host, _)) => Place::Tcp(host.clone(), value::number(port)?),
                (host, _) => Place::Tcp(host.to_owned(), value::number(port)?),
            })
        };
        let nodes = nodes.iter().map(node).collect::<RedisResult<_>>()?;
        Ok(Self { first: value::number(first)?, last: value::number(last)?, nodes })
    }
}

fn place((host, port): &(String, u16)) -> Place {
    Place::Tcp(host.clone(), *port)
}

fn failed(why: &'static str) -> RedisError {
    RedisError::from((ErrorKind::Client, why))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(host: &str, port: i64) -> Value {
        Value::Array(vec![Value::BulkString(host.into()), Value::Int(port), Value::BulkString("id".into())])
    }

    #[test]
    fn a_node_without_an_address_is_where_it_was_asked() {
        let range = Value::Array(vec![Value::Int(0), Value::Int(99), node("", 7001), node("ten", 7002)]);
        let range = Range::parse(&range, &Place::Tcp("asked".into(), 7000)).unwrap();
        assert_eq!((range.first, range.last), (0, 99));
        assert_eq!(range.nodes, [Place::Tcp("asked".into(), 7001), Place::Tcp("ten".into(), 7002)]);
    }

    #[test]
    fn nodes_that_left_the_cluster_are_forgotten_and_those_of_the_settings_are_not() {
        let seed = ("seed".to_owned(), 1);
        let servers = Servers::new(Address::Cluster(vec![seed]), None, None, Duration::from_secs(1));
        let range = |host: &str| Range { first: 0, last: 1, nodes: vec![Place::Tcp(host.into(), 1)] };
        servers.learn(&[range("a"), range("b")]);
        servers.learn(&[range("b"), range("c")]);
        let known = servers.shared.known.lock().unwrap();
        assert_eq!(*known, ["seed", "b", "c"].map(|host| Place::Tcp(host.into(), 1)));
    }
}
