//! One table: who may do what to which kind of channel.

use serde_json::json;

use crate::support::{Answer, Session, TestServer};

const ROLES: [&str; 4] = ["owner", "moderator", "member", "none"];

/// What each of the roles is answered, in the order of `ROLES`; 200 stands for any success.
struct Row {
    what: &'static str,
    public: [u16; 4],
    private: [u16; 4],
}

const TABLE: [Row; 18] = [
    Row { what: "read", public: [200, 200, 200, 200], private: [200, 200, 200, 404] },
    Row { what: "change the topic", public: [200, 200, 403, 403], private: [200, 200, 403, 404] },
    Row { what: "read members", public: [200, 200, 200, 200], private: [200, 200, 200, 404] },
    Row { what: "add a member", public: [200, 200, 403, 403], private: [200, 200, 403, 404] },
    Row { what: "add a moderator", public: [200, 403, 403, 403], private: [200, 403, 403, 404] },
    Row { what: "raise a member", public: [200, 403, 403, 403], private: [200, 403, 403, 404] },
    Row { what: "lower a moderator", public: [200, 403, 403, 403], private: [200, 403, 403, 404] },
    Row { what: "lower an owner", public: [200, 403, 403, 403], private: [200, 403, 403, 404] },
    Row { what: "remove a member", public: [200, 200, 403, 403], private: [200, 200, 403, 404] },
    Row { what: "remove a moderator", public: [200, 403, 403, 403], private: [200, 403, 403, 404] },
    Row { what: "remove an owner", public: [200, 403, 403, 403], private: [200, 403, 403, 404] },
    Row { what: "post", public: [200, 200, 200, 200], private: [200, 200, 200, 404] },
    Row { what: "read history", public: [200, 200, 200, 200], private: [200, 200, 200, 404] },
    Row { what: "join", public: [200, 200, 200, 200], private: [200, 200, 200, 404] },
    Row { what: "send", public: [200, 200, 200, 200], private: [200, 200, 200, 404] },
    Row { what: "history", public: [200, 200, 200, 200], private: [200, 200, 200, 404] },
    Row { what: "typing", public: [200, 200, 200, 200], private: [200, 200, 200, 404] },
    Row { what: "delete", public: [200, 403, 403, 403], private: [200, 403, 403, 404] },
];

#[tokio::test]
async fn each_role_may_do_what_the_table_says() {
    let server = TestServer::start().await;
    let boss = server.user("boss").await;
    for name in ["new", "a-member", "a-moderator", "an-owner"] {
        server.user(name).await;
    }
    let mut callers = Vec::new();
    for role in ROLES {
        callers.push(server.session(&format!("the-{role}")).await);
    }
    for (number, row) in TABLE.iter().enumerate() {
        for (kind, expected) in [("public", row.public), ("private", row.private)] {
            for ((role, caller), status) in ROLES.into_iter().zip(&mut callers).zip(expected) {
                // A channel of its own for each case: what one may do changes it.
                let channel = format!("c{number}-{kind}-{role}");
                boss.post("/channels", json!({"name": channel, "kind": kind})).await.expect(201);
                boss.add(&channel, "a-member", "member").await;
                boss.add(&channel, "a-moderator", "moderator").await;
                boss.add(&channel, "an-owner", "owner").await;
                if role != "none" {
                    boss.add(&channel, &format!("the-{role}"), role).await;
                }
                let found = attempt(caller, row.what, &channel).await;
                assert_eq!(found, status, "{role} is to {} of a {kind} channel", row.what);
            }
        }
    }
}

/// The status; for a refusal, after a look at its code.
async fn attempt(caller: &mut Session, what: &str, channel: &str) -> u16 {
    let path = format!("/channels/{channel}");
    let member = |name: &str| format!("{path}/members/{name}");
    let role = |role: &str| json!({ "role": role });
    let answer = match what {
        "read" => caller.get(&path).await,
        "change the topic" => caller.patch(&path, json!({"topic": "new"})).await,
        "read members" => caller.get(&format!("{path}/members")).await,
        "add a member" => caller.put(&member("new"), role("member")).await,
        "add a moderator" => caller.put(&member("new"), role("moderator")).await,
        "raise a member" => caller.put(&member("a-member"), role("moderator")).await,
        "lower a moderator" => caller.put(&member("a-moderator"), role("member")).await,
        "lower an owner" => caller.put(&member("an-owner"), role("member")).await,
        "remove a member" => caller.delete(&member("a-member")).await,
        "remove a moderator" => caller.delete(&member("a-moderator")).await,
        "remove an owner" => caller.delete(&member("an-owner")).await,
        "post" => caller.post_message(channel, json!({"text": "hello"})).await,
        "read history" => caller.get(&format!("{path}/messages")).await,
        "delete" => caller.delete(&path).await,
        op => return attempt_op(caller, op, channel).await,
    };
    status_of(answer)
}

fn status_of(answer: Answer) -> u16 {
    let status = answer.status;
    match status {
        200..=299 => return 200,
        403 => answer.refused(403, "forbidden"),
        404 => answer.refused(404, "channel_not_found"),
        _ => panic!("{} {}", answer.status, answer.text()),
    }
    status
}

async fn attempt_op(caller: &mut Session, op: &str, channel: &str) -> u16 {
    let mut command = json!({"op": op, "channel": channel});
    if op == "send" {
        command["text"] = "hello".into();
    }
    let answer = caller.ask(command).await;
    if op == "join" && answer["ev"] == "ok" {
        caller.leave(channel).await;
    }
    match (answer["ev"].as_str(), answer["code"].as_str()) {
        (Some("ok"), _) => 200,
        (_, Some("forbidden")) => 403,
        (_, Some("channel_not_found")) => 404,
        _ => panic!("{op} was answered {answer}"),
    }
}

#[tokio::test]
async fn members_and_moderators_may_leave_by_themselves() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    for kind in ["public", "private"] {
        ann.post("/channels", json!({"name": kind, "kind": kind})).await.expect(201);
        for role in ["member", "moderator", "owner"] {
            let name = format!("{kind}-{role}");
            let user = server.user(&name).await;
            ann.add(kind, &name, role).await;
            user.remove(kind, &name).await;
        }
    }
}

#[tokio::test]
async fn who_is_removed_from_a_private_channel_is_told_and_hears_no_more() {
    let server = TestServer::start().await;
    let (mut ann, mut bob, mut eve) =
        (server.session("ann").await, server.session("bob").await, server.session("eve").await);
    ann.create_private("den").await;
    for name in ["bob", "eve"] {
        ann.add("den", name, "member").await;
    }
    for session in [&mut bob, &mut eve] {
        session.join("den").await;
    }
    ann.remove("den", "bob").await;
    eve.remove("den", "eve").await;
    for session in [&mut bob, &mut eve] {
        assert_eq!(session.next_event().await, json!({"ev": "left", "channel": "den", "reason": "removed"}));
        assert_eq!(session.error(json!({"op": "leave", "channel": "den"})).await, "not_joined");
    }
    let missed = ann.send("den", "they are gone").await.id;
    bob.expect_silence().await;
    ann.add("den", "bob", "member").await;
    bob.join_since("den", "0-0").await;
    assert_eq!(bob.next_message().await["id"], json!(missed), "who is added again may read what was logged meanwhile");
}

#[tokio::test]
async fn losing_a_role_in_a_public_channel_ends_no_session() {
    let server = TestServer::start().await;
    let (mut ann, mut bob) = (server.session("ann").await, server.session("bob").await);
    ann.create_channel("tea").await;
    ann.add("tea", "bob", "member").await;
    bob.join("tea").await;
    ann.remove("tea", "bob").await;
    let sent = ann.send("tea", "still here?").await;
    assert_eq!(bob.next_message().await["id"], json!(sent.id));
}
