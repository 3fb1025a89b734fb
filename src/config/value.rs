//! The kinds of value that settings hold: parsed once, then trusted.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::secret::Secret;

/// An enum whose names are what the settings say; the list of names is the one in the table of settings.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            pub(super) const NAMES: &'static [&'static str] = &[$($text),+];

            /// The name as the settings write it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

choice!(
    /// What the node is run for.
    Environment {
        /// Real users: nothing that is unsafe has a default.
        Production = "production",
        /// A developer's machine: weak passwords hashes and a made-up token key are allowed.
        Development = "development",
    }
);
choice!(
    /// What kind of Redis stands behind `PUBSUB_SERVER_HOST`.
    RedisMode {
        /// One primary.
        Single = "single",
        /// Sentinels that know the primary.
        Sentinel = "sentinel",
        /// A Redis Cluster.
        Cluster = "cluster",
    }
);
choice!(
    /// Whether something is done.
    Switch {
        /// It is not.
        Off = "off",
        /// It is.
        On = "on",
    }
);
choice!(
    /// What has happened to a message when its `ok` is sent.
    Durability {
        /// Redis has it in memory.
        Memory = "memory",
        /// Redis has flushed it to disk.
        Fsync = "fsync",
        /// Replicas have confirmed it.
        Replica = "replica",
    }
);
choice!(
    /// Where logs go.
    LogOutput {
        /// Standard output alone.
        Stdout = "stdout",
        /// The rotating file alone.
        File = "file",
        /// Both.
        Both = "both",
    }
);
choice!(
    /// How a line of the log looks.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
);

/// Serde by way of `FromStr` and `Display`.
macro_rules! serde_as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

/// How many of something there may be; `0` in the settings is no limit at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit(usize);

impl Limit {
    /// A limit of `max`; 0 is none.
    pub const fn new(max: usize) -> Self {
        Self(max)
    }

    /// The limit, where there is one.
    pub fn max(self) -> Option<usize> {
        (self.0 > 0).then_some(self.0)
    }

    /// Whether `count` leaves no room for one more.
    pub fn reached(self, count: usize) -> bool {
        self.max().is_some_and(|max| count >= max)
    }
}

/// Where users and channels are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    /// A file of this node alone.
    Sqlite(PathBuf),
    /// The URL of a Postgres, password and all.
    Postgres(Secret),
}

impl FromStr for Database {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a path, sqlite://… or postgres://…";
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        match scheme {
            "postgres" | "postgresql" if !rest.is_empty() => Ok(Self::Postgres(text.into())),
            "" | "sqlite" if !rest.is_empty() && !rest.contains([':', '?']) => Ok(Self::Sqlite(rest.into())),
            _ => Err(EXPECTED),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => path.display().fmt(f),
            Self::Postgres(url) => f.write_str(&without_credentials(url.expose())),
        }
    }
}

serde_as_text!(Database);

/// Host and database of a URL. What may be a password is masked, even where the URL is badly escaped.
fn without_credentials(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let address = rest.split('?').next().unwrap_or_default();
    match address.rsplit_once('@') {
        Some((_, host)) => format!("{scheme}://***@{host}"),
        None if rest.contains('@') => format!("{scheme}://***"),
        None => format!("{scheme}://{address}"),
    }
}

/// The origin of a web page as browsers send it: lower case, without the scheme's own port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(String);

impl Origin {
    /// The origin as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected scheme://host[:port], with nothing after it";
        let text = text.to_ascii_lowercase();
        let (scheme, address) = text.split_once("://").ok_or(EXPECTED)?;
        let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_lowercase())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
        let HostPort { host, port } = address.parse().map_err(|_| EXPECTED)?;
        if !scheme_fits {
            return Err(EXPECTED);
        }
        let implied = matches!((scheme, port), ("http", Some(80)) | ("https", Some(443)));
        Ok(Self(format!("{scheme}://{}", HostPort { host, port: port.filter(|_| !implied) })))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(Origin);

/// The origins whose pages may use this server, beside its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origins(pub Vec<Origin>);

impl Origins {
    /// Whether the value of an `Origin` header is on the list. `null` and what is malformed never is.
    pub fn allow(&self, header: &str) -> bool {
        header.parse().is_ok_and(|origin| self.0.contains(&origin))
    }
}

/// The proxies whose `X-Forwarded-For` counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TrustedProxies(pub Vec<IpNet>);

impl TrustedProxies {
    /// Whether `address` is one of them; an IPv4 address counts in its IPv6 form, too.
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }
}

impl<'de> Deserialize<'de> for TrustedProxies {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        let nets = texts.iter().map(|text| parse_net(text).ok_or_else(|| de::Error::custom("no address range")));
        nets.collect::<Result<_, _>>().map(Self)
    }
}

/// An address range; a bare address is the range of that address alone.
pub(super) fn parse_net(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// `host` or `host:port`; an IPv6 address with a port stands in brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// A name, or an address without brackets.
    pub host: String,
    /// The port, where one is named.
    pub port: Option<u16>,
}

impl FromStr for HostPort {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected host or host:port";
        if is_host(text) {
            return Ok(Self { host: text.into(), port: None });
        }
        let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) if host.parse::<Ipv6Addr>().is_ok() => (host, port),
            Some(_) => return Err(EXPECTED),
            None => text.split_at(text.find(':').unwrap_or(text.len())),
        };
        let port = match port.strip_prefix(':') {
            Some(digits) => Some(digits.parse().map_err(|_| EXPECTED)?),
            None if port.is_empty() => None,
            None => return Err(EXPECTED),
        };
        if is_host(host) { Ok(Self { host: host.into(), port }) } else { Err(EXPECTED) }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]", self.host)?,
            false => f.write_str(&self.host)?,
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

serde_as_text!(HostPort);

/// Whether this is a host name or an IP address, without brackets.
pub(super) fn is_host(text: &str) -> bool {
    let name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    text.parse::<IpAddr>().is_ok() || ((1..=253).contains(&text.len()) && text.chars().all(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_compared_as_browsers_send_them() {
        let origins = Origins(vec!["HTTPS://Chat.example:443".parse().unwrap(), "http://[::1]:3000".parse().unwrap()]);
        assert!(origins.allow("https://chat.example"));
        assert!(origins.allow("http://[::1]:3000"));
        for foreign in ["null", "http://chat.example", "https://chat.example:444", "https://chat.example.evil", "*", ""]
        {
            assert!(!origins.allow(foreign), "{foreign}");
        }
        for bad in ["chat.example", "https://", "https://a/", "https://a/b", "https://u@a", "*", "https://*.a", "1://a"]
        {
            assert!(bad.parse::<Origin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_database_is_a_path_or_a_url() {
        assert_eq!("data/a.db".parse(), Ok(Database::Sqlite("data/a.db".into())));
        assert_eq!("sqlite:///var/a.db".parse(), Ok(Database::Sqlite("/var/a.db".into())));
        assert!(matches!("postgres://u:p@h/d".parse(), Ok(Database::Postgres(_))));
        for bad in ["", "mysql://h/d", "sqlite://", ":memory:", "sqlite::memory:", "postgres://", "sqlite://a?mode=ro"]
        {
            assert!(bad.parse::<Database>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_database_url_is_shown_without_its_password() {
        let shown = |url: &str| url.parse::<Database>().unwrap().to_string();
        assert_eq!(shown("postgres://u:secret@h:5432/d?sslmode=require"), "postgres://***@h:5432/d");
        assert_eq!(shown("postgres://h/d?password=secret"), "postgres://h/d");
        for url in ["postgres://u:sec@ret@h/d", "postgres://u:s?ecret@h/d", "postgres://u:s/ecret@h/d"] {
            assert!(!shown(url).contains("ret@") && !shown(url).contains(":s"), "{}", shown(url));
        }
    }

    #[test]
    fn hosts_may_carry_a_port() {
        let parse = |text: &str| text.parse::<HostPort>().map(|it| (it.host, it.port));
        assert_eq!(parse("redis"), Ok(("redis".into(), None)));
        assert_eq!(parse("redis:6380"), Ok(("redis".into(), Some(6380))));
        assert_eq!(parse("::1"), Ok(("::1".into(), None)));
        assert_eq!(parse("[::1]:6380"), Ok(("::1".into(), Some(6380))));
        for bad in ["", "redis:", "redis:abc", "redis:70000", "redis://h", "a b", "[redis]:1", "[::1]1"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_bare_address_is_a_range_of_one() {
        let proxies =
            TrustedProxies(["10.0.0.0/8", "192.168.1.7", "::1"].iter().filter_map(|n| parse_net(n)).collect());
        assert_eq!(proxies.0[1].to_string(), "192.168.1.7/32");
        assert_eq!(proxies.0[2].to_string(), "::1/128");
        assert!(proxies.contain("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!proxies.contain("192.168.1.8".parse().unwrap()));
    }
}
