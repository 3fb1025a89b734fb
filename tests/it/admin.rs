//! What an operator does by command, beside nodes that run.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::client::position;
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::setup::Setup;
use crate::support::user::PASSWORD;
use crate::support::{PATIENCE, Request, TestServer, TestUser, eventually, text, within};

/// What a command that went well answers as JSON.
async fn asked(server: &TestServer, arguments: &[&str], input: &str) -> Value {
    let file = server.data().join("input");
    fs::write(&file, input).expect("a file of the test");
    let arguments: Vec<_> =
        arguments.iter().map(|word| if *word == "INPUT" { file.to_str().unwrap() } else { word }).collect();
    let done = server.run_beside(&[&arguments[..], &["--json"]].concat(), &[]).await;
    assert!(done.status.success(), "{arguments:?}: {}", done.output);
    serde_json::from_str(&done.output).unwrap_or_else(|_| panic!("no JSON: {}", done.output))
}

async fn refused(server: &TestServer, arguments: &[&str], said: &str) {
    let done = server.run_beside(arguments, &[]).await;
    assert_eq!(done.status.code(), Some(1), "{}", done.output);
    assert!(done.output.contains(said), "{}", done.output);
}

async fn log_in(server: &TestServer, name: &str, password: &str) -> u16 {
    Request::new("POST", "/login").json(&json!({"name": name, "password": password})).send(server.address).await.status
}

#[tokio::test]
async fn the_operator_manages_accounts_beside_a_node_on_sqlite() {
    manages_accounts(&TestServer::start().await).await;
}

#[tokio::test]
async fn the_operator_manages_accounts_beside_two_nodes_on_postgres() {
    let (one, _two) = TestServer::pair().await;
    manages_accounts(&one).await;
}

async fn manages_accounts(server: &TestServer) {
    asked(server, &["user", "add", "ann", "--password-file", "INPUT"], &format!("{PASSWORD}\n")).await;
    refused(server, &["user", "add", "ann", "--password-file", "/dev/null"], "8 to 256").await;
    let file = server.data().join("input");
    refused(server, &["user", "add", "ann", "--password-file", file.to_str().unwrap()], "taken").await;
    assert_eq!(log_in(server, "ann", PASSWORD).await, 200);

    let mut bob = server.session("bob").await;
    let done = asked(server, &["user", "disable", "bob"], "").await;
    assert_eq!(done, json!({"user": "bob", "sign_ins_ended": 1}));
    assert_eq!(within(PATIENCE, "the session is closed", bob.expect_close()).await.code, 4403);
    assert_eq!(log_in(server, "bob", PASSWORD).await, 401);
    bob.user.try_refresh().await.refused(401, "unauthenticated");
    bob.user.get("/me").await.refused(401, "unauthenticated");
    let listed = asked(server, &["user", "list"], "").await;
    let disabled: Vec<_> =
        listed["users"].as_array().unwrap().iter().map(|user| user["disabled_at"].is_i64()).collect();
    assert_eq!(disabled, [false, true]);
    asked(server, &["user", "enable", "bob"], "").await;
    assert_eq!(log_in(server, "bob", PASSWORD).await, 200);

    let mut eve = server.session("eve").await;
    asked(server, &["user", "password", "eve", "--password-file", "INPUT"], "another password").await;
    assert_eq!(within(PATIENCE, "the session is closed", eve.expect_close()).await.code, 4403);
    assert_eq!(log_in(server, "eve", PASSWORD).await, 401);
    assert_eq!(log_in(server, "eve", "another password").await, 200);
    refused(server, &["user", "disable", "nobody"], "there is no user nobody").await;
    let list = asked(server, &["user", "list", "--after", "ann", "--limit", "1"], "").await;
    assert_eq!((list["users"].as_array().unwrap().len(), text(&list["users"][0]["name"])), (1, "bob"));
}

#[tokio::test]
async fn a_channel_that_the_operator_deletes_is_gone_for_its_listeners() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    ann.join("tea").await;
    assert_eq!(asked(&server, &["channel", "list"], "").await["channels"][0]["kind"], "public");
    asked(&server, &["channel", "delete", "tea", "--yes"], "").await;
    assert_eq!(ann.next_event().await, json!({"ev": "left", "channel": "tea", "reason": "deleted"}));
    ann.user.get("/channels/tea").await.refused(404, "channel_not_found");
    refused(&server, &["channel", "delete", "tea", "--yes"], "there is no channel tea").await;
    let free = async || {
        (ann.user.post("/channels", json!({"name": "tea", "kind": "public"})).await.status == 201).then_some(())
    };
    eventually("the name is free", free).await;
}

#[tokio::test]
async fn a_token_that_the_operator_issues_opens_the_door_until_it_is_revoked() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let issued = asked(&server, &["token", "issue", "ann"], "").await;
    let token = text(&issued["access_token"]);
    let theirs = TestUser { access: token.to_owned(), ..ann.clone() };
    assert_eq!(theirs.get("/me").await.expect(200)["user"]["name"], "ann");
    let said = asked(&server, &["token", "inspect", "--token-file", "INPUT"], token).await;
    assert_eq!((&said["user"], &said["active"]), (&json!("ann"), &json!(true)));
    asked(&server, &["user", "disable", "ann"], "").await;
    let said = asked(&server, &["token", "inspect", "--token-file", "INPUT"], token).await;
    assert_eq!(said["active"], false);
    refused(&server, &["token", "issue", "ann"], "disabled").await;
    eventually("the node has heard", async || (theirs.get("/me").await.status == 401).then_some(())).await;
}

#[tokio::test]
async fn tables_are_made_without_a_node_and_never_under_one() {
    let setup = Setup::new();
    let run = async |setup: &Setup, arguments: &[&str]| {
        let output = setup.command(arguments).output().await.expect("the binary runs");
        (output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let (done, said) = run(&setup, &["user", "list"]).await;
    assert!(!done && said.contains("burble migrate"), "{said}");
    let (done, said) = run(&setup, &["migrate"]).await;
    assert!(done, "{said}");
    assert!(run(&setup, &["user", "list"]).await.0);
    let server = TestServer::start().await;
    refused(&server, &["migrate"], "another process serves this file").await;
}

#[tokio::test]
async fn a_backup_holds_all_and_what_came_after_it_is_announced_as_lost() {
    let mut server = TestServer::embedded().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let mut kept = Vec::new();
    for number in 0..3 {
        kept.push(ann.send("tea", &number.to_string()).await.id);
    }
    let before = ann.user.get("/channels/tea/messages").await.expect(200);
    let folder = server.data().join("backup");
    let taken = asked(&server, &["backup", folder.to_str().unwrap()], "").await;
    assert_eq!((&taken["database"], &taken["log"]), (&json!("sqlite"), &json!(true)));
    refused(&server, &["backup", folder.to_str().unwrap()], "is there already").await;
    refused(&server, &["restore", folder.to_str().unwrap()], "is there already").await;
    let lost = ann.send("tea", "after the backup").await.id;
    server.user("bob").await;
    assert!(server.stop().await.success());

    let elsewhere = server.data().join("elsewhere");
    let (data, database) = (elsewhere.to_str().unwrap(), elsewhere.join("burble.db"));
    let env = [("DATA_DIR", data)];
    let done = server.run_beside(&["restore", folder.to_str().unwrap()], &env).await;
    assert!(done.status.success() && database.exists(), "{}", done.output);
    let server = server.again_with(&env).await;
    let ann = ann.user.at(&server);
    assert_eq!(log_in(&server, "ann", PASSWORD).await, 200);
    assert_eq!(log_in(&server, "bob", PASSWORD).await, 401, "he came after the backup");
    assert_eq!(ann.get("/channels/tea/messages").await.expect(200)["events"], before["events"]);
    let mut session = ann.session().await;
    session.join_since("tea", &lost).await;
    let gap = session.next_of("gap").await;
    assert_eq!((text(&gap["reason"]), &gap["last"]), ("rolled_back", &json!(kept[2])));
    let next = session.send("tea", "after the restore").await.id;
    assert!(position(&json!(next)).epoch > position(&json!(lost)).epoch, "no position is given out twice: {next}");
}

#[tokio::test]
async fn a_backup_under_load_and_rewrites_holds_a_beginning_of_what_was_acknowledged() {
    let mut server = TestServer::embedded().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let first = ann.send("tea", "before the backup").await.id;
    let folder = server.data().join("backup");
    let arguments = ["backup", folder.to_str().expect("a plain path")];
    let mut backup = Box::pin(server.run_beside(&arguments, &[]));
    let mut acknowledged = vec![first];
    let done = loop {
        server.redis_rewrites().await;
        tokio::select! {
            done = &mut backup => break done,
            sent = ann.send("tea", "meanwhile") => acknowledged.push(sent.id),
        }
    };
    drop(backup);
    assert!(done.status.success(), "{}", done.output);
    assert!(server.stop().await.success());
    let elsewhere = server.data().join("elsewhere");
    let env = [("DATA_DIR", elsewhere.to_str().expect("a plain path"))];
    let done = server.run_beside(&["restore", arguments[1]], &env).await;
    assert!(done.status.success(), "{}", done.output);
    let server = server.again_with(&env).await;
    let page = ann.user.at(&server).get("/channels/tea/messages?limit=200&after=0-0").await.expect(200);
    let restored: Vec<_> = page["events"].as_array().expect("events").iter().map(|event| text(&event["id"])).collect();
    assert!(!restored.is_empty(), "the first was acknowledged before the backup began");
    // The last `send` may have been cut off by the end of the backup.
    let common = restored.len().min(acknowledged.len());
    assert_eq!(restored[..common], acknowledged[..common]);
}

#[tokio::test]
async fn a_backup_of_postgres_is_put_back_into_an_empty_database() {
    let server = TestServer::pair().await.0;
    let ann = server.user("ann").await;
    ann.create_channel("tea").await;
    let folder = server.data().join("backup");
    let taken = asked(&server, &["backup", folder.to_str().unwrap()], "").await;
    assert_eq!((&taken["database"], &taken["log"]), (&json!("postgres"), &json!(false)));
    refused(&server, &["restore", folder.to_str().unwrap()], "already exists").await;
    let empty = Postgres::shared().create_database();
    let env = [("SERVER_DB", empty.as_str())];
    let done = server.run_beside(&["restore", folder.to_str().unwrap()], &env).await;
    assert!(done.status.success(), "{}", done.output);
    let (here, there) =
        (server.run_beside(&["user", "list"], &[]).await, server.run_beside(&["user", "list"], &env).await);
    assert!(here.output.contains("ann"), "{}", here.output);
    assert_eq!(here.output, there.output);
    let (here, there) =
        (server.run_beside(&["channel", "list"], &[]).await, server.run_beside(&["channel", "list"], &env).await);
    assert_eq!(here.output, there.output);
}

#[tokio::test]
async fn one_node_with_all_built_in_becomes_two_on_postgres_and_a_redis_of_their_own() {
    let setup = Setup::new().and("AUTH_SECRET", "");
    let Ok(mut alone) = TestServer::try_launch(setup).await else { panic!("it starts") };
    let mut ann = alone.session("ann").await;
    let bob = alone.user("bob").await;
    ann.create_channel("tea").await;
    ann.user.create_private("attic").await;
    ann.user.add("attic", "bob", "moderator").await;
    let seen = ann.send("tea", "read before the move").await.id;
    let sent = ann.send_with(json!({"op": "send", "channel": "tea", "text": "not yet read", "cid": "a1"})).await;
    let folder = alone.data().join("backup");
    assert!(alone.stop().await.success());
    asked(&alone, &["backup", folder.to_str().unwrap()], "").await;

    let redis = Redis::with_log(&folder.join("appendonlydir"));
    let key = fs::read_to_string(folder.join("auth.key")).expect("a key");
    let database = Postgres::shared().create_database();
    let (port, prefix) = (redis.port.to_string(), alone.prefix.clone());
    let env = [
        ("SERVER_DB", database.as_str()),
        ("PUBSUB_SERVER_HOST", "127.0.0.1"),
        ("PUBSUB_SERVER_PORT", &port),
        ("PUBSUB_PREFIX", &prefix),
        ("PUBSUB_DURABILITY", "fsync"),
        ("AUTH_SECRET", key.trim()),
    ];
    let done = alone.run_beside(&["restore", folder.to_str().unwrap()], &env).await;
    assert!(done.status.success() && done.output.contains("auth.key"), "{}", done.output);
    let done = alone.run_beside(&["restore", folder.to_str().unwrap()], &env).await;
    assert!(!done.status.success() && done.output.contains("uses this database already"), "{}", done.output);
    let (one, two) = (TestServer::with(&env).await, TestServer::with(&env).await);

    // Nobody has to sign in again, no position has changed, and what was not read yet comes without a gap.
    let (ann, bob) = (ann.user.at(&one), bob.at(&two));
    let mut listening = ann.session().await;
    listening.join_since("tea", &seen).await;
    let missed = listening.next_event().await;
    assert_eq!((text(&missed["ev"]), &missed["id"]), ("message", &json!(sent.id)));
    listening.next_of("caught_up").await;
    let mut sending = bob.session().await;
    let again = sending.send_with(json!({"op": "send", "channel": "tea", "text": "not yet read", "cid": "a1"})).await;
    assert!(!again.dup, "the cid is another user's");
    assert_eq!(text(&listening.next_message().await["id"]), again.id);
    let mut repeated = ann.at(&two).session().await;
    let repeated =
        repeated.send_with(json!({"op": "send", "channel": "tea", "text": "not yet read", "cid": "a1"})).await;
    assert!(repeated.dup && repeated.id == sent.id, "{}", repeated.id);
    assert_eq!(position(&json!(again.id)).epoch, position(&json!(sent.id)).epoch);
    assert_eq!(bob.get("/channels/attic").await.expect(200)["channel"]["role"], "moderator");
}

#[tokio::test]
async fn the_service_manager_hears_of_start_life_and_end() {
    let setup = Setup::new().on(Redis::shared());
    let path = setup.data.path().join("notify");
    let manager = UnixDatagram::bind(&path).expect("a socket");
    manager.set_read_timeout(Some(PATIENCE)).expect("a socket");
    let setup = setup.and("NOTIFY_SOCKET", path.to_str().unwrap()).and("WATCHDOG_USEC", "300000");
    let Ok(mut server) = TestServer::try_launch(setup).await else { panic!("it starts") };
    let heard = std::thread::spawn(move || {
        let (mut all, mut buffer) = (String::new(), [0; 1024]);
        while !all.contains("STOPPING=1") {
            let count = manager.recv(&mut buffer).expect("it says more");
            all += &format!("{}\n", String::from_utf8_lossy(&buffer[..count]));
        }
        all
    });
    assert_eq!(server.probe("/readyz").await.status, 200);
    assert!(server.stop().await.success());
    let heard = heard.join().expect("it was told all");
    for said in ["READY=1", "STATUS=Listens on 127.0.0.1:", "WATCHDOG=1", "STOPPING=1", "EXTEND_TIMEOUT_USEC=26000000"]
    {
        assert!(heard.contains(said), "{said}: {heard}");
    }
}

#[tokio::test]
async fn a_socket_that_was_handed_over_stays_open_between_two_nodes() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("it is bound");
    let setup = Setup::new();
    let start = async || {
        let handed = socket.try_clone().expect("a descriptor");
        let script = "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 exec \"$0\" serve";
        let mut shell = setup.shell(script);
        shell.stdin(Stdio::from(std::os::fd::OwnedFd::from(handed)));
        shell.spawn().expect("every machine has a shell")
    };
    let mut first = start().await;
    let answered = Request::new("GET", "/address").send(address);
    assert_eq!(within(PATIENCE, "the first answers", answered).await.status, 200);
    crate::support::signal(first.id().expect("it runs"), "TERM");
    within(PATIENCE * 3, "it ends", first.wait()).await.expect("a child");
    // Nobody serves now; who comes waits for the next.
    let waiting = within(PATIENCE, "the second answers", Request::new("GET", "/address").send(address));
    let (answer, mut second) = tokio::join!(waiting, start());
    assert_eq!(answer.status, 200);
    crate::support::signal(second.id().expect("it runs"), "TERM");
    within(PATIENCE * 3, "it ends", second.wait()).await.expect("a child");
}

#[tokio::test]
async fn a_healthcheck_says_whether_the_node_is_ready() {
    let server = TestServer::start().await;
    let port = server.ops.port().to_string();
    assert!(server.run_beside(&["healthcheck"], &[("OPS_PORT", &port)]).await.status.success());
    let done = server.run_beside(&["healthcheck"], &[("OPS_PORT", "1")]).await;
    assert_eq!(done.status.code(), Some(1), "{}", done.output);
}
