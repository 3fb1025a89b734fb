//! What happens to nodes: they are killed, stopped, or stand still.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Form, Scene};
use crate::system::Node;

/// Long enough for the proxy and every client to notice.
const FREEZE_SHORT: Duration = Duration::from_secs(5);
/// Longer than the feeds are kept: the node has missed what it cannot read from them any more.
const FREEZE_LONG: Duration = Duration::from_secs(60);

pub(super) async fn kill(scene: &mut Scene) -> Result<()> {
    for _ in 0..scene.form.choose(3, 12) {
        scene.until_any_time().await?;
        let node = scene.any_node();
        scene.mark("kill");
        scene.system.nodes[node].kill().await?;
        scene.until_any_time().await?;
        scene.system.nodes[node].start().await?;
    }
    Ok(())
}

pub(super) async fn restart_all(scene: &mut Scene) -> Result<()> {
    for _ in 0..scene.form.choose(1, 4) {
        restart_each(scene, "stop").await?;
    }
    Ok(())
}

/// The nodes are of a former version, and the first that is of this one changes the tables under the others.
pub(super) async fn upgrade(scene: &mut Scene) -> Result<()> {
    scene.system.nodes.iter_mut().for_each(Node::upgrade);
    restart_each(scene, "upgrade").await
}

async fn restart_each(scene: &mut Scene, mark: &'static str) -> Result<()> {
    for number in 0..scene.system.nodes.len() {
        scene.until_any_time().await?;
        scene.mark(mark);
        let node = &mut scene.system.nodes[number];
        let status = node.stop().await?;
        ensure!(status.success(), "{} was asked to stop and ended with {status}", node.name);
        node.start().await?;
        // Whoever does this for real waits as well: else nobody is left to serve.
        scene.system.proxy.until_serving(scene.system.nodes.len()).await?;
    }
    Ok(())
}

pub(super) async fn freeze(scene: &mut Scene) -> Result<()> {
    let times: &[Duration] = match scene.form {
        Form::Short => &[FREEZE_SHORT],
        Form::Full => &[FREEZE_SHORT, FREEZE_LONG],
    };
    for time in times {
        scene.until_any_time().await?;
        let node = scene.any_node();
        scene.mark("freeze");
        scene.system.nodes[node].freeze()?;
        tokio::time::sleep(*time).await;
        scene.mark("thaw");
        scene.system.nodes[node].thaw()?;
        scene.system.nodes[node].until_ready().await?;
    }
    Ok(())
}
