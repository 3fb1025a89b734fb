//! Reverse proxies, each with the very files of deploy/, before two nodes.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::keeper::Keeper;
use super::ports::fixed_port;
use super::redis::Redis;
use super::tls::{Authority, Door, HOST};
use super::{Request, TestServer, TestUser, eventually};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy");
/// Tells where Caddy and Traefik are.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/proxies-bin.sh");
/// The nodes are on machines of their own, as far as anybody can see: same ports, other addresses.
const NODES: [&str; 2] = ["127.0.0.11", "127.0.0.12"];
/// How many sockets an address has here, and how many handshakes at once: fewer than in the files, to be counted quickly.
pub(crate) const SOCKETS: usize = 8;
pub(crate) const HANDSHAKES: usize = 40;
/// As in the files.
pub(crate) const SIGN_INS: usize = 20;

/// What differs in all of their files.
const EVERYWHERE: [(&str, &str); 3] = [
    ("10.0.0.11:8080", "127.0.0.11:{port}"),
    ("10.0.0.12:8080", "127.0.0.12:{port}"),
    ("/etc/ssl/burble/", "{folder}/"),
];

/// How a proxy takes new files without a restart.
enum Reload {
    Signal(&'static str),
    Command(&'static str),
    /// It looks at this file by itself.
    Write(&'static str),
}

/// One of the programs, and its files.
pub(crate) struct Kind {
    pub(crate) name: &'static str,
    /// Below deploy/.
    pub(crate) files: &'static [&'static str],
    /// What differs here, and what it becomes: ports, addresses, folders, who it runs as, what a small machine bears, and what
    /// is counted.
    swaps: &'static [(&'static str, &'static str)],
    program: &'static str,
    reload: Reload,
    /// What says how long a socket may be silent, with the seconds behind it; none where it may for ever.
    pub(crate) patience: &'static [&'static str],
    /// Whether it limits what an address may do; else Burble alone does.
    pub(crate) has_limits: bool,
    /// Whether it asks the nodes how they are.
    pub(crate) has_checks: bool,
}

pub(crate) const KINDS: [Kind; 4] = [
    Kind {
        name: "nginx",
        files: &["nginx.conf"],
        swaps: &[
            ("listen 80;", "listen {plain};"),
            ("listen [::]:80;", ""),
            ("listen 443 ssl;", "listen {tls} ssl;"),
            ("listen [::]:443 ssl;", ""),
            ("chat.example.org", "{here}"),
            ("/var/log/nginx/", "{folder}/"),
            (
                "http {",
                "http {\n client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;",
            ),
            ("user www-data;", "daemon off; pid nginx.pid;"),
            ("worker_rlimit_nofile 65536;", ""),
            ("worker_connections 32768;", "worker_connections 1024;"),
            ("limit_conn sockets 1000;", "limit_conn sockets {sockets};"),
            ("rate=20r/s", "rate=1r/s"),
            ("burst=200 ", "burst={handshakes} "),
        ],
        program: "nginx -p {folder} -e error.log -c nginx.conf",
        reload: Reload::Signal("HUP"),
        patience: &["proxy_read_timeout ", "proxy_send_timeout ", "send_timeout "],
        has_limits: true,
        has_checks: false,
    },
    Kind {
        name: "haproxy",
        files: &["haproxy.cfg"],
        swaps: &[
            ("bind :80,:::80 v6only", "bind {plain}"),
            ("bind :443,:::443 v6only", "bind {tls}"),
            ("9100", "{ops}"),
            ("/run/haproxy/", "{folder}/"),
            ("user haproxy", ""),
            ("group haproxy", ""),
            ("maxconn 30000", "maxconn 400"),
            ("gt 1000", "gt {sockets}"),
            ("gt 200", "gt {handshakes}"),
        ],
        program: "haproxy -W -f {folder}/haproxy.cfg",
        reload: Reload::Signal("USR2"),
        patience: &["timeout tunnel "],
        has_limits: true,
        has_checks: true,
    },
    Kind {
        name: "caddy",
        files: &["Caddyfile"],
        swaps: &[
            (
                "\tservers {",
                "\thttp_port {plain_port}\n\thttps_port {tls_port}\n\tdefault_bind {here}\n\tadmin {admin}\n\tservers {",
            ),
            ("chat.example.org", "{here}"),
            ("9100", "{ops}"),
        ],
        program: "env HOME={folder} {programs}/caddy run --adapter caddyfile --config {folder}/Caddyfile",
        reload: Reload::Command(
            "{programs}/caddy reload --adapter caddyfile --config {folder}/Caddyfile --address {admin} --force",
        ),
        patience: &[],
        has_limits: false,
        has_checks: true,
    },
    Kind {
        name: "traefik",
        files: &["traefik/traefik.yml", "traefik/burble.yml"],
        swaps: &[
            ("\":80\"", "{plain}"),
            ("\":443\"", "{tls}"),
            ("/etc/traefik/", "{folder}/"),
            ("chat.example.org", "{here}"),
            ("9100", "{ops}"),
            ("amount: 1000", "amount: {sockets}"),
            ("average: 20", "average: 1"),
            ("burst: 200", "burst: {handshakes}"),
        ],
        program: "{programs}/traefik --configFile={folder}/traefik.yml",
        reload: Reload::Write("burble.yml"),
        patience: &[],
        has_limits: true,
        has_checks: true,
    },
];

/// What the words in braces stand for.
struct Words(Vec<(&'static str, String)>);

impl Words {
    /// Where it listens without and with TLS and is told what to do, and where the nodes do, for visitors and operators.
    fn new(folder: &Path, [plain, tls, admin]: [SocketAddr; 3], [port, ops]: [u16; 2]) -> Self {
        Self(vec![
            ("plain", plain.to_string()),
            ("plain_port", plain.port().to_string()),
            ("tls", tls.to_string()),
            ("tls_port", tls.port().to_string()),
            ("admin", admin.to_string()),
            ("here", HOST.to_string()),
            ("sockets", SOCKETS.to_string()),
            ("handshakes", HANDSHAKES.to_string()),
            ("folder", folder.display().to_string()),
            ("programs", programs()),
            ("port", port.to_string()),
            ("ops", ops.to_string()),
        ])
    }

    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (word, value)| text.replace(&format!("{{{word}}}"), value))
    }

    fn command(&self, line: &str) -> Vec<String> {
        self.fill(line).split(' ').map(str::to_owned).collect()
    }
}

/// One that runs. It ends with this.
pub(crate) struct Proxy {
    pub(crate) kind: &'static Kind,
    /// Where it speaks TLS.
    pub(crate) address: SocketAddr,
    /// Where it does not.
    pub(crate) plain: SocketAddr,
    words: Words,
    keeper: Keeper,
    folder: TempDir,
}

impl Proxy {
    fn start(kind: &'static Kind, ports: [u16; 2], certificates: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("burble-proxy").tempdir().expect("a temporary folder");
        // Its workers are others than root, where that is who starts it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).expect("the folder is ours");
        let [plain, address, admin] = [(); 3].map(|()| SocketAddr::new(HOST, fixed_port()));
        let words = Words::new(folder.path(), [plain, address, admin], ports);
        copy_certificates(certificates, folder.path());
        write(kind, &words, folder.path());
        let keeper = Keeper::start(&words.command(kind.program), &folder.path().join("out.log"), None);
        Self { kind, address, plain, words, keeper, folder }
    }

    /// Has it read new certificates, and all else, without a restart.
    pub(crate) fn reload(&self, certificates: &Path) {
        copy_certificates(certificates, self.folder.path());
        match self.kind.reload {
            Reload::Signal(name) => self.keeper.signal(name),
            Reload::Command(line) => {
                let command = self.words.command(line);
                let done = Command::new(&command[0]).args(&command[1..]).stderr(Stdio::null()).status();
                assert!(done.expect("it is installed").success(), "{}: {line}", self.kind.name);
            }
            Reload::Write(name) => {
                let file = self.folder.path().join(name);
                let text = fs::read(&file).expect("it was written");
                fs::write(&file, text).expect("the folder is ours");
            }
        }
    }

    /// All that it has written down.
    pub(crate) fn logs(&self) -> String {
        let entries = fs::read_dir(self.folder.path()).expect("the folder is ours");
        let files = entries.flatten().map(|entry| entry.path());
        let logs = files.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        logs.map(|path| fs::read_to_string(path).expect("a log")).collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let logs = self.logs();
            let lines: Vec<_> = logs.lines().collect();
            eprintln!("— last lines of {} —\n{}", self.kind.name, lines[lines.len().saturating_sub(20)..].join("\n"));
        }
    }
}

/// Two nodes, and all proxies before them.
pub(crate) struct Site {
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) one: TestServer,
    pub(crate) two: TestServer,
    /// Somebody whom all of them know.
    pub(crate) visitor: TestUser,
    pub(crate) authority: Authority,
    pub(crate) certificates: TempDir,
}

impl Site {
    pub(crate) async fn start(env: &[(&str, &str)]) -> Self {
        let ports = [fixed_port(), fixed_port()];
        let [port, ops] = ports.map(|port| port.to_string());
        let own = [("SERVER_TRUSTED_PROXIES", "127.0.0.1"), ("SERVER_PORT", &port), ("OPS_PORT", &ops)];
        let at = NODES.map(|node| [("SERVER_HOST", node), ("OPS_HOST", node)]);
        let (one, two) = TestServer::pair_apart(Redis::shared(), &[&own, env].concat(), [&at[0], &at[1]]).await;
        let (authority, certificates) = (Authority::new(), tempfile::tempdir().expect("a temporary folder"));
        authority.issue(certificates.path());
        let proxies = KINDS.iter().map(|kind| Proxy::start(kind, ports, certificates.path())).collect();
        let visitor = one.user("visitor").await;
        let site = Self { proxies, one, two, visitor, authority, certificates };
        for proxy in &site.proxies {
            let door = site.door(proxy, HOST).await;
            eventually(proxy.kind.name, async || {
                Request::new("GET", "/address").elsewhere().try_send(door.address).await.ok()
            })
            .await
            .expect(200);
        }
        site
    }

    /// A way in by this proxy, for visitors from this address.
    pub(crate) async fn door(&self, proxy: &Proxy, from: impl Into<IpAddr>) -> Door {
        self.authority.door(proxy.address, from.into()).await
    }

    /// A new certificate, for the next reload.
    pub(crate) fn renew_certificates(&self) {
        self.authority.issue(self.certificates.path());
    }
}

/// The file in deploy/, as operators have it.
pub(crate) fn shipped(file: &str) -> String {
    fs::read_to_string(Path::new(DEPLOY).join(file)).unwrap_or_else(|error| panic!("deploy/{file}: {error}"))
}

/// The files with everything swapped that there is to swap.
fn write(kind: &Kind, words: &Words, folder: &Path) {
    let mut texts: Vec<_> = kind.files.iter().map(|file| shipped(file)).collect();
    for (theirs, ours) in EVERYWHERE.iter().chain(kind.swaps) {
        assert!(texts.iter().any(|text| text.contains(theirs)), "{:?} has no {theirs:?}", kind.files);
        texts = texts.into_iter().map(|text| text.replace(theirs, ours)).collect();
    }
    // Only now: a port of ours may have the digits of one of theirs.
    let texts = texts.iter().map(|text| words.fill(text));
    for (file, text) in kind.files.iter().zip(texts) {
        let name = Path::new(file).file_name().expect("a file");
        fs::write(folder.join(name), text).expect("the folder is ours");
    }
}

fn copy_certificates(from: &Path, to: &Path) {
    for name in ["chat.pem", "chat.key", "chat-and-key.pem"] {
        fs::copy(from.join(name), to.join(name)).expect("both folders are ours");
    }
}

/// The folder of those programs that no distribution has.
pub(crate) fn programs() -> String {
    let found = Command::new(PROGRAMS).output().expect("every machine has a shell");
    let folder = PathBuf::from(String::from_utf8(found.stdout).expect("a path").trim());
    assert!(folder.join("traefik").exists(), "scripts/need.sh caddy traefik installs what these tests need");
    folder.display().to_string()
}

#[test]
fn ports_with_the_digits_of_those_in_the_files_stay_whole() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let words = Words::new(folder.path(), [1, 2, 3].map(|port| SocketAddr::new(HOST, port)), [19_100, 29_100]);
    for kind in &KINDS {
        write(kind, &words, folder.path());
        let name = Path::new(kind.files[kind.files.len() - 1]).file_name().expect("a file");
        let text = fs::read_to_string(folder.path().join(name)).expect("it was written");
        assert_eq!(text.matches(":19100").count(), 2, "{}:\n{text}", kind.name);
        assert_eq!(text.matches("29100").count(), usize::from(kind.has_checks), "{}:\n{text}", kind.name);
    }
}
