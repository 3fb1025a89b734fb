//! Forged, stale and misplaced tokens.

use burble::clock::now_ms;
use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::support::token::{Forged, SECRET};
use crate::support::{Request, TestServer, TestUser};

fn now_seconds() -> u64 {
    u64::try_from(now_ms() / 1_000).expect("after 1970")
}

#[tokio::test]
async fn a_forged_token_opens_nothing() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let good = Forged::from(&ann.access);
    Request::new("GET", "/me").bearer(&good.clone().signed()).send(server.address).await.expect(200);
    let none = |alg: &str| good.clone().header("alg", alg).unsigned();
    let (head, signature) = ann.access.rsplit_once('.').expect("three parts");
    let other_user =
        good.clone().claim("name", "bob").signed_with("another key of more than 32 bytes!!", Algorithm::HS256);
    let forged = [
        ("no algorithm", none("none")),
        ("no algorithm, in capitals", none("None")),
        ("a stronger algorithm", good.clone().header("alg", "HS512").signed_with(SECRET, Algorithm::HS512)),
        ("an algorithm that was not used", good.clone().header("alg", "RS256").signed()),
        ("another key", good.clone().signed_with("another key of more than 32 bytes!!", Algorithm::HS256)),
        ("another key and user", other_user),
        ("an unknown kid", good.clone().header("kid", "../../dev/null").signed()),
        (
            "another's signature",
            format!("{}.{signature}", good.clone().claim("name", "bob").unsigned().trim_end_matches('.')),
        ),
        ("no signature", head.to_owned()),
        ("an empty signature", format!("{head}.")),
        ("a refresh token", ann.refresh.clone()),
        ("nothing", String::new()),
        ("nonsense", "a.b.c".to_owned()),
    ];
    for (what, token) in forged {
        let answer = Request::new("GET", "/me").bearer(&token).send(server.address).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"), "{what}");
    }
}

#[tokio::test]
async fn a_malformed_claim_is_unauthenticated_though_the_signature_is_good() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let good = Forged::from(&ann.access);
    let malformed = [
        ("iss", good.clone().claim("iss", "mumble")),
        ("aud", good.clone().claim("aud", "mumble")),
        ("no iss", good.clone().without("iss")),
        ("no aud", good.clone().without("aud")),
        ("no exp", good.clone().without("exp")),
        ("exp as text", good.clone().claim("exp", (now_seconds() + 600).to_string())),
        ("exp as a fraction", good.clone().claim("exp", now_seconds() as f64 + 600.5)),
        ("exp below zero", good.clone().claim("exp", -1)),
        ("exp as null", good.clone().claim("exp", json!(null))),
        ("an unknown sub", good.clone().claim("sub", "018f0000-0000-7000-8000-000000000000")),
        ("a sub that is no id", good.clone().claim("sub", "ann")),
        ("a sub that is a number", good.clone().claim("sub", 1)),
        ("no sub", good.clone().without("sub")),
        ("an unknown sid", good.clone().claim("sid", "018f0000-0000-7000-8000-000000000000")),
        ("no sid", good.clone().without("sid")),
    ];
    for (what, token) in malformed {
        let answer = Request::new("GET", "/me").bearer(&token.signed()).send(server.address).await;
        assert_eq!((answer.status, answer.code().as_str()), (401, "unauthenticated"), "{what}");
    }
}

#[tokio::test]
async fn a_token_that_ran_out_says_so() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let stale =
        Forged::from(&ann.access).claim("exp", now_seconds() - 3_600).claim("iat", now_seconds() - 4_000).signed();
    Request::new("GET", "/me").bearer(&stale).send(server.address).await.refused(401, "token_expired");
    let late = crate::support::TestUser { access: stale, ..ann };
    late.session_refused().await.refused(401, "token_expired");
}

#[tokio::test]
async fn an_authorization_that_is_not_one_bearer_token_is_refused() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let me = || Request::new("GET", "/me");
    ann.request("GET", "/me").bearer(&ann.access).send(server.address).await.refused(401, "unauthenticated");
    for value in
        [format!("Basic {}", ann.access), ann.access.clone(), "Bearer".into(), format!("Bearer  {} x", ann.access)]
    {
        me().header("Authorization", &value).send(server.address).await.refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn two_keys_are_good_during_a_rotation() {
    let old = "the key that was used until now, 32 bytes";
    let mut server = TestServer::with(&[("AUTH_SECRET", old)]).await;
    let ann = server.user("ann").await;
    server.stop().await;
    let server = server.again_with(&[("AUTH_SECRET", SECRET), ("AUTH_SECRET_PREVIOUS", old)]).await;
    ann.at(&server).get("/me").await.expect(200);
    let renewed = ann.at(&server).refreshed().await;
    renewed.get("/me").await.expect(200);
    let old_kid = Forged::from(&ann.access).header["kid"].clone();
    assert_ne!(Forged::from(&renewed.access).header["kid"], old_kid, "new tokens bear the new key's name");
}

#[tokio::test]
async fn who_but_knows_the_id_of_a_sign_in_cannot_end_it() {
    let server = TestServer::start().await;
    let first = server.user("ann").await;
    let second = first.refreshed().await;
    let third = second.refreshed().await;
    let made_up = |refresh: String| TestUser { refresh, ..third.clone() };
    // The first token's id and generation, with other random bytes; then its mark as well as it can be guessed.
    let (token, mark) = first.refresh.split_once('.').expect("token and mark");
    let forged = format!("{}{}", &token[..30], "A".repeat(token.len() - 30));
    for mark in [mark, &"A".repeat(mark.len())] {
        made_up(format!("{forged}.{mark}")).try_refresh().await.refused(401, "unauthenticated");
    }
    third.get("/me").await.expect(200);
    let fourth = third.refreshed().await;
    // The same reuse with the token that was issued ends it.
    first.try_refresh().await.refused(401, "unauthenticated");
    fourth.is_locked_out().await;
}
