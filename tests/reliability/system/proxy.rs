//! HAProxy in front of the nodes, as `docs/operations.md` advises; its checks are quicker, so that a run has many faults.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::node::Node;
use super::redis::until;
use crate::support::keeper::Keeper;
use crate::support::ports::fixed_port;

/// Everything but who listens and who serves. Only a connection that was refused is tried elsewhere: whether a request
/// that was sent may be repeated is for the client to say.
const CONFIG: &str = "\
global
  maxconn 4000
  stats socket 127.0.0.1:{admin} level admin
defaults
  mode http
  balance leastconn
  timeout connect 1s
  timeout client 75s
  timeout server 75s
  timeout tunnel 75s
  timeout client-fin 5s
  timeout http-request 10s
  timeout check 1s
  retries 3
  retry-on conn-failure
  option redispatch 1
  option httpchk GET /readyz
  http-check expect status 200
listen burble
  bind 127.0.0.1:{public}
  http-request del-header X-Forwarded-For
  http-request del-header X-Real-IP
  http-request del-header Forwarded
  option forwardfor
  default-server check inter 250ms fastinter 100ms downinter 250ms fall 2 rise 2
";

/// A running reverse proxy. It ends with the process.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    admin: SocketAddr,
    _keeper: Keeper,
}

impl Proxy {
    /// Starts it and waits until it serves from all nodes.
    pub(crate) async fn start(nodes: &[Node], folder: &Path) -> Result<Self> {
        let [address, admin] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], fixed_port())));
        let config = CONFIG.replace("{admin}", &admin.port().to_string());
        let mut config = config.replace("{public}", &address.port().to_string());
        for node in nodes {
            writeln!(config, "  server {} {} port {}", node.name, node.address, node.ops.port())?;
        }
        let (file, log) = (folder.join("haproxy.cfg"), folder.join("haproxy.log"));
        std::fs::write(&file, config)?;
        let keeper = Keeper::start(&["haproxy", "-db", "-f", file.to_str().context("a plain path")?], &log, None);
        let proxy = Self { address, admin, _keeper: keeper };
        proxy.until_serving(nodes.len()).await.with_context(|| format!("see {}", log.display()))?;
        Ok(proxy)
    }

    /// Waits until it finds so many nodes ready.
    pub(crate) async fn until_serving(&self, count: usize) -> Result<()> {
        let look = async || self.serving().await.ok().filter(|serving| serving.len() == count).map(drop);
        until(&format!("haproxy serves from {count} nodes"), look).await
    }

    /// Waits until it sends nobody to this node any more.
    pub(crate) async fn until_without(&self, node: &str) -> Result<()> {
        let look = async || self.serving().await.ok().filter(|serving| serving.iter().all(|one| one != node)).map(drop);
        until(&format!("haproxy serves without {node}"), look).await
    }

    /// The nodes that it finds ready.
    pub(crate) async fn serving(&self) -> Result<Vec<String>> {
        let mut admin = TcpStream::connect(self.admin).await?;
        admin.write_all(b"show servers state burble\n").await?;
        let mut states = String::new();
        admin.read_to_string(&mut states).await?;
        // be_id be_name srv_id srv_name srv_addr srv_op_state …, below a version and a line of names.
        let fields = states.lines().skip(2).map(|line| line.split(' ').collect::<Vec<_>>());
        let servers: Vec<_> = fields.filter(|fields| fields.len() > 5).collect();
        ensure!(!servers.is_empty(), "haproxy knows no servers: {states}");
        Ok(servers.iter().filter(|fields| fields[5] == "2").map(|fields| fields[3].to_owned()).collect())
    }
}
