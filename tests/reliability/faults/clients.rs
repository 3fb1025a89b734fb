//! What happens to the connections of clients: they break, or worse, do not.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::Scene;
use crate::load::fault_proxy::{FaultProxy, Flow};

/// Between two bytes of a connection that trickles.
const TRICKLE: Duration = Duration::from_millis(1);
/// How long a fault lasts: clients lose patience in its midst.
const LASTS: Duration = Duration::from_millis(1_500);
/// How long a client waits for an answer here.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

type Direction = fn(&FaultProxy, Flow);
const DIRECTIONS: [(&str, Direction); 3] =
    [("to server", FaultProxy::to_server), ("to client", FaultProxy::to_client), ("both ways", FaultProxy::both)];

/// How often a client tries to come back where it is refused.
const REFUSALS: Duration = Duration::from_millis(500);

/// Clients come through either of two proxies of the suite's own, before the reverse proxy. Whoever is cut off from one
/// takes the other, so that they are hit by turns.
pub(super) async fn cut(scene: &mut Scene) -> Result<()> {
    let mut turn = 0;
    for _ in 0..scene.form.choose(1, 2) {
        for what in ["reset", "cut", "refuse"] {
            scene.until_any_time().await?;
            scene.mark(what);
            let proxy = &scene.system.before_clients[turn % 2];
            match what {
                "reset" => proxy.reset(),
                "cut" => proxy.cut(),
                _ => {
                    proxy.refuse(true);
                    proxy.reset();
                    sleep(REFUSALS).await;
                    proxy.refuse(false);
                }
            }
            turn += 1;
        }
        for (name, direction) in DIRECTIONS {
            for flow in [Flow::Stall, Flow::Blackhole, Flow::Trickle(TRICKLE)] {
                scene.until_any_time().await?;
                scene.mark(&format!("{flow:?} {name}"));
                direction(&scene.system.before_clients[turn % 2], flow);
                sleep(LASTS).await;
                scene.system.before_clients[turn % 2].both(Flow::Pass);
                turn += 1;
            }
        }
    }
    Ok(())
}
