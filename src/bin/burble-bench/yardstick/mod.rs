//! The yardstick: a bare server with the same sockets, the same frames, and nothing else. It parses no JSON,
//! checks no token, keeps no log. What it reaches is what the machine and the load tool allow.

mod connection;
mod frames;
mod process;
mod rooms;

use std::io::Read;
use std::sync::Arc;

use anyhow::Result;
use tokio::net::{TcpListener, TcpSocket};
use tokio_util::task::TaskTracker;

use crate::cli::Mode;
use rooms::Rooms;

pub(crate) use process::Yardstick;

/// Connections that may wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 4096;

/// Serves on a free port of 127.0.0.1, says which one on standard output, and stops when standard input ends.
pub(crate) async fn serve(mode: Mode) -> Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.bind("127.0.0.1:0".parse()?)?;
    let listener = socket.listen(BACKLOG)?;
    println!("{}", listener.local_addr()?);
    let connections = TaskTracker::new();
    let input_ended = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
    tokio::select! {
        never = accept(&listener, mode, &connections) => never,
        _ = input_ended => Ok(()),
    }
}

async fn accept(listener: &TcpListener, mode: Mode, connections: &TaskTracker) -> Result<()> {
    let rooms = Arc::new(Rooms::default());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // A connection that breaks is the load tool's to notice and to report.
        connections.spawn(connection::serve(stream, rooms.clone(), mode));
    }
}
