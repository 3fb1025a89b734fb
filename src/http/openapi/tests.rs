//! The document in `docs/` is the one of the code, and of all its routes.

use std::collections::BTreeSet;

use expect_test::expect_file;

use super::{document, operations};
use crate::protocol::schema::assert_checked_in;

#[test]
fn the_document_of_http_is_the_one_of_the_code() {
    assert_checked_in(&document(), expect_file!["../../../docs/openapi.json"]);
}

#[test]
fn every_route_is_described_and_nothing_else() {
    let described = operations().into_iter().map(|(_, it)| format!("{} {}", it.method, it.path));
    let described = described.map(|call| call.replace("{name}", "{}").replace("{user}", "{}"));
    assert_eq!(described.collect::<BTreeSet<_>>(), include_str!("../routes.rs").lines().filter_map(routed).collect());
}

/// The method and path of a line that routes; what only conformance suites are served is for nobody else.
fn routed(line: &str) -> Option<String> {
    let (_, route) = line.split_once("route!(api, ")?;
    let (method, route) = route.split_once(", path!(")?;
    let (path, _) = route.split_once(')')?;
    let parts = path.split(" / ").map(|part| if part == "String" { "{}" } else { part.trim_matches('"') });
    let path = parts.collect::<Vec<_>>().join("/");
    (path != "echo").then(|| format!("{} /{path}", method.to_uppercase()))
}
