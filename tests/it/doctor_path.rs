//! The doctor on the way through a reverse proxy: it finds nothing where all is well, and what is wrong where one thing is.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use crate::support::diagnosis::{DOCTOR, Diagnosis, FEW};
use crate::support::proxy::{Site, programs};
use crate::support::user::PASSWORD;
use crate::support::{Request, TestServer, eventually};

/// An nginx in front of a node; it ends with the test.
struct Nginx {
    url: String,
    _folder: TempDir,
    _child: Child,
}

impl Nginx {
    /// With these lines in its one location.
    async fn start(server: &TestServer, location: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("burble-nginx").tempdir().expect("a temporary folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log error.log;\n\
             events {{}}\n\
             http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;\n\
             uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             server {{ listen {free}; location / {{ proxy_pass http://{}; {location} }} }} }}\n",
            server.address
        );
        fs::write(folder.path().join("nginx.conf"), configuration).expect("the folder is ours");
        let mut nginx = Command::new("nginx");
        nginx.arg("-p").arg(folder.path()).args(["-c", "nginx.conf", "-e", "error.log"]);
        nginx.env("PATH", concat!(env!("PATH"), ":/usr/sbin")).stdin(Stdio::null()).stderr(Stdio::null());
        let child = nginx.kill_on_drop(true).spawn().expect("these tests need nginx: apt-get install nginx");
        eventually("nginx listens", async || Request::new("GET", "/").elsewhere().try_send(free).await.ok()).await;
        Self { url: format!("http://{free}"), _folder: folder, _child: child }
    }
}

/// A Caddy in front of a node, with these lines for its one way; it ends with the test.
struct Caddy {
    url: String,
    _folder: TempDir,
    _child: Child,
}

impl Caddy {
    async fn start(server: &TestServer, way: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("burble-caddy").tempdir().expect("a temporary folder");
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let configuration =
            format!("{{\n admin off\n}}\nhttp://{free} {{\n reverse_proxy {} {{\n {way}\n }}\n}}\n", server.address);
        fs::write(folder.path().join("Caddyfile"), configuration).expect("the folder is ours");
        let mut caddy = Command::new(format!("{}/caddy", programs()));
        caddy.args(["run", "--adapter", "caddyfile", "--config", "Caddyfile"]).current_dir(folder.path());
        caddy.env("HOME", folder.path()).stdin(Stdio::null()).stderr(Stdio::null());
        let child = caddy.kill_on_drop(true).spawn().expect("it is installed");
        eventually("Caddy listens", async || Request::new("GET", "/").elsewhere().try_send(free).await.ok()).await;
        Self { url: format!("http://{free}"), _folder: folder, _child: child }
    }
}

const RIGHT: &str = "proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_buffering off;\
    proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;";

async fn through(nginx: &Nginx, server: &TestServer) -> Diagnosis {
    by(&nginx.url, server).await
}

async fn by(url: &str, server: &TestServer) -> Diagnosis {
    Diagnosis::of(&server.run_beside(&["doctor", "--json", "--url", url], &[FEW]).await)
}

#[tokio::test]
async fn the_way_through_every_proxy_of_deploy_is_healthy() {
    let site = Site::start(&[]).await;
    let authority = site.certificates.path().join("authority.pem");
    let env = [FEW, ("SSL_CERT_FILE", authority.to_str().expect("a plain path"))];
    for proxy in &site.proxies {
        println!("{}", proxy.kind.name);
        let url = format!("https://{}", proxy.address);
        let found = Diagnosis::of(&site.one.run_beside(&["doctor", "--json", "--url", &url], &env).await);
        found.only("warning redis persistence", &[]);
    }
}

#[tokio::test]
async fn a_proxy_that_buffers_answers_is_found_out() {
    let server = TestServer::embedded().await;
    by(&Caddy::start(&server, "").await.url, &server).await.healthy();
    let found = by(&Caddy::start(&server, "response_buffers 1MiB").await.url, &server).await;
    found.only("failure proxy upgrade", &["no answer in time", "no response_buffers"]);
}

/// Longer than the doctor lets a frame take there and back.
const HELD: Duration = Duration::from_millis(300);

/// Passes everything on, and what the server says on a socket only after a while, as gateways do that read the traffic. No
/// reverse proxy was found that does so to a socket once it is open.
async fn gateway(to: SocketAddr) -> (String, JoinSet<()>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let mut task = JoinSet::new();
    task.spawn(async move {
        let mut visits = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            let server = TcpStream::connect(to).await.expect("the node listens");
            visits.spawn(async move {
                let ((mut client_says, client), (server_says, mut server)) = (client.into_split(), server.into_split());
                let _ = tokio::join!(tokio::io::copy(&mut client_says, &mut server), hold_back(server_says, client));
            });
        }
    });
    (url, task)
}

async fn hold_back(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> std::io::Result<()> {
    let (mut buffer, mut is_socket) = (vec![0; 4_096], false);
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        if is_socket {
            tokio::time::sleep(HELD).await;
        }
        is_socket |= buffer.starts_with(b"HTTP/1.1 101 ");
        to.write_all(&buffer[..count]).await?;
    }
}

#[tokio::test]
async fn a_gateway_that_holds_frames_back_is_found_out() {
    let server = TestServer::embedded().await;
    let (url, _gateway) = gateway(server.address).await;
    by(&url, &server).await.only("warning proxy frames", &["held back", "nothing on the way buffer"]);
}

#[tokio::test]
async fn a_proxy_that_passes_everything_on_is_healthy() {
    let server = TestServer::embedded().await;
    through(&Nginx::start(&server, RIGHT).await, &server).await.healthy();
}

#[tokio::test]
async fn a_proxy_without_the_upgrade_or_the_host_is_found_out() {
    let server = TestServer::embedded().await;
    let found = through(&Nginx::start(&server, "proxy_set_header Host $http_host;").await, &server).await;
    found.says("failure proxy upgrade", &["400", "proxy_set_header Upgrade $http_upgrade"]);
    let foreign_host = RIGHT.replace("$http_host", "other.example");
    let found = through(&Nginx::start(&server, &foreign_host).await, &server).await;
    found.only("failure proxy own origin", &["proxy_set_header Host $http_host", "SERVER_ORIGINS=http://127.0.0.1"]);
    let deaf = format!("{RIGHT} proxy_set_header Origin '';");
    let found = through(&Nginx::start(&server, &deaf).await, &server).await;
    found.only("failure proxy foreign origin", &["let in", "Origin"]);
}

/// The proxy comes from another address than the clients, as it does anywhere but in a test.
const APART: &str = "proxy_bind 127.0.0.2;";
const FORWARDED: &str = "proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;";

#[tokio::test]
async fn an_address_that_can_be_forged_or_is_that_of_the_proxy_is_found_out() {
    let trusting = TestServer::with(&[("SERVER_TRUSTED_PROXIES", "127.0.0.2"), FEW]).await;
    let rest = "warning redis persistence";
    let right = through(&Nginx::start(&trusting, &format!("{RIGHT}{APART}{FORWARDED}")).await, &trusting).await;
    right.only(rest, &[]);
    let silent = through(&Nginx::start(&trusting, &format!("{RIGHT}{APART}")).await, &trusting).await;
    silent.says("failure proxy address", &["127.0.0.2 became 198.51.100.77", "$proxy_add_x_forwarded_for"]);
    let server = TestServer::with(&[FEW]).await;
    let same = through(&Nginx::start(&server, &format!("{RIGHT}{APART}{FORWARDED}")).await, &server).await;
    same.says("warning proxy address", &["seen as 127.0.0.2", "SERVER_TRUSTED_PROXIES=127.0.0.2"]);
}

#[tokio::test]
async fn a_proxy_that_exposes_the_operators_is_found_out() {
    let server = TestServer::embedded().await;
    let nginx =
        Nginx::start(&server, &format!("{RIGHT} if ($uri = /metrics) {{ proxy_pass http://{}; }}", server.ops)).await;
    through(&nginx, &server).await.only("failure proxy operators", &["/metrics", "OPS_PORT"]);
}

#[tokio::test]
async fn an_idle_session_outlives_a_patient_proxy_and_not_an_impatient_one() {
    let server = TestServer::embedded().await;
    server.user("ann").await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("password");
    fs::write(&file, format!("{PASSWORD}\n")).expect("the folder is ours");
    let stay = async |nginx: &Nginx| {
        let file = file.to_str().expect("a plain path");
        let arguments = ["--url", &nginx.url, "--idle", "3", "--user", "ann", "--password-file", file];
        Diagnosis::of(&server.run_beside(&[&DOCTOR[..], &arguments].concat(), &[FEW]).await)
    };
    stay(&Nginx::start(&server, RIGHT).await).await.healthy();
    let impatient = format!("{RIGHT} proxy_read_timeout 1s;");
    stay(&Nginx::start(&server, &impatient).await)
        .await
        .only("failure proxy idle", &["cut off after", "due every 25s", "proxy_read_timeout"]);
}
