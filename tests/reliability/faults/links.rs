//! What happens between a node and its Redis.

use std::time::Duration;

use anyhow::Result;
use tokio::time::sleep;

use super::Scene;
use crate::load::fault_proxy::Flow;

/// What a feed keeps in these runs.
pub(super) const WINDOW_SECONDS: u64 = 6;
/// Within what a feed keeps, and beyond it.
const TIMES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(WINDOW_SECONDS + 3)];

/// One node after the other loses its Redis, by a break that shows at once and by one that does not.
pub(super) async fn cut(scene: &mut Scene) -> Result<()> {
    for _ in 0..scene.form.choose(1, 2) {
        for time in TIMES {
            for silent in [false, true] {
                if scene.form == super::Form::Short && silent != (time == TIMES[0]) {
                    continue;
                }
                scene.until_any_time().await?;
                let node = scene.any_node();
                scene.mark(if silent { "silent cut" } else { "cut" });
                let link = &scene.system.before_redis[node];
                if silent {
                    link.both(Flow::Blackhole);
                } else {
                    link.refuse(true);
                    link.reset();
                }
                sleep(time).await;
                scene.mark("mended");
                let link = &scene.system.before_redis[node];
                link.both(Flow::Pass);
                link.refuse(false);
                scene.system.nodes[node].until_ready().await?;
            }
        }
    }
    Ok(())
}
