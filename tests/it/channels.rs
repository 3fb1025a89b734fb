//! Channels and their members over HTTP.

use serde_json::{Value, json};

use crate::support::{TestServer, TestUser, names, text};

#[tokio::test]
async fn a_new_channel_is_described_in_full_and_its_maker_owns_it() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let body = json!({"name": "tea", "kind": "public", "topic": "leaves, not bags"});
    let created = ann.post("/channels", body).await.expect(201)["channel"].clone();
    let mut expected = json!({"name": "tea", "kind": "public", "topic": "leaves, not bags", "role": "owner"});
    expected["created_at"] = created["created_at"].clone();
    expected["first"] = Value::Null;
    expected["last"] = Value::Null;
    assert_eq!(created, expected);
    assert!(created["created_at"].is_i64());
    assert_eq!(ann.get("/channels/tea").await.expect(200), json!({"channel": expected}));
    let seen_by_bob = server.user("bob").await.get("/channels/tea").await.expect(200);
    assert_eq!(seen_by_bob["channel"]["role"], Value::Null);
}

#[tokio::test]
async fn a_channel_that_does_not_fit_is_refused() {
    let server = TestServer::start().await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    ann.create_channel("tea").await;
    ann.create_private("den").await;
    let cases = [
        (json!({"name": "tea", "kind": "public"}), 409, "name_taken"),
        (json!({"name": "den", "kind": "public"}), 409, "name_taken"),
        (json!({"name": "Tea", "kind": "public"}), 400, "bad_request"),
        (json!({"name": "", "kind": "public"}), 400, "bad_request"),
        (json!({"name": "x".repeat(65), "kind": "public"}), 400, "bad_request"),
        (json!({"name": "new", "kind": "secret"}), 400, "bad_request"),
        (json!({"name": "new"}), 400, "bad_request"),
        (json!({"name": "new", "kind": "public", "topic": "x".repeat(257)}), 400, "bad_request"),
        (json!({"name": "new", "kind": "public", "topic": 1}), 400, "bad_request"),
        (json!({"name": "new", "kind": "public", "topic": "a\0b"}), 400, "bad_request"),
    ];
    for (body, status, code) in cases {
        bob.post("/channels", body).await.refused(status, code);
    }
    let topic = "ü".repeat(256);
    let body = json!({"name": "x".repeat(64), "kind": "public", "topic": topic});
    assert_eq!(bob.post("/channels", body).await.expect(201)["channel"]["topic"], json!(topic));
}

#[tokio::test]
async fn the_topic_changes_for_all_to_read() {
    let server = TestServer::start().await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    ann.create_channel("tea").await;
    let changed = ann.patch("/channels/tea", json!({"topic": "oolong"})).await.expect(200);
    assert_eq!((text(&changed["channel"]["topic"]), text(&changed["channel"]["role"])), ("oolong", "owner"));
    assert_eq!(bob.get("/channels/tea").await.expect(200)["channel"]["topic"], "oolong");
    ann.patch("/channels/tea", json!({"topic": "x".repeat(257)})).await.refused(400, "bad_request");
    ann.patch("/channels/tea", json!({"topic": null})).await.refused(400, "bad_request");
    ann.patch("/channels/tea", json!({"topic": ""})).await.expect(200);
}

#[tokio::test]
async fn a_channel_tells_the_ends_of_its_log() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let first = ann.send("tea", "one").await.id;
    let last = ann.send("tea", "two").await.id;
    let channel = ann.get("/channels/tea").await.expect(200)["channel"].clone();
    assert_eq!((text(&channel["first"]), text(&channel["last"])), (first.as_str(), last.as_str()));
}

async fn all_pages(user: &TestUser, path: &str, list: &str, limit: usize) -> Vec<Vec<String>> {
    let (mut pages, mut after) = (Vec::new(), String::new());
    loop {
        let page = user.get(&format!("{path}?limit={limit}{after}")).await.expect(200);
        pages.push(names(&page[list]).into_iter().map(str::to_owned).collect());
        match &page["next"] {
            Value::Null => return pages,
            next => after = format!("&after={}", text(next)),
        }
    }
}

#[tokio::test]
async fn lists_are_paged_by_name_and_end_with_null() {
    let server = TestServer::start().await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    for name in ["e", "a", "c"] {
        ann.create_channel(name).await;
    }
    ann.create_private("b").await;
    ann.create_private("d").await;
    ann.add("b", "bob", "member").await;
    assert_eq!(all_pages(&ann, "/channels", "channels", 2).await, [vec!["a", "b"], vec!["c", "d"], vec!["e"]]);
    assert_eq!(all_pages(&bob, "/channels", "channels", 2).await, [["a", "b"], ["c", "e"]]);
    assert_eq!(all_pages(&bob, "/channels", "channels", 200).await, [["a", "b", "c", "e"]]);
    assert_eq!(all_pages(&bob, "/channels/b/members", "members", 1).await, [["ann"], ["bob"]]);
    for path in ["/channels", "/channels/b/members"] {
        for limit in ["0", "201", "-1", "x", "", "1.5", "99999999999999999999"] {
            ann.get(&format!("{path}?limit={limit}")).await.refused(400, "bad_request");
        }
    }
}

#[tokio::test]
async fn a_list_has_fifty_items_where_nothing_else_is_asked() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    for number in 0..51 {
        ann.create_channel(&format!("c{number:02}")).await;
    }
    let page = ann.get("/channels").await.expect(200);
    assert_eq!(names(&page["channels"]).len(), 50);
    let rest = ann.get(&format!("/channels?after={}", text(&page["next"]))).await.expect(200);
    assert_eq!((names(&rest["channels"]), &rest["next"]), (vec!["c50"], &Value::Null));
}

#[tokio::test]
async fn a_private_channel_looks_like_none_to_who_may_not_see_it() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let mut bob = server.session("bob").await;
    ann.create_private("den").await;
    for name in ["den", "none"] {
        let channel = format!("/channels/{name}");
        let (members, messages) = (format!("{channel}/members"), format!("{channel}/messages"));
        let answers = [
            bob.get(&channel).await,
            bob.patch(&channel, json!({"topic": "mine"})).await,
            bob.delete(&channel).await,
            bob.get(&members).await,
            bob.put(&format!("{members}/bob"), json!({"role": "member"})).await,
            bob.delete(&format!("{members}/bob")).await,
            bob.get(&messages).await,
            bob.post(&messages, json!({"text": "hello"})).await,
        ];
        let bodies: Vec<_> = answers.iter().map(|answer| answer.text()).collect();
        assert!(bodies.iter().all(|body| *body == bodies[0]), "{bodies:#?}");
        answers.into_iter().for_each(|answer| answer.refused(404, "channel_not_found"));
        for op in ["join", "send", "history", "typing"] {
            let code = bob.error(json!({"op": op, "channel": name, "text": "hello"})).await;
            assert_eq!(code, "channel_not_found", "{op} {name}");
        }
        let answer = bob.ok(json!({"op": "resume", "since": {name: "0-0"}})).await;
        assert_eq!(answer["refused"], json!({name: "channel_not_found"}));
        assert_eq!(answer["joined"], json!({}));
    }
    assert_eq!(names(&bob.get("/channels").await.expect(200)["channels"]), Vec::<&str>::new());
}

#[tokio::test]
async fn a_deleted_channel_is_gone_with_its_history_and_sessions_are_told() {
    let server = TestServer::start().await;
    let (ann, mut bob) = (server.user("ann").await, server.session("bob").await);
    ann.create_channel("tea").await;
    bob.join("tea").await;
    let old = bob.send("tea", "old").await.id;
    bob.next_message().await;
    ann.delete("/channels/tea").await.expect(204);
    assert_eq!(bob.next_event().await, json!({"ev": "left", "channel": "tea", "reason": "deleted"}));
    assert_eq!(bob.error(json!({"op": "send", "channel": "tea", "text": "?"})).await, "channel_not_found");
    ann.delete("/channels/tea").await.refused(404, "channel_not_found");

    ann.create_channel("tea").await;
    assert_eq!(ann.history("tea", "").await["events"], json!([]));
    let joined = bob.join_since("tea", &old).await;
    assert_eq!((&joined["first"], &joined["last"]), (&Value::Null, &Value::Null));
    let gap = bob.next_event().await;
    let expected = json!({"ev": "gap", "channel": "tea", "reason": "epoch_changed", "first": null, "last": null});
    assert_eq!(gap, expected);
    assert_eq!(bob.next_event().await, json!({"ev": "caught_up", "channel": "tea", "id": null}));
    let new = bob.send("tea", "new").await.id;
    assert!(crate::support::client::position(&json!(new)) > crate::support::client::position(&json!(old)));
    assert_eq!(bob.next_message().await["id"], json!(new));
}

#[tokio::test]
async fn members_are_added_changed_and_removed() {
    let server = TestServer::start().await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    ann.create_private("den").await;
    let member = ann.add("den", "bob", "member").await;
    assert_eq!((text(&member["name"]), text(&member["role"])), ("bob", "member"));
    assert!(member["added_at"].is_i64());
    let raised = ann.add("den", "bob", "moderator").await;
    assert_eq!((&raised["role"], &raised["added_at"]), (&json!("moderator"), &member["added_at"]));
    let list = bob.get("/channels/den/members").await.expect(200);
    assert_eq!(names(&list["members"]), ["ann", "bob"]);
    assert_eq!(list["members"][1], raised);
    assert_eq!(bob.get("/channels/den").await.expect(200)["channel"]["role"], "moderator");
    let path = "/channels/den/members";
    ann.put(&format!("{path}/nobody"), json!({"role": "member"})).await.refused(404, "user_not_found");
    ann.put(&format!("{path}/bob"), json!({"role": "king"})).await.refused(400, "bad_request");
    ann.put(&format!("{path}/bob"), json!({})).await.refused(400, "bad_request");
    ann.delete(&format!("{path}/nobody")).await.refused(404, "user_not_found");
    ann.remove("den", "bob").await;
    ann.delete(&format!("{path}/bob")).await.refused(404, "user_not_found");
    bob.get("/channels/den").await.refused(404, "channel_not_found");
}

#[tokio::test]
async fn a_channel_keeps_its_last_owner() {
    let server = TestServer::start().await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    ann.create_channel("tea").await;
    ann.delete("/channels/tea/members/ann").await.refused(409, "last_owner");
    ann.put("/channels/tea/members/ann", json!({"role": "member"})).await.refused(409, "last_owner");
    ann.add("tea", "bob", "owner").await;
    bob.add("tea", "ann", "member").await;
    bob.delete("/channels/tea/members/bob").await.refused(409, "last_owner");
    ann.remove("tea", "ann").await;
    assert_eq!(names(&ann.get("/channels/tea/members").await.expect(200)["members"]), ["bob"]);
}

#[tokio::test]
async fn concurrent_owners_cannot_leave_a_channel_without_one() {
    let server = TestServer::start().await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    for round in 0..10 {
        let channel = format!("c{round}");
        ann.create_channel(&channel).await;
        ann.add(&channel, "bob", "owner").await;
        let path = format!("/channels/{channel}/members");
        let (mine, theirs) = (format!("{path}/ann"), format!("{path}/bob"));
        let (one, two) = tokio::join!(ann.delete(&mine), bob.delete(&theirs));
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 409]);
    }
}
