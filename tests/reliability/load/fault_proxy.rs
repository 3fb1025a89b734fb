//! A TCP proxy that breaks connections on purpose, in the ways in which networks do. It knows nothing of what it carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What is taken from one side before the other has it. More only hides a stalled reader.
const BUFFER_BYTES: usize = 16 * 1024;
/// Connections at a time; a further one waits to be accepted.
const CONNECTIONS_MAX: usize = 4_096;
/// How long a port that was given up may be held by another before taking it back is tried again.
const REBIND_EVERY: Duration = Duration::from_millis(10);

/// What becomes of the bytes of one direction.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Flow {
    Pass,
    /// Nothing more is taken; both sides stay open, and what was sent comes later.
    Stall,
    /// All is taken and none comes out, not even the end: half open. A connection from which something was swallowed stays
    /// so, for no network gives a stream with a hole; new ones are as ordered.
    Blackhole,
    /// One byte at a time, with this pause after each.
    Trickle(Duration),
}

/// What all connections obey from now on.
#[derive(Clone, Copy, Debug)]
struct Orders {
    to_server: Flow,
    to_client: Flow,
    refuse: bool,
    /// Connections older than the latest of these end so.
    resets: u64,
    cuts: u64,
}

enum Way {
    ToServer,
    ToClient,
}

impl Orders {
    fn flow(&self, way: &Way) -> Flow {
        match way {
            Way::ToServer => self.to_server,
            Way::ToClient => self.to_client,
        }
    }
}

/// Stands before one address and passes everything on, until told otherwise. Dropped, it cuts all connections.
pub(crate) struct FaultProxy {
    /// Where it listens, for as long as it lives.
    pub(crate) address: SocketAddr,
    orders: watch::Sender<Orders>,
    _task: JoinSet<()>,
}

impl FaultProxy {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let quiet = Orders { to_server: Flow::Pass, to_client: Flow::Pass, refuse: false, resets: 0, cuts: 0 };
        let (orders, obeyed) = watch::channel(quiet);
        let mut task = JoinSet::new();
        task.spawn(accept(listener, address, target, obeyed));
        Self { address, orders, _task: task }
    }

    /// From the client to the server.
    pub(crate) fn to_server(&self, flow: Flow) {
        self.orders.send_modify(|orders| orders.to_server = flow);
    }

    /// From the server to the client.
    pub(crate) fn to_client(&self, flow: Flow) {
        self.orders.send_modify(|orders| orders.to_client = flow);
    }

    /// Both directions.
    pub(crate) fn both(&self, flow: Flow) {
        self.orders.send_modify(|orders| (orders.to_server, orders.to_client) = (flow, flow));
    }

    /// Whether new connections are refused; those that are open go on.
    pub(crate) fn refuse(&self, refuse: bool) {
        self.orders.send_modify(|orders| orders.refuse = refuse);
    }

    /// Ends all open connections with an RST, to both sides.
    pub(crate) fn reset(&self) {
        self.orders.send_modify(|orders| orders.resets += 1);
    }

    /// Closes all open connections, to both sides.
    pub(crate) fn cut(&self) {
        self.orders.send_modify(|orders| orders.cuts += 1);
    }
}

async fn accept(mut listener: TcpListener, address: SocketAddr, target: SocketAddr, obeyed: watch::Receiver<Orders>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    let mut orders = obeyed.clone();
    loop {
        if orders.borrow_and_update().refuse {
            drop(listener);
            if orders.wait_for(|orders| !orders.refuse).await.is_err() {
                return;
            }
            listener = bind_again(address).await;
        }
        while connections.try_join_next().is_some() {}
        let permit = Arc::clone(&permits).acquire_owned().await.expect("it is never closed");
        tokio::select! {
            changed = orders.changed() => if changed.is_err() { return },
            accepted = listener.accept() => if let Ok((client, _)) = accepted {
                let obeyed = obeyed.clone();
                connections.spawn(async move {
                    carry(client, target, obeyed).await;
                    drop(permit);
                });
            },
        }
    }
}

/// The port is its own to everyone who knows the proxy.
async fn bind_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(_) => sleep(REBIND_EVERY).await,
        }
    }
}

/// One connection, until one side ends it or an order does.
async fn carry(mut client: TcpStream, target: SocketAddr, mut orders: watch::Receiver<Orders>) {
    let born = *orders.borrow_and_update();
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    if client.set_nodelay(true).and(server.set_nodelay(true)).is_err() {
        return;
    }
    let reset = {
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let there = pump(from_client, to_server, Way::ToServer, orders.clone());
        let back = pump(from_server, to_client, Way::ToClient, orders.clone());
        let ended = orders.wait_for(|orders| orders.resets > born.resets || orders.cuts > born.cuts);
        tokio::select! {
            done = async { tokio::try_join!(there, back) } => done.is_err(),
            ended = ended => ended.is_ok_and(|orders| orders.resets > born.resets),
        }
    };
    if reset {
        // A side that broke is passed on as a break. A socket that is gone needs no RST.
        let _ = client.set_zero_linger();
        let _ = server.set_zero_linger();
    }
}

/// One direction, until its end was passed on.
async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    way: Way,
    mut orders: watch::Receiver<Orders>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut begin, mut end, mut over, mut swallowed) = (0, 0, false, false);
    loop {
        let ordered = orders.borrow_and_update().flow(&way);
        let flow = if swallowed { Flow::Blackhole } else { ordered };
        match flow {
            Flow::Stall => changed(&mut orders).await?,
            Flow::Blackhole if over => changed(&mut orders).await?,
            _ if over && begin == end => return to.shutdown().await,
            _ if begin == end => {
                tokio::select! {
                    changed = changed(&mut orders) => changed?,
                    read = from.read(&mut buffer) => {
                        (begin, end) = (0, read?);
                        over = end == 0;
                    }
                }
            }
            Flow::Blackhole => (begin, swallowed) = (end, true),
            Flow::Pass => {
                to.write_all(&buffer[begin..end]).await?;
                begin = end;
            }
            Flow::Trickle(pause) => {
                to.write_all(&buffer[begin..=begin]).await?;
                begin += 1;
                let _ = timeout(pause, changed(&mut orders)).await;
            }
        }
    }
}

/// An error once the proxy is gone.
async fn changed(orders: &mut watch::Receiver<Orders>) -> std::io::Result<()> {
    orders.changed().await.map_err(|_| std::io::ErrorKind::ConnectionAborted.into())
}

#[cfg(test)]
mod tests;
