//! The load against real servers, with what networks and crashes do to them.

use std::time::Duration;

use super::checker::Outcome;
use super::fault_proxy::{FaultProxy, Flow};
use super::history::History;
use super::{Load, LoadOptions};
use crate::support::{LONG_PATIENCE, TestServer, within};

/// Until so many more messages were acknowledged.
async fn acknowledged(load: &Load, more: u64) {
    let mut count = load.acknowledged();
    let goal = *count.borrow() + more;
    within(LONG_PATIENCE, "messages are acknowledged", count.wait_for(|count| *count >= goal)).await.expect("writers");
}

#[track_caller]
fn kept_the_promise(outcome: &Outcome) {
    let figures = &outcome.figures;
    println!("{figures:#?}");
    assert_eq!(outcome.violations, []);
    assert_eq!(figures.sent, figures.acknowledged);
    assert_eq!((figures.lost, figures.doubled, figures.reordered), (0, 0, 0));
    assert!(figures.send_to_ok.max >= figures.send_to_ok.p99 && figures.send_to_ok.p99 >= figures.send_to_ok.p50);
    assert!(figures.send_to_delivery.count == figures.delivered && figures.delivered > 0);
}

#[tokio::test]
async fn undisturbed_nothing_is_lost_and_nobody_has_to_come_back() {
    let server = TestServer::start().await;
    let history = History::new();
    let slow = Some(Duration::from_millis(2));
    let load = Load::start(LoadOptions { addresses: vec![server.address], slow, ..Default::default() }, &history).await;
    acknowledged(&load, 100).await;
    load.pause();
    load.go_on();
    acknowledged(&load, 100).await;
    let outcome = load.finish().await;
    kept_the_promise(&outcome);
    assert_eq!((outcome.figures.reconnects, outcome.figures.errors.len()), (0, 0));
    assert!(outcome.figures.longest_silence > Duration::ZERO);
    assert!(outcome.figures.repeated > 10, "some are repeated on purpose");
}

#[tokio::test]
async fn a_killed_node_breaks_no_promise() {
    let (one, mut two) = TestServer::pair().await;
    let history = History::new();
    let addresses = vec![one.address, two.address];
    let load = Load::start(LoadOptions { addresses, ..Default::default() }, &history).await;
    acknowledged(&load, 200).await;
    history.mark("killed");
    two.kill().await;
    acknowledged(&load, 200).await;
    let outcome = load.finish().await;
    kept_the_promise(&outcome);
    assert!(outcome.figures.reconnects > 0);
    let (mark, recovered) = &outcome.figures.recovered[0];
    assert_eq!(mark, "killed");
    assert!(recovered.is_some(), "everybody was served again");
}

#[tokio::test]
async fn broken_connections_break_no_promise() {
    let (one, two) = TestServer::pair().await;
    let (before_one, before_two) = (FaultProxy::start(one.address).await, FaultProxy::start(two.address).await);
    let history = History::new();
    let addresses = vec![before_one.address, before_two.address];
    let patience = Duration::from_secs(1);
    let load = Load::start(LoadOptions { addresses, patience, ..Default::default() }, &history).await;
    acknowledged(&load, 100).await;
    before_one.reset();
    before_two.cut();
    acknowledged(&load, 100).await;
    before_two.refuse(true);
    before_two.reset();
    acknowledged(&load, 100).await;
    before_two.refuse(false);
    for fault in [FaultProxy::to_server, FaultProxy::to_client, FaultProxy::both] {
        for flow in [Flow::Stall, Flow::Blackhole, Flow::Trickle(Duration::from_millis(1))] {
            fault(&before_one, flow);
            acknowledged(&load, 100).await;
            before_one.both(Flow::Pass);
            acknowledged(&load, 50).await;
        }
    }
    let outcome = load.finish().await;
    kept_the_promise(&outcome);
    assert!(outcome.figures.reconnects > 0 && outcome.figures.open > 0);
}

#[tokio::test]
async fn who_is_removed_hears_no_more_and_the_others_go_on() {
    let (one, two) = TestServer::pair().await;
    let history = History::new();
    let addresses = vec![one.address, two.address];
    let load = Load::start(LoadOptions { addresses, private: true, ..Default::default() }, &history).await;
    acknowledged(&load, 100).await;
    load.remove(0, 0).await;
    load.remove(1, 2).await;
    acknowledged(&load, 200).await;
    kept_the_promise(&load.finish().await);
}
