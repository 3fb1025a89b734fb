use std::fs;

use figment::Jail;

use super::*;

const KEY: &str = "0123456789abcdef0123456789abcdef";

/// Loads with this environment and, where one is given, this `burble.toml`.
#[expect(clippy::result_large_err, reason = "the jail wants an error of its own kind")]
fn load(vars: &[(&str, &str)], toml: Option<&str>) -> Result<Settings, ConfigError> {
    let mut loaded = None;
    Jail::expect_with(|jail| {
        jail.clear_env();
        vars.iter().for_each(|(name, value)| jail.set_env(name, value));
        if let Some(text) = toml {
            jail.create_file(FILE, text)?;
        }
        loaded = Some(Settings::load(None));
        Ok(())
    });
    loaded.expect("the jail ran")
}

fn problems(vars: &[(&str, &str)], toml: Option<&str>) -> Vec<String> {
    load(vars, toml).err().map(|error| error.problems).unwrap_or_default()
}

fn problem(name: &str, value: &str) -> String {
    let problems = problems(&[(name, value)], None);
    assert_eq!(problems.len(), 1, "{problems:?}");
    problems.into_iter().next().unwrap()
}

#[test]
fn a_node_starts_without_any_setting() {
    let it = load(&[], None).unwrap();
    assert_eq!(it.env, Environment::Production);
    assert_eq!(it.node_name, host_name());
    assert_eq!(it.data_dir, Path::new("data"));
    assert_eq!((it.server.host.as_str(), it.server.port), ("127.0.0.1", 8080));
    assert_eq!(it.server.db, Database::Sqlite("data/burble.db".into()));
    assert_eq!((it.server.origins.0.len(), it.server.trusted_proxies.0.len(), it.server.drain_seconds), (0, 0, 10));
    assert_eq!((it.ops.host.as_str(), it.ops.port), ("127.0.0.1", 9100));
    assert_eq!((it.auth.secret, it.auth.secret_previous), (None, None));
    assert_eq!((it.auth.access_seconds, it.auth.refresh_days, it.auth.password_rounds), (900, 30, 600_000));
    assert_eq!(it.auth.password_threads, thread::available_parallelism().unwrap().get().div_ceil(2));
    assert!(it.pubsub.is_embedded() && it.pubsub.servers().is_empty());
    assert_eq!((it.pubsub.server_port, it.pubsub.server_pass.is_none()), (6379, true));
    assert_eq!((it.pubsub.server_mode, it.pubsub.durability), (RedisMode::Single, Durability::Fsync));
    assert_eq!((it.pubsub.prefix.as_str(), it.pubsub.feeds, it.pubsub.feed_seconds), ("burble", 16, 30));
    assert_eq!((it.pubsub.append_timeout_ms, it.pubsub.dedupe_seconds, it.pubsub.replicas), (3_000, 900, 1));
    assert_eq!((it.channel.retention_messages, it.channel.retention_days), (10_000, 30));
    assert_eq!((it.session.ping_ms, it.session.silence_ms, it.session.sign_in_ms), (25_000, 60_000, 10_000));
    assert_eq!((it.limit.connections, it.limit.sessions_per_user), (Limit::new(50_000), Limit::new(100)));
    assert_eq!(it.limit.session_joins, Limit::new(1_000));
    assert_eq!(it.limit.session_commands_per_second, Limit::new(10_000));
    assert_eq!((it.limit.password_queue, it.limit.page_reads), (64, 16));
    assert_eq!((it.log.output, it.log.file.as_path()), (LogOutput::Stdout, Path::new("logs/server.log")));
    assert_eq!((it.log.console_level.as_str(), it.log.file_level.as_str()), ("info", "info"));
    assert_eq!(it.log.format, LogFormat::Text);
}

#[test]
fn defaults_follow_from_other_settings() {
    let vars = [("DATA_DIR", "/var/lib/burble"), ("PUBSUB_SERVER_HOST", "redis"), ("AUTH_SECRET", KEY)];
    let it = load(&vars, None).unwrap();
    assert_eq!(it.server.db, Database::Sqlite("/var/lib/burble/burble.db".into()));
    assert_eq!(it.pubsub.durability, Durability::Memory);
    assert_eq!(it.pubsub.servers(), [("redis".to_owned(), 6379)]);
}

#[test]
fn the_environment_goes_before_the_file() {
    let toml = "node_name = 'file'\n[server]\nport = 1\nhost = '0.0.0.0'\n[ops]\nport = 2";
    let it = load(&[("SERVER_PORT", "3"), ("NODE_NAME", "env"), ("OPS_PORT", "")], Some(toml)).unwrap();
    assert_eq!((it.server.port, it.server.host.as_str(), it.node_name.as_str()), (3, "0.0.0.0", "env"));
    assert_eq!(it.ops.port, 2, "an empty variable counts as not set");
}

#[test]
#[expect(clippy::result_large_err, reason = "the jail wants an error of its own kind")]
fn a_file_can_be_named_and_must_then_be_there() {
    Jail::expect_with(|jail| {
        jail.clear_env();
        jail.create_file("other.toml", "[server]\nport = 7")?;
        assert_eq!(Settings::load(Some(Path::new("other.toml"))).unwrap().server.port, 7);
        let error = Settings::load(Some(Path::new("missing.toml"))).unwrap_err();
        assert!(error.to_string().starts_with("missing.toml: "), "{error}");
        Ok(())
    });
}

#[test]
fn lists_are_comma_separated_or_toml_lists() {
    let vars = [
        ("SERVER_ORIGINS", "https://a.example, http://b.example:3000,"),
        ("SERVER_TRUSTED_PROXIES", "10.0.0.0/8,192.168.1.7"),
    ];
    let from_env = load(&vars, None).unwrap().server;
    let toml = "[server]\norigins = ['https://a.example', 'http://b.example:3000']\ntrusted_proxies = '10.0.0.0/8,192.168.1.7'";
    let from_file = load(&[], Some(toml)).unwrap().server;
    assert_eq!(from_env.origins.0.len(), 2);
    assert_eq!(from_env.origins, from_file.origins);
    assert_eq!(from_env.trusted_proxies, from_file.trusted_proxies);
    assert!(from_env.trusted_proxies.contain("192.168.1.7".parse().unwrap()));
}

#[test]
fn a_password_of_digits_stays_text() {
    for digits in ["0123456", "123456", "true", "[x", "1e9"] {
        let it = load(&[("PUBSUB_SERVER_PASS", digits)], None).unwrap();
        assert_eq!(it.pubsub.server_pass.unwrap().expose(), digits);
    }
}

#[test]
fn zero_is_no_limit() {
    let it = load(&[("LIMIT_CONNECTIONS", "0"), ("LIMIT_SESSION_JOINS", "2")], None).unwrap();
    assert_eq!((it.limit.connections.max(), it.limit.connections.reached(usize::MAX)), (None, false));
    assert_eq!((it.limit.session_joins.reached(1), it.limit.session_joins.reached(2)), (false, true));
}

#[test]
fn a_bad_value_names_the_key_what_was_found_and_what_was_expected() {
    let rows = [
        ("SERVER_PORT", "abc", "found \"abc\", expected a number from 0 to 65535"),
        ("SERVER_PORT", "-1", "found \"-1\", expected a number from 0 to 65535"),
        ("OPS_PORT", "70000", "found 70000, expected a number from 0 to 65535"),
        ("ENV", "prod", "found \"prod\", expected production, development"),
        ("NODE_NAME", "a b", "found \"a b\", expected letters, digits, dots, - and _"),
        ("SERVER_HOST", "http://a", "found \"http://a\", expected a host name or an IP address"),
        ("SERVER_DB", "mysql://h/d", "found \"mysql://h/d\", expected a path, sqlite://… or postgres://…"),
        ("SERVER_ORIGINS", "https://a,*", "found \"*\", expected a list, each scheme://host[:port]"),
        (
            "SERVER_TRUSTED_PROXIES",
            "10.0.0.0/33",
            "found \"10.0.0.0/33\", expected a list, each an address or a range such as 10.0.0.0/8",
        ),
        ("AUTH_PASSWORD_ROUNDS", "999", "found 999, expected a number of at least 1000"),
        ("PUBSUB_SERVER_HOST", "redis://h", "found \"redis://h\", expected a list, each host or host:port"),
        ("PUBSUB_DURABILITY", "disk", "found \"disk\", expected memory, fsync, replica"),
        ("PUBSUB_PREFIX", "Burble", "found \"Burble\", expected a-z, 0-9, _ and -"),
        ("PUBSUB_FEEDS", "257", "found 257, expected a number from 1 to 256"),
        ("PUBSUB_DEDUPE_SECONDS", "599", "found 599, expected a number from 600 to 604800"),
        ("LIMIT_PAGE_READS", "0", "found 0, expected a number from 1 to 65536"),
        ("LIMIT_PASSWORD_QUEUE", "0", "found 0, expected a number from 1 to 65536"),
        ("LOG_OUTPUT", "syslog", "found \"syslog\", expected stdout, file, both"),
        ("LOG_FORMAT", "xml", "found \"xml\", expected text, json"),
    ];
    for (name, value, expected) in rows {
        assert_eq!(problem(name, value), format!("{name} (environment): {expected}"));
    }
    for level in ["inof", "burble", "info,burble=lots", "info,"] {
        assert!(problem("LOG_CONSOLE_LEVEL", level).starts_with("LOG_CONSOLE_LEVEL (environment): found "), "{level}");
    }
    assert!(load(&[("LOG_CONSOLE_LEVEL", "info,burble::hub=trace")], None).is_ok());
}

#[test]
fn a_bad_value_in_the_file_is_named_as_the_file_writes_it() {
    let toml = "env = 1\n[server]\nport = '80'\norigins = [1]\n[pubsub]\nserver_pass = 123\n[log.output]\nx = 1\n";
    assert_eq!(
        problems(&[], Some(toml)),
        [
            "env (burble.toml): found 1, expected production, development",
            "server.port (burble.toml): found \"80\", expected a number from 0 to 65535",
            "server.origins (burble.toml): found 1, expected a list, each scheme://host[:port]",
            "pubsub.server_pass (burble.toml): found something else than text, expected a text, in burble.toml in quotes",
            "log.output (burble.toml): found a table, expected stdout, file, both",
        ]
    );
}

#[test]
fn a_file_that_is_no_toml_is_told_with_the_rest() {
    let problems = problems(&[("OPS_PORT", "x")], Some("[server\nport = 1"));
    assert_eq!(problems.len(), 2, "{problems:?}");
    assert!(problems[0].starts_with("burble.toml: "), "{problems:?}");
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let redis = ("PUBSUB_SERVER_HOST", "redis");
    let key = ("AUTH_SECRET", KEY);
    let rows: [(&[(&str, &str)], &str); 10] = [
        (
            &[redis],
            "AUTH_SECRET: not set, and with PUBSUB_SERVER_HOST all nodes must share one; make it with: openssl rand -base64 48",
        ),
        (
            &[("AUTH_PASSWORD_ROUNDS", "1000")],
            "AUTH_PASSWORD_ROUNDS (environment): found 1000, expected at least 600000 unless ENV=development",
        ),
        (
            &[("PUBSUB_DURABILITY", "replica")],
            "PUBSUB_DURABILITY (environment): found replica, expected memory or fsync: the embedded Redis has no replicas; set PUBSUB_SERVER_HOST",
        ),
        (
            &[("SESSION_SILENCE_MS", "25000")],
            "SESSION_SILENCE_MS (environment): found 25000, expected more than SESSION_PING_MS, which is 25000",
        ),
        (&[("OPS_PORT", "8080")], "OPS_PORT (environment): found 8080, which SERVER_PORT has; expected another"),
        (
            &[("PUBSUB_SERVER_MODE", "cluster")],
            "PUBSUB_SERVER_MODE (environment): found cluster, expected single, or the servers in PUBSUB_SERVER_HOST",
        ),
        (
            &[("PUBSUB_TLS", "on")],
            "PUBSUB_TLS (environment): found on, expected off, or the servers in PUBSUB_SERVER_HOST: the embedded Redis has no port",
        ),
        (
            &[("PUBSUB_TLS_CA", "ca.pem"), redis, key],
            "PUBSUB_TLS_CA (environment): set, and PUBSUB_TLS is off; expected on",
        ),
        (
            &[("PUBSUB_TLS", "on"), ("PUBSUB_TLS_KEY", "key.pem"), redis, key],
            "PUBSUB_TLS_KEY (environment): PUBSUB_TLS_CERT and it belong together, and one of them is not set",
        ),
        (
            &[("PUBSUB_SERVER_HOST", "a,b:1"), key],
            "PUBSUB_SERVER_HOST (environment): found 2 hosts, expected one, or PUBSUB_SERVER_MODE=sentinel or cluster",
        ),
    ];
    for (vars, expected) in rows {
        assert_eq!(problems(vars, None), [expected]);
    }
    assert!(load(&[("ENV", "development"), ("AUTH_PASSWORD_ROUNDS", "1000"), redis], None).is_ok());
    assert!(load(&[redis, key, ("PUBSUB_DURABILITY", "replica")], None).is_ok());
}

#[test]
fn all_problems_are_told_at_once() {
    let vars = [("SERVER_PORT", "x"), ("SERVER_PROT", "1"), ("PUBSUB_SERVER_HOST", "redis")];
    let error = load(&vars, Some("[ops]\nhots = ''\n[channel]\nretention_days = 0")).unwrap_err();
    assert_eq!(error.to_string().lines().count(), 5, "{error}");
}

#[test]
fn an_unknown_name_is_refused_with_the_nearest_one() {
    assert_eq!(
        problem("SERVER_PROT", "1"),
        "SERVER_PROT (environment): there is no such setting; the nearest is SERVER_PORT"
    );
    assert_eq!(
        problem("PUBSUB_SEVER_PORT", "1"),
        "PUBSUB_SEVER_PORT (environment): there is no such setting; the nearest is PUBSUB_SERVER_PORT"
    );
    let toml = "nodename = 'a'\nSERVER_PORT = 1\n[server]\nprot = 1\n[serber]\nport = 1\n[empty]\n[limit]\n";
    assert_eq!(
        problems(&[], Some(toml)),
        [
            "SERVER_PORT (burble.toml): there is no such setting; the nearest is server.port",
            "empty (burble.toml): there is no such setting; the nearest is env",
            "nodename (burble.toml): there is no such setting; the nearest is node_name",
            "serber.port (burble.toml): there is no such setting; the nearest is server.port",
            "server.prot (burble.toml): there is no such setting; the nearest is server.port",
        ]
    );
}

#[test]
fn what_others_put_into_the_environment_is_left_alone() {
    let vars = [
        ("SERVER_CHAT_SERVICE_HOST", "10.0.0.1"),
        ("SERVER_CHAT_SERVICE_PORT", "80"),
        ("SERVER_CHAT_SERVICE_PORT_HTTP", "80"),
        ("AUTH_API_PORT", "tcp://10.0.0.1:80"),
        ("AUTH_API_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("AUTH_API_PORT_80_TCP_ADDR", "10.0.0.1"),
        ("LOG_DNS_PORT_53_UDP_PROTO", "udp"),
        ("SESSION_MANAGER", "local/host:@/tmp/.ICE-unix/1"),
        ("PATH", "/bin"),
        ("DATA_SOURCE", "x"),
    ];
    assert!(problems(&vars, None).is_empty());
    assert!(problem("SERVER_PORT", "tcp://10.0.0.1:80").contains("enableServiceLinks: false"));
}

#[test]
fn a_secret_is_never_shown() {
    let short = "too-short-a-key";
    let told = [
        problem("AUTH_SECRET", short),
        problem("AUTH_SECRET_PREVIOUS", short),
        problem("SERVER_DB", "postgre://u:too-short-a-key@h/d"),
    ];
    assert_eq!(told[0], "AUTH_SECRET (environment): found 15 bytes, expected a text of at least 32 bytes");
    assert!(told.iter().all(|problem| !problem.contains(short)), "{told:?}");
    let vars = [("AUTH_SECRET", KEY), ("PUBSUB_SERVER_PASS", KEY), ("SERVER_DB", "postgres://u:0123456789@h/d")];
    let it = load(&vars, None).unwrap();
    for shown in [it.describe(), it.describe_json().to_string(), format!("{it:?}")] {
        assert!(!shown.contains("0123456789"), "{shown}");
    }
}

#[test]
fn the_description_tells_what_holds_and_why() {
    let vars = [("SERVER_PORT", "0"), ("SERVER_ORIGINS", "https://a,https://b"), ("LIMIT_CONNECTIONS", "0")];
    let it = load(&vars, Some("[ops]\nport = 9")).unwrap();
    let line = |env: &str| {
        it.describe()
            .lines()
            .find(|line| line.starts_with(env))
            .map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    };
    assert_eq!(line("SERVER_PORT ").unwrap(), ["SERVER_PORT", "0", "environment"]);
    assert_eq!(line("SERVER_ORIGINS ").unwrap(), ["SERVER_ORIGINS", "https://a,https://b", "environment"]);
    assert_eq!(line("OPS_PORT ").unwrap(), ["OPS_PORT", "9", "burble.toml"]);
    assert_eq!(line("PUBSUB_DURABILITY ").unwrap(), ["PUBSUB_DURABILITY", "fsync", "default"]);
    assert_eq!(it.describe().lines().count(), SETTINGS.len());
    assert_eq!(it.describe_json()["OPS_PORT"], json!({"value": 9, "from": "burble.toml"}));
    assert_eq!(it.describe_json()["LIMIT_CONNECTIONS"]["value"], 0);
}

#[test]
fn the_name_in_the_environment_and_in_the_file_belong_together() {
    for setting in SETTINGS {
        assert_eq!(setting.path().replace('.', "_").to_ascii_uppercase(), setting.env);
    }
}

#[test]
fn the_token_key_is_made_only_where_that_is_safe() {
    let dir = tempfile::tempdir().unwrap();
    let data = ("DATA_DIR", dir.path().to_str().unwrap());
    let embedded = Settings::from_vars([data]).unwrap();
    assert_eq!(auth_secret(&embedded).unwrap(), auth_secret(&embedded).unwrap());
    let set = Settings::from_vars([data, ("AUTH_SECRET", KEY)]).unwrap();
    assert_eq!(auth_secret(&set).unwrap().expose(), KEY);
    let redis = ("PUBSUB_SERVER_HOST", "redis");
    let mut development = Settings::from_vars([data, redis, ("ENV", "development")]).unwrap();
    assert_ne!(auth_secret(&development).unwrap(), auth_secret(&development).unwrap());
    development.env = Environment::Production;
    assert!(auth_secret(&development).unwrap_err().to_string().contains("openssl rand -base64 48"));
    assert!(development.validate().is_err());
}

#[test]
fn the_example_in_the_repository_is_complete() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example");
    let kept = fs::read_to_string(path).unwrap_or_default();
    assert!(kept == env_example(), "write it anew: cargo test --lib writes_the_example -- --ignored");
    for setting in SETTINGS {
        assert!(settings_markdown().contains(&format!("| `{}` | `{}` |", setting.env, setting.path())));
    }
}

#[test]
#[ignore = "a tool: it writes .env.example"]
fn writes_the_example() {
    fs::write(concat!(env!("CARGO_MANIFEST_DIR"), "/.env.example"), env_example()).unwrap();
}
