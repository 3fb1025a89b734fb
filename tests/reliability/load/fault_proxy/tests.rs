//! Each fault, before a server that sends back what it gets.

use std::io::ErrorKind;
use std::time::Instant;

use super::*;

/// No step takes longer, or it has failed.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nothing is waited for. What a fault holds back, loopback would have brought a thousand times over.
const QUIET: Duration = Duration::from_millis(200);

/// An echo server, the proxy before it, and a connection through both that works.
async fn connected() -> (JoinSet<()>, FaultProxy, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let proxy = FaultProxy::start(listener.local_addr().expect("it is bound")).await;
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let (mut from, mut to) = stream.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    });
    let mut client = TcpStream::connect(proxy.address).await.expect("it listens");
    say(&mut client, b"hello").await;
    hear(&mut client, b"hello").await;
    (server, proxy, client)
}

async fn say(client: &mut TcpStream, bytes: &[u8]) {
    client.write_all(bytes).await.expect("it is open");
}

async fn hear(client: &mut TcpStream, bytes: &[u8]) {
    let mut heard = vec![0; bytes.len()];
    let read = timeout(PATIENCE, client.read_exact(&mut heard)).await.expect("in time");
    read.expect("it is open");
    assert_eq!(heard, bytes);
}

async fn hear_nothing(client: &mut TcpStream) {
    let read = timeout(QUIET, client.read(&mut [0; 1])).await;
    assert!(read.is_err(), "neither a byte nor an end: {read:?}");
}

async fn end(client: &mut TcpStream) -> std::io::Result<usize> {
    timeout(PATIENCE, client.read(&mut [0; 1])).await.expect("it ends")
}

#[tokio::test]
async fn what_is_stalled_comes_later() {
    let (_server, proxy, mut client) = connected().await;
    for stall in [FaultProxy::to_server, FaultProxy::to_client, FaultProxy::both] {
        stall(&proxy, Flow::Stall);
        say(&mut client, b"late").await;
        hear_nothing(&mut client).await;
        proxy.both(Flow::Pass);
        hear(&mut client, b"late").await;
    }
}

#[tokio::test]
async fn a_stalled_proxy_takes_no_more_than_fits_on_the_way() {
    let (_server, proxy, mut client) = connected().await;
    proxy.to_server(Flow::Stall);
    let flood = async { while client.write_all(&[0; BUFFER_BYTES]).await.is_ok() {} };
    assert!(timeout(QUIET * 5, flood).await.is_err(), "the writer is held up, not cut off");
}

#[tokio::test]
async fn a_black_hole_swallows_even_the_end_in_its_direction_alone() {
    let (_server, proxy, mut client) = connected().await;
    proxy.to_server(Flow::Blackhole);
    say(&mut client, b"gone").await;
    hear_nothing(&mut client).await;
    proxy.to_server(Flow::Pass);
    say(&mut client, b"a stream has no hole").await;
    hear_nothing(&mut client).await;
    let mut client = TcpStream::connect(proxy.address).await.expect("it listens");
    say(&mut client, b"another").await;
    hear(&mut client, b"another").await;
    proxy.to_client(Flow::Blackhole);
    client.shutdown().await.expect("half of it closes");
    hear_nothing(&mut client).await;
    proxy.to_client(Flow::Pass);
    assert_eq!(end(&mut client).await.expect("a plain end"), 0, "nothing was swallowed");
}

#[tokio::test]
async fn a_trickle_is_slow_and_complete() {
    let (_server, proxy, mut client) = connected().await;
    proxy.to_client(Flow::Trickle(Duration::from_millis(5)));
    let began = Instant::now();
    say(&mut client, b"0123456789").await;
    let mut first = [0; 10];
    assert_eq!(timeout(PATIENCE, client.read(&mut first)).await.expect("in time").expect("it is open"), 1);
    hear(&mut client, b"123456789").await;
    assert!(began.elapsed() >= Duration::from_millis(45), "nine pauses of 5 ms");
    proxy.to_client(Flow::Trickle(PATIENCE));
    say(&mut client, b"0123456789").await;
    hear(&mut client, b"0").await;
    proxy.both(Flow::Pass);
    hear(&mut client, b"123456789").await;
}

#[tokio::test]
async fn open_connections_are_reset_or_closed_and_new_ones_work() {
    let (_server, proxy, mut client) = connected().await;
    proxy.both(Flow::Stall);
    proxy.reset();
    assert_eq!(end(&mut client).await.expect_err("an RST").kind(), ErrorKind::ConnectionReset);
    proxy.both(Flow::Pass);
    let mut client = TcpStream::connect(proxy.address).await.expect("it listens");
    say(&mut client, b"again").await;
    hear(&mut client, b"again").await;
    proxy.cut();
    assert_eq!(end(&mut client).await.expect("a plain end"), 0);
    let mut client = TcpStream::connect(proxy.address).await.expect("it listens");
    say(&mut client, b"again").await;
    hear(&mut client, b"again").await;
}

#[tokio::test]
async fn new_connections_are_refused_while_old_ones_go_on() {
    let (_server, proxy, mut client) = connected().await;
    proxy.refuse(true);
    let refused = async { while TcpStream::connect(proxy.address).await.is_ok() {} };
    timeout(PATIENCE, refused).await.expect("the port is given up");
    say(&mut client, b"still here").await;
    hear(&mut client, b"still here").await;
    proxy.refuse(false);
    let accepted = async { while TcpStream::connect(proxy.address).await.is_err() {} };
    timeout(PATIENCE, accepted).await.expect("the port is taken back");
}

#[tokio::test]
async fn an_end_is_passed_on() {
    let (_server, _proxy, mut client) = connected().await;
    say(&mut client, b"last").await;
    client.shutdown().await.expect("half of it closes");
    hear(&mut client, b"last").await;
    assert_eq!(end(&mut client).await.expect("a plain end"), 0);
}
