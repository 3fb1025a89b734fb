//! Another token key, while people are signed in.

use serde_json::json;

use crate::support::token::SECRET;
use crate::support::{TestServer, TestUser};

const NEW: &str = "the key after that, of more than 32 bytes too";

/// Every token is good on every node.
async fn all_are_good(users: &[TestUser], nodes: &[TestServer]) {
    for user in users {
        for node in nodes {
            assert_eq!(user.at(node).get("/me").await.expect(200)["user"]["name"], "ann");
        }
    }
}

#[tokio::test]
async fn the_token_key_changes_under_two_nodes_without_signing_anybody_out() {
    let (one, two) = TestServer::pair().await;
    let mut nodes = vec![one, two];
    let mut ann = vec![nodes[0].user("ann").await];
    ann[0].create_channel("tea").await;
    // In the order of docs/operations.md: all know the new key; then all sign with it.
    for (key, other) in [(SECRET, NEW), (NEW, SECRET)] {
        for _ in 0..nodes.len() {
            let mut leaving = nodes.remove(0);
            let mut staying = ann[0].at(&nodes[0]).session().await;
            let mut moving = ann[0].at(&leaving).session().await;
            let last = moving.send("tea", "before").await.id;
            assert!(leaving.stop().await.success());
            assert_eq!(moving.expect_close().await.code, 1012);
            // What a client does then: to another node, with the token that it has.
            let mut moved = ann[0].at(&nodes[0]).session().await;
            moved.join_since("tea", &last).await;
            nodes.push(leaving.again_with(&[("AUTH_SECRET", key), ("AUTH_SECRET_PREVIOUS", other)]).await);
            staying.ok(json!({"op": "ping"})).await;
            ann.push(ann[0].at(&nodes[1]).log_in().await);
            moved.ok(json!({"op": "auth", "token": ann[ann.len() - 1].access})).await;
            all_are_good(&ann, &nodes).await;
        }
    }
    // After AUTH_ACCESS_SECONDS no token of the old key is left: the key may go, and who is away may still come back.
    let mut alone = Vec::new();
    for node in nodes {
        alone.push(node.again_with(&[("AUTH_SECRET_PREVIOUS", "")]).await);
    }
    ann[0].at(&alone[0]).get("/me").await.refused(401, "unauthenticated");
    let refreshed = ann[0].at(&alone[0]).refreshed().await;
    all_are_good(&[refreshed, ann.remove(ann.len() - 1)], &alone).await;
}
