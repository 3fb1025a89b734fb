//! Attacks on one node, past the reverse proxy, while all others and everybody else work as usual. What they cost is
//! told by the deliveries of the same run: those of calm times against those under attack.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::time::{Instant, sleep};

use super::{Form, Scene};
use crate::attackers::{Attack, Attackers};
use crate::support::TestUser;
use crate::system::machine::cpu_time;

/// How long calm and attack take turns.
const TURN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(8));
/// How often they do, each as often first as second: the median counts, since neither is quiet on a machine that others use.
const TURNS: (usize, usize) = (1, 4);
/// How much worse a delivery may be under attack than in calm times.
const WORSE_MAX: f64 = 2.0;
/// What no attack needs to undercut: noise on an idle machine.
const NOISE: Duration = Duration::from_millis(5);

/// What a turn showed.
struct Turn {
    /// Of the deliveries.
    p99: Duration,
    /// Of those of the first second, in which attackers come.
    at_first: Duration,
    /// Cores that the attacked node used.
    node: f64,
    /// Those that the attackers used.
    attackers: f64,
}

/// How many attackers there are.
fn crowd(attack: Attack, form: Form) -> usize {
    match attack {
        Attack::SlowHeaders | Attack::SlowBodies => form.choose(100, 1_000),
        Attack::SlowReaders => form.choose(20, 200),
        Attack::Strangers => form.choose(500, 10_000),
        Attack::LargeFrames | Attack::Nesting => form.choose(5, 20),
        Attack::Logins => form.choose(10, 50),
    }
}

/// Calm and attack by turns; the ratio of their medians is what counts, in the long form.
pub(super) async fn make(scene: &mut Scene, attack: Attack) -> Result<()> {
    let mallory = TestUser::sign_up(scene.system.nodes[0].address, "mallory").await;
    let (mut calm, mut attacked) = (Vec::new(), Vec::new());
    for round in 0..scene.form.choose(TURNS.0, TURNS.1) {
        for under_attack in [round % 2 == 1, round % 2 == 0] {
            if !under_attack {
                calm.push(turn(scene, None).await?);
                continue;
            }
            scene.mark(&format!("{attack:?}"));
            let attackers = Attackers::start(attack, &mallory, crowd(attack, scene.form))?;
            attacked.push(turn(scene, Some(&attackers)).await?);
            scene.system.nodes[0].until_ready().await?;
            attackers.stop().await?;
            scene.mark("calm");
        }
    }
    let (calm, attacked) = (median(calm)?, median(attacked)?);
    scene.note = Some(format!(
        "p99 of delivery {:.1?} in calm times, {:.1?} under attack, {:.1?} in its first second; cores used by the node {:.2} and {:.2}, by the attackers {:.2}",
        calm.p99, attacked.p99, attacked.at_first, calm.node, attacked.node, attacked.attackers
    ));
    let ratio = attacked.p99.as_secs_f64() / calm.p99.as_secs_f64().max(f64::MIN_POSITIVE);
    if scene.form == Form::Full {
        let kept = ratio <= WORSE_MAX || attacked.p99 <= NOISE;
        ensure!(
            kept,
            "deliveries took {ratio:.1} times as long under {attack:?}: {}",
            scene.note.as_deref().unwrap_or_default()
        );
    }
    Ok(())
}

async fn turn(scene: &Scene, attackers: Option<&Attackers>) -> Result<Turn> {
    let cpu = || -> Result<_> {
        let attackers = attackers.and_then(Attackers::pid).map_or(Ok(Duration::ZERO), cpu_time)?;
        Ok((cpu_time(scene.system.nodes[0].pid()?)?, attackers))
    };
    let (began, from, before) = (Instant::now(), scene.history.now(), cpu()?);
    sleep(scene.form.choose(TURN.0, TURN.1)).await;
    let (took, to, after) = (began.elapsed(), scene.history.now(), cpu()?);
    let cores = |after: Duration, before: Duration| (after - before).div_duration_f64(took);
    let (node, attackers) = (cores(after.0, before.0), cores(after.1, before.1));
    let p99 = |to| scene.history.deliveries(from, to).p99;
    Ok(Turn { p99: p99(to), at_first: p99(from + 1_000_000), node, attackers })
}

/// The turn in the middle, by its deliveries.
fn median(mut turns: Vec<Turn>) -> Result<Turn> {
    turns.sort_unstable_by_key(|turn| turn.p99);
    let middle = turns.len() / 2;
    turns.into_iter().nth(middle).context("there was no turn")
}
