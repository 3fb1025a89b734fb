//! Opening a socket, and what every command has in common.

use serde_json::{Value, json};

use crate::support::{Request, TestServer, text};

#[tokio::test]
async fn a_header_signs_in_and_the_welcome_says_all_there_is_to_know() {
    let server = TestServer::with(&[("NODE_NAME", "kettle"), ("LIMIT_SESSION_JOINS", "7")]).await;
    let ann = server.user("ann").await;
    let mut session = ann.session().await;
    let welcome = session.welcome.clone();
    assert!(!text(&welcome["session"]).is_empty());
    assert!(welcome["limits"]["dedupe_ms"].as_i64() >= Some(600_000));
    let expected = json!({
        "ev": "welcome", "session": welcome["session"], "user": "ann", "node": "kettle",
        "server": env!("CARGO_PKG_VERSION"), "expires_at": ann.expires_at, "durability": "memory",
        "limits": {"frame": 65_536, "text": 8_192, "joins": 7, "dedupe_ms": welcome["limits"]["dedupe_ms"]},
        "ping_ms": 25_000,
    });
    assert_eq!(welcome, expected);
    session.expect_silence().await;
}

#[tokio::test]
async fn a_first_frame_signs_in_as_well() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let mut session = server.socket().await;
    let welcome = session.auth(&ann).await;
    assert_eq!(welcome["user"], "ann");
    session.expect_silence().await;
}

#[tokio::test]
async fn a_bad_header_is_refused_before_the_upgrade() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    for token in ["", "nonsense", &ann.refresh] {
        let answer = ann.upgrade(Request::new("GET", "/ws").bearer(token)).await;
        answer.err().expect("no socket").refused(401, "unauthenticated");
    }
    let twice = ann.upgrade(ann.request("GET", "/ws").bearer(&ann.access)).await;
    twice.err().expect("no socket").refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_bad_first_frame_is_told_so_and_the_socket_closes() {
    let server = TestServer::with(&[("SESSION_SIGN_IN_MS", "500")]).await;
    let ann = server.user("ann").await;
    for token in ["", "nonsense", &ann.refresh] {
        let mut session = server.socket().await;
        assert_eq!(session.error(json!({"op": "auth", "token": token})).await, "unauthenticated");
        assert_eq!(session.expect_close().await.code, 4401);
    }
}

#[tokio::test]
async fn whoever_says_nothing_at_first_is_sent_away() {
    let server = TestServer::with(&[("SESSION_SIGN_IN_MS", "50")]).await;
    assert_eq!(server.socket().await.expect_close().await.code, 4401);
}

#[tokio::test]
async fn commands_before_signing_in_and_binary_frames_break_the_protocol() {
    let server = TestServer::start().await;
    for command in [json!({"op": "ping"}), json!({"op": "join", "channel": "tea"})] {
        let mut session = server.socket().await;
        session.raw(command.to_string()).await;
        assert_eq!(session.expect_close().await.code, 4400);
    }
    let mut session = server.session("ann").await;
    session.raw_binary(b"{\"op\":\"ping\"}".to_vec()).await;
    assert_eq!(session.expect_close().await.code, 4400);
}

#[tokio::test]
async fn the_sub_protocol_is_chosen_where_it_is_offered_and_missed_where_only_others_are() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let offer = |protocols: &str| ann.request("GET", "/ws").header("Sec-WebSocket-Protocol", protocols);
    for protocols in ["burble.v1", "chat, burble.v1"] {
        let session = ann.upgrade(offer(protocols)).await.expect("our protocol is among them");
        assert_eq!(session.upgrade.header("Sec-WebSocket-Protocol"), Some("burble.v1"));
    }
    for protocols in ["chat", "burble.v2", "Burble.v1x"] {
        ann.upgrade(offer(protocols)).await.err().expect("no socket").refused(400, "unsupported_protocol");
    }
    let session = ann.upgrade(ann.request("GET", "/ws")).await.expect("none need be offered");
    assert_eq!(session.upgrade.header("Sec-WebSocket-Protocol"), None);
}

#[tokio::test]
async fn a_browser_must_come_from_here_or_from_the_allow_list() {
    let server = TestServer::with(&[("SERVER_ORIGINS", "https://chat.example")]).await;
    let ann = server.user("ann").await;
    let from = |origin: &str| ann.request("GET", "/ws").header("Origin", origin);
    for origin in [format!("http://{}", server.address), "https://chat.example".to_owned()] {
        assert!(ann.upgrade(from(&origin)).await.is_ok(), "{origin}");
    }
    let another_port = format!("http://127.0.0.1:{}", server.ops.port());
    for origin in [
        "null",
        &another_port,
        "http://127.0.0.1",
        "http://chat.example",
        "https://chat.example:8443",
        "https://chat.example.evil",
        "https://evil.example",
        "",
    ] {
        ann.upgrade(from(origin)).await.err().expect("no socket").refused(403, "origin_denied");
    }
}

#[tokio::test]
async fn other_origins_read_over_http_only_where_they_are_allowed() {
    let server = TestServer::with(&[("SERVER_ORIGINS", "https://chat.example")]).await;
    let ann = server.user("ann").await;
    let asked = |origin: &str| {
        Request::new("OPTIONS", "/channels")
            .elsewhere()
            .header("Origin", origin)
            .header("Access-Control-Request-Method", "POST")
            .header("Access-Control-Request-Headers", "authorization, content-type")
    };
    let answer = asked("https://chat.example").send(server.address).await;
    assert!((200..300).contains(&answer.status), "{answer:?}");
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("https://chat.example"));
    assert!(answer.header("Access-Control-Allow-Methods").is_some_and(|methods| methods.contains("POST")));
    let headers = answer.header("Access-Control-Allow-Headers").unwrap_or_default().to_lowercase();
    assert!(headers.contains("authorization") && headers.contains("content-type"), "{headers}");
    let foreign = asked("https://evil.example").send(server.address).await;
    assert_eq!(foreign.header("Access-Control-Allow-Origin"), None);
    let me = ann.request("GET", "/me").header("Origin", "https://chat.example").send(server.address).await;
    assert_eq!(me.header("Access-Control-Allow-Origin"), Some("https://chat.example"));
    me.expect(200);
}

#[tokio::test]
async fn a_name_in_the_address_must_be_the_callers_own() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let mut own = ann.upgrade(ann.request("GET", "/ws?name=ann")).await.expect("that is the caller");
    assert_eq!(own.next_of("welcome").await["user"], "ann");
    for name in ["bob", "", "Ann"] {
        let path = format!("/ws?name={name}");
        // By header it shows before the upgrade, or right after it.
        match ann.upgrade(ann.request("GET", &path)).await {
            Err(answer) => answer.refused(403, "forbidden"),
            Ok(mut session) => assert_eq!(session.expect_close().await.code, 4406),
        }
        let mut late = ann.upgrade(Request::new("GET", &path)).await.expect("nobody has signed in yet");
        late.begin(json!({"op": "auth", "token": ann.access})).await;
        assert_eq!(late.expect_close().await.code, 4406, "?name={name}");
    }
}

#[tokio::test]
async fn no_token_is_taken_from_the_address() {
    let server = TestServer::with(&[("SESSION_SIGN_IN_MS", "50")]).await;
    let ann = server.user("ann").await;
    let by_query = Request::new("GET", &format!("/ws?token={0}&access_token={0}", ann.access));
    if let Ok(mut session) = ann.upgrade(by_query).await {
        assert_eq!(session.expect_close().await.code, 4401);
    }
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_commands_and_bear_their_ref() {
    let server = TestServer::start().await;
    let mut session = server.session("ann").await;
    session.create_channel("tea").await;
    let refs = [json!("a"), json!(7), json!(-1), json!(""), json!("r".repeat(64)), json!("ü")];
    let ops = [
        json!({"op": "send", "channel": "tea", "text": "slow"}),
        json!({"op": "ping"}),
        json!({"op": "history", "channel": "tea"}),
        json!({"op": "fly"}),
        json!({"op": "leave", "channel": "tea"}),
        json!({"op": "typing", "channel": "tea"}),
    ];
    for (op, reference) in ops.into_iter().zip(&refs) {
        let mut command = op;
        command["ref"] = reference.clone();
        session.raw(command.to_string()).await;
    }
    for (reference, expected) in refs.iter().zip(["ok", "ok", "ok", "error", "error", "ok"]) {
        let answer = session.next_event().await;
        assert_eq!((&answer["ref"], &answer["ev"]), (reference, &json!(expected)));
    }
    session.raw(r#"{"op":"ping"}"#).await;
    let answer = session.next_of("ok").await;
    assert!(answer["at"].is_i64() && answer.get("ref").is_none(), "{answer}");
}

#[tokio::test]
async fn a_malformed_ref_is_refused_without_one() {
    let server = TestServer::start().await;
    let mut session = server.session("ann").await;
    for reference in [json!(1.5), json!(true), json!({}), json!([1]), json!("r".repeat(65)), json!("ü".repeat(33))] {
        assert_eq!(session.error_raw(&json!({"op": "ping", "ref": reference}).to_string()).await, "bad_request");
    }
    session.expect_silence().await;
}

#[tokio::test]
async fn what_is_no_command_is_refused_and_the_session_goes_on() {
    let server = TestServer::start().await;
    let mut session = server.session("ann").await;
    session.create_channel("tea").await;
    for frame in ["", "{", "ping", r#"{"op":"ping"} {}"#, r#"{"op":"send","channel":"tea","text":"\ud800"}"#] {
        assert_eq!(session.error_raw(frame).await, "bad_json", "{frame}");
    }
    for frame in ["[]", "1", "\"ping\"", "null", "{}", r#"{"op":1}"#, r#"{"op":"join"}"#] {
        assert_eq!(session.error_raw(frame).await, "bad_request", "{frame}");
    }
    assert_eq!(session.error(json!({"op": "fly"})).await, "unknown_op");
    assert_eq!(session.error(json!({"op": "PING"})).await, "unknown_op");
    let nested = format!(r#"{{"op":"ping","ref":1,"x":{}1{}}}"#, "[".repeat(200), "]".repeat(200));
    session.raw(nested).await;
    session.next_event().await; // Unknown and deep: any answer will do, as long as there is one.
    session.ok(json!({"op": "ping", "unknown": {"a": [1]}})).await;
}

#[tokio::test]
async fn each_command_refuses_the_wrong_shape() {
    let server = TestServer::start().await;
    let mut session = server.session("ann").await;
    session.create_channel("tea").await;
    let refused = [
        json!({"op": "join", "channel": 1}),
        json!({"op": "join", "channel": "tea", "since": 1}),
        json!({"op": "join", "channel": "tea", "since": "1"}),
        json!({"op": "join", "channel": "tea", "since": "-1-0"}),
        json!({"op": "join", "channel": "tea", "since": "1-18446744073709551616"}),
        json!({"op": "resume"}),
        json!({"op": "resume", "since": []}),
        json!({"op": "resume", "since": {"tea": 1}}),
        json!({"op": "resume", "since": {"tea": "x"}}),
        json!({"op": "leave"}),
        json!({"op": "typing"}),
        json!({"op": "auth"}),
        json!({"op": "auth", "token": 1}),
        json!({"op": "history", "channel": "tea", "limit": 0}),
        json!({"op": "history", "channel": "tea", "limit": 201}),
        json!({"op": "history", "channel": "tea", "limit": "5"}),
        json!({"op": "history", "channel": "tea", "before": "x"}),
        json!({"op": "history", "channel": "tea", "before": "1-1", "after": "1-1"}),
    ];
    for command in refused {
        assert_eq!(session.error(command.clone()).await, "bad_request", "{command}");
    }
    for op in ["join", "send", "history", "typing"] {
        let code = session.error(json!({"op": op, "channel": "none", "text": "x"})).await;
        assert_eq!(code, "channel_not_found", "{op}");
    }
    assert_eq!(session.error(json!({"op": "leave", "channel": "tea"})).await, "not_joined");
}

#[tokio::test]
async fn after_leaving_nothing_of_the_channel_comes() {
    let server = TestServer::start().await;
    let (mut ann, mut bob) = (server.session("ann").await, server.session("bob").await);
    ann.create_channel("tea").await;
    let joined = bob.join("tea").await;
    assert_eq!((&joined["first"], &joined["last"]), (&Value::Null, &Value::Null));
    let one = ann.send("tea", "one").await;
    assert_eq!(bob.next_message().await["id"], json!(one.id));
    bob.leave("tea").await;
    ann.send("tea", "two").await;
    bob.expect_silence().await;
    assert_eq!(bob.error(json!({"op": "leave", "channel": "tea"})).await, "not_joined");
}
