//! Pages of what was said, over HTTP and the socket, which answer alike.

use serde_json::{Value, json};

use crate::support::{Session, TestServer, items, message, texts, without};

/// A channel with the messages "0" to "9", and their positions.
async fn ten(server: &TestServer) -> (Session, Vec<String>) {
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let mut ids = Vec::new();
    for number in 0..10 {
        ids.push(ann.send("tea", &number.to_string()).await.id);
    }
    (ann, ids)
}

/// The same page through both doors.
async fn page(session: &mut Session, anchor: Option<(&str, &str)>, limit: Option<u32>) -> Value {
    let mut command = json!({"op": "history", "channel": "tea"});
    let mut query = Vec::new();
    if let Some((name, position)) = anchor {
        command[name] = position.into();
        query.push(format!("{name}={position}"));
    }
    if let Some(limit) = limit {
        command["limit"] = limit.into();
        query.push(format!("limit={limit}"));
    }
    let over_http = session.history("tea", &format!("?{}", query.join("&"))).await;
    let mut over_socket = session.ok(command).await;
    for field in ["ev", "ref"] {
        over_socket.as_object_mut().expect("an object").remove(field);
    }
    assert_eq!(over_socket, over_http);
    over_http
}

#[tokio::test]
async fn without_a_position_the_latest_page_comes() {
    let server = TestServer::start().await;
    let (mut ann, ids) = ten(&server).await;
    let latest = page(&mut ann, None, Some(3)).await;
    assert_eq!(texts(items(&latest["events"])), ["7", "8", "9"]);
    assert_eq!((&latest["first"], &latest["last"], &latest["more"]), (&json!(ids[0]), &json!(ids[9]), &json!(true)));
    let newest = items(&latest["events"])[2].clone();
    assert_eq!(without(newest, &["at"]), message("tea", &ids[9], "ann", "9"));
    let all = page(&mut ann, None, None).await;
    assert_eq!((items(&all["events"]).len(), &all["more"]), (10, &json!(false)));
}

#[tokio::test]
async fn before_and_after_leave_the_position_out_and_say_whether_there_is_more() {
    let server = TestServer::start().await;
    let (mut ann, ids) = ten(&server).await;
    let cases = [
        ("before", 5, 3, vec!["2", "3", "4"], true),
        ("before", 5, 5, vec!["0", "1", "2", "3", "4"], false),
        ("before", 3, 200, vec!["0", "1", "2"], false),
        ("before", 0, 3, vec![], false),
        ("after", 5, 3, vec!["6", "7", "8"], true),
        ("after", 5, 4, vec!["6", "7", "8", "9"], false),
        ("after", 9, 3, vec![], false),
    ];
    for (name, at, limit, expected, more) in cases {
        let page = page(&mut ann, Some((name, &ids[at])), Some(limit)).await;
        assert_eq!(texts(items(&page["events"])), expected, "{limit} {name} {at}");
        assert_eq!(page["more"], more, "{limit} {name} {at}");
        assert_eq!((&page["first"], &page["last"]), (&json!(ids[0]), &json!(ids[9])));
    }
}

#[tokio::test]
async fn around_puts_the_position_in_the_middle() {
    let server = TestServer::start().await;
    let (mut ann, ids) = ten(&server).await;
    let cases = [
        (5, 3, vec!["4", "5", "6"], true),
        (5, 1, vec!["5"], true),
        (5, 200, vec!["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"], false),
    ];
    for (at, limit, expected, more) in cases {
        let page = page(&mut ann, Some(("around", &ids[at])), Some(limit)).await;
        assert_eq!((texts(items(&page["events"])), &page["more"]), (expected, &json!(more)), "{limit} around {at}");
    }
    for at in [0, 9] {
        let page = page(&mut ann, Some(("around", &ids[at])), Some(4)).await;
        assert!(texts(items(&page["events"])).contains(&at.to_string().as_str()), "{page}");
        assert!(items(&page["events"]).len() <= 4);
        assert_eq!(page["more"], true);
    }
}

#[tokio::test]
async fn any_well_formed_position_will_do() {
    let server = TestServer::start().await;
    let (mut ann, ids) = ten(&server).await;
    let far = "18446744073709551615-18446744073709551615";
    let beyond = format!("{}-500", ids[0].split_once('-').expect("a position").0);
    let cases = [
        ("after", "0-0", "0"),
        ("before", far, "9"),
        ("before", beyond.as_str(), "9"),
        ("around", "0-0", "0"),
        ("around", far, "9"),
    ];
    for (name, position, expected) in cases {
        let page = page(&mut ann, Some((name, position)), None).await;
        assert!(texts(items(&page["events"])).contains(&expected), "{name} {position}: {page}");
    }
    for (name, position) in [("before", "0-0"), ("after", far), ("after", beyond.as_str())] {
        let page = page(&mut ann, Some((name, position)), None).await;
        assert_eq!((&page["events"], &page["more"]), (&json!([]), &json!(false)), "{name} {position}");
    }
}

#[tokio::test]
async fn an_empty_log_has_no_ends() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let expected = json!({"events": [], "first": null, "last": null, "more": false});
    for anchor in [None, Some(("before", "1-1")), Some(("after", "0-0")), Some(("around", "1-1"))] {
        assert_eq!(page(&mut ann, anchor, None).await, expected);
    }
}

#[tokio::test]
async fn paging_in_either_direction_shows_everything_once() {
    let server = TestServer::start().await;
    let (mut ann, _) = ten(&server).await;
    let (mut forward, mut at) = (Vec::new(), json!("0-0"));
    loop {
        let page = page(&mut ann, Some(("after", at.as_str().expect("a position"))), Some(3)).await;
        forward.extend(texts(items(&page["events"])).into_iter().map(str::to_owned));
        match items(&page["events"]).last() {
            Some(last) if page["more"] == true => at = last["id"].clone(),
            _ => break,
        }
    }
    assert_eq!(forward, (0..10).map(|number| number.to_string()).collect::<Vec<_>>());
    let (mut backward, mut page_now) = (Vec::new(), page(&mut ann, None, Some(3)).await);
    loop {
        backward.splice(0..0, texts(items(&page_now["events"])).into_iter().map(str::to_owned));
        if page_now["more"] == false {
            break;
        }
        let oldest = page_now["events"][0]["id"].as_str().expect("a position").to_owned();
        page_now = page(&mut ann, Some(("before", &oldest)), Some(3)).await;
    }
    assert_eq!(backward, forward);
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() {
    let server = TestServer::start().await;
    let (ann, ids) = ten(&server).await;
    let both = format!("before={0}&after={0}", ids[5]);
    for query in
        ["limit=0", "limit=201", "limit=x", "before=x", "after=1", "around=1-", "before=1-18446744073709551616", &both]
    {
        ann.get(&format!("/channels/tea/messages?{query}")).await.refused(400, "bad_request");
    }
    ann.get("/channels/none/messages").await.refused(404, "channel_not_found");
    let all = ann.history("tea", "?limit=200&unknown=1").await;
    assert_eq!(items(&all["events"]).len(), 10);
}

#[tokio::test]
async fn the_largest_page_there_can_be_arrives() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    // Six bytes of JSON for each of its own.
    let text = "\u{1}".repeat(8_192);
    let data = json!({"rest": "x".repeat(8_192 - r#"{"rest":""}"#.len())});
    for _ in 0..200 {
        ann.send_with(json!({"channel": "tea", "text": text, "data": data})).await;
    }
    let page = ann.ok(json!({"op": "history", "channel": "tea", "limit": 200})).await;
    let events = items(&page["events"]);
    assert_eq!(events.len(), 200);
    assert!(events.iter().all(|event| event["text"] == text && event["data"] == data));
}
