//! Stories: sequences of faults that are dangerous only in combination. One part fails while another one is in a
//! certain state, as happens when a rack, a switch or a host fails.

use super::clock::{self, DRIFT_PPM_MAX};
use super::draw::{Draft, Draw};
use super::target::Target;
use super::{Kind, disk, leadership, net, process, region, repeat, settings};

/// A story. A run includes it or not.
pub struct Story {
    /// The name, which also seeds the story's own stream of random numbers.
    pub name: &'static str,
    /// The minimum and the maximum number of times per minute.
    pub per_minute: (f64, f64),
    /// Draws the story's faults.
    pub tell: fn(&mut Draw<'_>) -> Vec<Part>,
}

/// A fault of a story, and when it begins, ms after the start of the story.
pub type Part = (u64, Draft<Kind>);

fn at(after_ms: u64, target: Target, for_ms: u64, kind: impl Into<Kind>) -> Part {
    (after_ms, Draft::at(target, for_ms, kind.into()))
}

/// All stories.
pub const STORIES: &[Story] = &[
    Story { name: "dead-store", per_minute: (1.0, 3.0), tell: dead_store },
    Story { name: "rolling-restart", per_minute: (0.6, 2.0), tell: rolling_restart },
    Story { name: "cut-off-leader", per_minute: (1.0, 6.0), tell: cut_off_leader },
    Story { name: "late-acknowledgements", per_minute: (1.0, 6.0), tell: late_acknowledgements },
    Story { name: "deaf-transfer", per_minute: (1.0, 6.0), tell: deaf_transfer },
    Story { name: "applies-during-flush", per_minute: (1.0, 4.0), tell: applies_during_flush },
    Story { name: "campaign-at-install", per_minute: (1.0, 4.0), tell: campaign_at_install },
    Story { name: "late-messages", per_minute: (1.0, 4.0), tell: late_messages },
    Story { name: "forgetful-voter", per_minute: (1.0, 6.0), tell: forgetful_voter },
    Story { name: "placement-driver-skew", per_minute: (1.0, 4.0), tell: placement_driver_skew },
    Story { name: "leader-without-room", per_minute: (0.4, 0.8), tell: leader_without_room },
    Story { name: "lost-leader", per_minute: (1.0, 6.0), tell: lost_leader },
    Story { name: "damaged-snapshot", per_minute: (1.0, 3.0), tell: damaged_snapshot },
    Story { name: "slow-return", per_minute: (0.6, 1.5), tell: slow_return },
    Story { name: "slow-install", per_minute: (1.0, 3.0), tell: slow_install },
    Story { name: "split-then-fault", per_minute: (1.0, 8.0), tell: split_then_fault },
    Story { name: "split-unapplied", per_minute: (1.0, 6.0), tell: split_unapplied },
    Story { name: "move-then-fault", per_minute: (2.0, 10.0), tell: move_then_fault },
    Story { name: "move-unheard", per_minute: (1.0, 4.0), tell: move_unheard },
    Story { name: "move-pd-then-fault", per_minute: (2.0, 8.0), tell: move_pd_then_fault },
    Story { name: "leader-to-and-fro", per_minute: (0.6, 4.0), tell: leader_to_and_fro },
    Story { name: "members-lost-in-turn", per_minute: (0.6, 0.8), tell: members_lost_in_turn },
    Story { name: "move-to-and-fro", per_minute: (1.0, 4.0), tell: move_to_and_fro },
    Story { name: "drain-then-fault", per_minute: (1.0, 4.0), tell: drain_then_fault },
    Story { name: "replace-then-return", per_minute: (0.6, 2.0), tell: replace_then_return },
    Story { name: "remove-then-lose", per_minute: (1.0, 4.0), tell: remove_then_lose },
    Story { name: "merge-then-fault", per_minute: (2.0, 10.0), tell: merge_then_fault },
    Story { name: "merge-absent", per_minute: (1.0, 4.0), tell: merge_absent },
    Story { name: "merge-and-move", per_minute: (1.0, 6.0), tell: merge_and_move },
    Story { name: "split-and-merge", per_minute: (2.0, 8.0), tell: split_and_merge },
    Story { name: "split-absent", per_minute: (0.6, 2.0), tell: split_absent },
];

/// A node is away for long while the others run normally: its groups get other leaders, and no leader is transferred to
/// it.
fn dead_store(d: &mut Draw<'_>) -> Vec<Part> {
    let (node, for_ms) = (Target::Leader(d.region()), d.rng.between(8_000, 15_000));
    vec![match d.rng.below(3) {
        0 => at(0, node, for_ms, net::Kind::Isolate {}),
        _ => at(0, node, for_ms, process::Kind::Crash {}),
    }]
}

/// Nodes are stopped and started one after the other, as during an upgrade.
fn rolling_restart(d: &mut Draw<'_>) -> Vec<Part> {
    let first = d.node();
    let node = |n: u32| Target::Node((first + n - 1) % d.stores + 1);
    (0..d.stores.min(3)).map(|n| at(16_000 * u64::from(n), node(n), 4_000, process::Kind::Stop {})).collect()
}

/// A leader loses its followers but perhaps not its clients; its clock may be slow and theirs fast.
fn cut_off_leader(d: &mut Draw<'_>) -> Vec<Part> {
    let (node, mut story) = (d.leader(), Vec::new());
    if d.rng.chance(0.5) {
        story.push(at(0, node, 0, clock::Kind::ClockApart { ppm: DRIFT_PPM_MAX }));
    }
    let (at_ms, for_ms) = (d.election(50, 300), d.election(150, 400));
    story.push(match d.rng.below(3) {
        0 => at(at_ms, node, for_ms, net::Kind::Isolate {}),
        _ => at(at_ms, node, for_ms, net::Kind::Rack {}),
    });
    story
}

/// A leader receives acknowledgements late, and then its own messages do not arrive.
fn late_acknowledgements(d: &mut Draw<'_>) -> Vec<Part> {
    let node = d.leader();
    let delay_ms = d.election(30, 130);
    let slow = at(0, node, d.election(500, 900), net::Kind::SlowLink { inbound: true, delay_ms });
    let silent_ms = d.election(150, 300);
    let after_ms = delay_ms + d.election(50, 300);
    vec![slow, at(after_ms, node, silent_ms, net::Kind::OneWay { deaf: false })]
}

/// Leadership is transferred while the old leader receives nothing, or receives messages late.
fn deaf_transfer(d: &mut Draw<'_>) -> Vec<Part> {
    let at_ms = d.election(0, 60);
    if d.rng.chance(0.5) {
        let deaf = at(0, Target::PdLeader, d.election(100, 300), net::Kind::OneWay { deaf: true });
        return vec![deaf, (at_ms, Draft::everywhere(0, leadership::Kind::TransferPd { to: d.node() }.into()))];
    }
    let region = d.region();
    let delay_ms = d.election(10, 60);
    let mut story = vec![at(0, Target::Leader(region), 10_000, net::Kind::SlowLink { inbound: true, delay_ms })];
    for n in 0..3 {
        let transfer = leadership::Kind::Transfer { region, to: d.node() };
        story.push((at_ms + 3000 * n, Draft::everywhere(0, transfer.into())));
    }
    story
}

/// A node continues to apply during long flushes; then it crashes and may lose everything that no flush has made
/// durable.
fn applies_during_flush(d: &mut Draw<'_>) -> Vec<Part> {
    let node = Target::Node(d.node());
    let by_ms = d.rng.between(2000, 6000);
    let after_ms = 2 * by_ms + d.rng.below(2 * by_ms);
    let slow = at(0, node, after_ms + 100, process::Kind::SlowWork { by_ms: by_ms as u32 });
    vec![slow, at(after_ms, node, d.rng.between(50, 500), process::Kind::Crash {})]
}

/// A node is away for so long that it gets a snapshot, whose staged file is damaged before the engine reads it.
fn damaged_snapshot(d: &mut Draw<'_>) -> Vec<Part> {
    let (node, away_ms) = (Target::Node(d.node()), d.rng.between(3_000, 12_000));
    let damage = disk::Kind::BadStaging { nth: 0, damage: true };
    vec![at(0, node, away_ms, process::Kind::Crash {}), at(away_ms + 20, node, d.rng.between(5_000, 10_000), damage)]
}

/// All nodes restart, and one of them takes long to store anything: it hears what the others said when there was no
/// leader after they have elected one.
fn slow_return(d: &mut Draw<'_>) -> Vec<Part> {
    let (node, down_ms) = (Target::Node(d.node()), d.rng.between(100, 1_000));
    // It hears one store after the other; when it hears the second, they have had their leader for long.
    let by_ms = (3_000 + d.election(525, 600)).min(6_000);
    let slow = process::Kind::SlowWork { by_ms: by_ms as u32 };
    let crash = Draft::everywhere(down_ms, process::Kind::CrashAll {}.into());
    vec![(0, crash), at(down_ms + 50, node, 3 * by_ms, slow)]
}

/// A node is away for so long that it gets a snapshot, which it installs slowly while clients continue to write.
fn slow_install(d: &mut Draw<'_>) -> Vec<Part> {
    let (node, away_ms) = (Target::Node(d.node()), d.rng.between(3_000, 10_000));
    let slow = process::Kind::SlowWork { by_ms: d.rng.between(1_000, 6_000) as u32 };
    vec![at(0, node, away_ms, process::Kind::Crash {}), at(away_ms, node, d.rng.between(15_000, 30_000), slow)]
}

/// A node is away for so long that it gets a snapshot. Its engine cannot ingest the snapshot for a while, during which
/// a leader is lost.
fn campaign_at_install(d: &mut Draw<'_>) -> Vec<Part> {
    let away = d.node();
    let (node, away_ms) = (Target::Node(away), d.rng.between(3_000, 12_000));
    let mut story = vec![match d.rng.below(2) {
        0 => at(0, node, away_ms, net::Kind::Isolate {}),
        _ => at(0, node, away_ms, process::Kind::Crash {}),
    }];
    // From shortly before the node's return until some time after it.
    let stall_ms = d.election(400, 1000);
    story.push(at(away_ms - 100, node, 100 + stall_ms, disk::Kind::StallEngine {}));
    let lost = Target::Leader(d.region());
    story.push(at(away_ms + d.election(50, 300), lost, d.election(200, 500), net::Kind::Isolate {}));
    story
}

/// Messages to a node are lost with its connections and delivered later after all, to it or to a restarted process.
fn late_messages(d: &mut Draw<'_>) -> Vec<Part> {
    let node = d.target();
    let held_ms = d.log(1000, 60_000);
    let sent_ms = d.election(20, 200);
    let mut story = vec![at(0, node, 0, net::Kind::BlackHole {})];
    story.push(at(sent_ms, node, held_ms, repeat::Kind::Repeat { shuffled: d.rng.chance(0.2) }));
    if d.rng.chance(0.5) {
        let down_ms = d.rng.between(50, 2000);
        story.push(at(sent_ms + d.rng.below(held_ms), node, down_ms, process::Kind::Crash {}));
    }
    story
}

/// The placement driver's leader has a wrong wall clock for a while, during which it may crash or hand over.
fn placement_driver_skew(d: &mut Draw<'_>) -> Vec<Part> {
    let sign = if d.rng.chance(0.5) { 1 } else { -1 };
    let (by_ms, for_ms) = (sign * d.log(1000, 3_600_000) as i64, d.log(1000, 20_000));
    let mut story = vec![at(0, Target::PdLeader, for_ms, clock::Kind::ClockSkew { by_ms })];
    let at_ms = d.rng.below(for_ms);
    match d.rng.below(3) {
        0 => story.push((at_ms, Draft::everywhere(0, leadership::Kind::TransferPd { to: d.node() }.into()))),
        1 => story.push(at(at_ms, Target::PdLeader, d.log(100, 5000), process::Kind::Crash {})),
        _ => {}
    }
    story
}

/// A store has very little free space for long. Other stores take over its groups and are then lost in turn, so that it
/// is elected again.
fn leader_without_room(d: &mut Draw<'_>) -> Vec<Part> {
    let (low, left_permille) = (d.node(), d.rng.between(600, 900));
    let for_ms = d.rng.between(25_000, 35_000);
    let mut story = vec![at(0, Target::Node(low), for_ms, disk::Kind::LowDisk { left_permille })];
    let mut at_ms = 3000;
    for other in (1..=d.stores).filter(|node| *node != low).cycle().take(4) {
        let for_ms = d.election(200, 300);
        story.push(at(at_ms, Target::Node(other), for_ms, net::Kind::Isolate {}));
        at_ms += for_ms + d.rng.between(500, 1500);
    }
    story
}

/// One voter has not heard a leader for long, so its promise has ended; another one, which has heard the leader, sees
/// its connection break. The leader still has its lease and its clients.
fn lost_leader(d: &mut Draw<'_>) -> Vec<Part> {
    let region = d.region();
    let (leader, follower) = (Target::Leader(region), Target::Follower(region));
    let (at_ms, cut_ms) = (d.election(150, 300), d.election(200, 400));
    let mut story = vec![at(0, follower, at_ms + cut_ms, net::Kind::Bridge {})];
    if d.rng.chance(0.5) {
        story.push(at(0, leader, 0, clock::Kind::ClockApart { ppm: DRIFT_PPM_MAX }));
    }
    // The end of a connection does not pass a cut link; a node that notices it connects again after 0.1 s.
    story.push(at(at_ms, leader, 0, net::Kind::Reset {}));
    story.push(at(at_ms + d.rng.between(5, 80), leader, cut_ms, net::Kind::Isolate {}));
    story
}

/// A leader and a voter are connected only through a third node, which may be restarted; then the leader is cut off.
fn forgetful_voter(d: &mut Draw<'_>) -> Vec<Part> {
    let region = d.region();
    let (leader, follower) = (Target::Leader(region), Target::Follower(region));
    let down_ms = d.rng.between(20, 200);
    let at_ms = d.election(50, 250);
    let cut_ms = d.election(100, 300);
    let mut story = vec![at(0, follower, at_ms + d.election(200, 400), net::Kind::Bridge {})];
    if d.rng.chance(0.5) {
        story.push(at(0, leader, 0, clock::Kind::ClockApart { ppm: DRIFT_PPM_MAX }));
    }
    if d.rng.chance(0.7) {
        story.push(at(at_ms, follower, down_ms, process::Kind::Crash {}));
    }
    story.push(at(at_ms + down_ms + d.rng.between(1, 300), leader, cut_ms, net::Kind::Isolate {}));
    story
}

/// A region is split, and shortly afterwards its leader or all nodes crash, or its leadership is transferred.
fn split_then_fault(d: &mut Draw<'_>) -> Vec<Part> {
    let number = d.region();
    let split = Draft::everywhere(0, region::split(d, number).into());
    let (leader, after_ms, down_ms) = (Target::Leader(number), d.log(1, 500), d.log(50, 3_000));
    let fault = match d.rng.below(5) {
        0 => at(after_ms, leader, down_ms, process::Kind::Crash {}),
        1 => at(after_ms, leader, down_ms, net::Kind::Isolate {}),
        2 => {
            let transfer = leadership::Kind::Transfer { region: number, to: d.node() };
            (after_ms / 10, Draft::everywhere(0, transfer.into()))
        }
        _ => (after_ms, Draft::everywhere(down_ms, process::Kind::CrashAll {}.into())),
    };
    vec![(0, split), fault]
}

/// A replica begins to move, and one of those who take part is lost for a while, or all nodes crash.
fn move_then_fault(d: &mut Draw<'_>) -> Vec<Part> {
    let (region, peer, to) = (d.region(), d.rng.below(3) as u32, d.node());
    let moved = Draft::everywhere(0, leadership::Kind::MovePeer { region, peer, to }.into());
    let (after_ms, down_ms) = (d.log(100, 6_000), d.log(50, 5_000));
    let target = match d.rng.below(4) {
        0 => Target::Leader(region),
        1 => Target::Follower(region),
        2 => Target::Node(to),
        _ => return vec![(0, moved), (after_ms, Draft::everywhere(down_ms, process::Kind::CrashAll {}.into()))],
    };
    let fault = match d.rng.below(3) {
        0 => at(after_ms, target, down_ms, process::Kind::Crash {}),
        1 => at(after_ms, target, down_ms, net::Kind::Isolate {}),
        _ => at(after_ms, target, down_ms, disk::Kind::StallEngine {}),
    };
    vec![(0, moved), fault]
}

/// A member of the placement driver moves, and a node that takes part fails meanwhile.
fn move_pd_then_fault(d: &mut Draw<'_>) -> Vec<Part> {
    let (peer, to) = (d.rng.below(3) as u32, d.node());
    let moved = Draft::everywhere(0, leadership::Kind::MovePd { peer, to }.into());
    let (after_ms, down_ms) = (d.log(50, 6_000), d.log(50, 8_000));
    let target = match d.rng.below(4) {
        0 => Target::PdLeader,
        1 => Target::Node(d.node()),
        2 => Target::Node(to),
        _ => return vec![(0, moved), (after_ms, Draft::everywhere(down_ms, process::Kind::CrashAll {}.into()))],
    };
    let fault = match d.rng.below(3) {
        0 => at(after_ms, target, down_ms, process::Kind::Crash {}),
        1 => at(after_ms, target, down_ms, net::Kind::Isolate {}),
        _ => at(after_ms, target, down_ms.min(4_000), disk::Kind::StallEngine {}),
    };
    vec![(0, moved), fault]
}

/// Two stores lead a region in turn: what one of them has decided it may write when it leads again.
fn leader_to_and_fro(d: &mut Draw<'_>) -> Vec<Part> {
    let (region, one) = (d.region(), d.node());
    let other = one % d.stores + 1;
    let mut at_ms = 0;
    let transfer = |n: u32| {
        let to = if n.is_multiple_of(2) { one } else { other };
        at_ms += d.rng.between(30, 500);
        (at_ms, Draft::everywhere(0, leadership::Kind::Transfer { region, to }.into()))
    };
    (0..8).map(transfer).collect()
}

/// One node after the other is away for so long that it counts as lost, where there are others to take its place: the
/// first members of the placement driver may all be lost, and come back without knowing who took their place.
fn members_lost_in_turn(d: &mut Draw<'_>) -> Vec<Part> {
    let away_ms = d.rng.between(14_000, 20_000);
    let rest_ms = d.rng.between(0, 3_000);
    let node = |n: u32| Target::Node(n % d.stores + 1);
    let first = d.rng.below(2) as u32;
    let away = |n: u32| at(u64::from(n) * (away_ms + rest_ms), node(first + n), away_ms, process::Kind::Crash {});
    (0..3).map(away).collect()
}

/// A node is cut off or dead while replicas move away from it, and it returns when they are gone.
fn move_unheard(d: &mut Draw<'_>) -> Vec<Part> {
    let node = d.node();
    let away_ms = d.rng.between(5_000, 12_000);
    let away = if d.rng.chance(0.7) {
        at(0, Target::Node(node), away_ms, net::Kind::Isolate {})
    } else {
        at(0, Target::Node(node), away_ms, process::Kind::Crash {})
    };
    let mut story = vec![away];
    for _ in 0..4 {
        let kind = leadership::Kind::MovePeer { region: d.region(), peer: d.rng.below(3) as u32, to: d.node() };
        story.push((d.rng.between(200, 4_000), Draft::everywhere(0, kind.into())));
    }
    story
}

/// Replicas move to a node, away from it and back, and it crashes meanwhile.
fn move_to_and_fro(d: &mut Draw<'_>) -> Vec<Part> {
    let (region, node) = (d.region(), d.node());
    let mut story = Vec::new();
    let mut at_ms = 0;
    for turn in 0..5 {
        let to = if turn % 2 == 0 { node } else { d.node() };
        for peer in 0..3 {
            let kind = leadership::Kind::MovePeer { region, peer, to };
            story.push((at_ms + u64::from(peer) * 300, Draft::everywhere(0, kind.into())));
        }
        at_ms += d.rng.between(2_000, 6_000);
        if d.rng.chance(0.4) {
            story.push(at(at_ms, Target::Node(node), d.log(50, 2_000), process::Kind::Crash {}));
        }
    }
    story
}

/// A store is drained and a scheduler paused, then the placement driver's leader or all nodes are lost; later the store
/// may be drained no more.
fn drain_then_fault(d: &mut Draw<'_>) -> Vec<Part> {
    let drain = settings::Kind::Drain { node: d.node() };
    let pause = settings::Kind::PauseScheduler { scheduler: d.rng.below(3) as u32 };
    let mut story = vec![(0, Draft::everywhere(0, drain.into())), (10, Draft::everywhere(0, pause.into()))];
    let (after_ms, down_ms) = (d.log(10, 5_000), d.log(50, 5_000));
    story.push(match d.rng.below(3) {
        0 => (after_ms, Draft::everywhere(down_ms, process::Kind::CrashAll {}.into())),
        1 => (after_ms, Draft::everywhere(0, leadership::Kind::TransferPd { to: d.node() }.into())),
        _ => at(after_ms, Target::PdLeader, down_ms, process::Kind::Crash {}),
    });
    if d.rng.chance(0.5) {
        let later_ms = after_ms + d.rng.between(5_000, 30_000);
        story.push((later_ms, Draft::everywhere(0, settings::Kind::Undrain {}.into())));
    }
    story
}

/// A node is away for long, another one takes its place, and the first one returns.
fn replace_then_return(d: &mut Draw<'_>) -> Vec<Part> {
    let (away, by, away_ms) = (d.node(), d.node(), d.rng.between(8_000, 40_000));
    let mut story = vec![at(0, Target::Node(away), away_ms, process::Kind::Crash {})];
    for n in 0..4 {
        // Refused until the placement driver knows that the store is silent.
        let replace = settings::Kind::ReplaceStore { node: away, by };
        story.push((3_000 + 4_000 * n, Draft::everywhere(0, replace.into())));
    }
    story
}

/// A node is away for long, and replicas on the others are to be removed.
fn remove_then_lose(d: &mut Draw<'_>) -> Vec<Part> {
    let (away, away_ms) = (d.node(), d.rng.between(15_000, 30_000));
    let mut story = vec![at(0, Target::Node(away), away_ms, process::Kind::Crash {})];
    for n in 0..4 {
        let number = d.region();
        let removed = settings::remove_peer(d, number);
        // The node counts as silent by then.
        story.push((8_000 + 1_000 * n, Draft::everywhere(0, removed.into())));
    }
    story
}

/// A region begins to become part of a neighbour, and one of those who take part is lost for a while, or all nodes
/// crash.
fn merge_then_fault(d: &mut Draw<'_>) -> Vec<Part> {
    let number = d.region();
    let merge = Draft::everywhere(0, region::merge(d, number).into());
    // The order comes with a heartbeat.
    let (after_ms, down_ms) = (d.rng.between(0, 4_000), d.log(50, 8_000));
    let target = match d.rng.below(5) {
        0 => Target::Leader(number),
        1 => Target::Leader(d.region()),
        2 => Target::Follower(number),
        // Its leader, which may be the source's or the target's, reaches it no more.
        3 => return vec![(0, merge), at(after_ms, Target::Follower(number), down_ms, net::Kind::Bridge {})],
        _ => return vec![(0, merge), (after_ms, Draft::everywhere(down_ms, process::Kind::CrashAll {}.into()))],
    };
    let fault = match d.rng.below(4) {
        0 => at(after_ms, target, down_ms, process::Kind::Crash {}),
        1 => at(after_ms, target, down_ms, net::Kind::Isolate {}),
        2 => at(after_ms, target, down_ms.min(4_000), disk::Kind::StallEngine {}),
        _ => {
            let transfer = leadership::Kind::Transfer { region: number, to: d.node() };
            (after_ms, Draft::everywhere(0, transfer.into()))
        }
    };
    vec![(0, merge), fault]
}

/// A node is away while regions are merged, for so long that it may get a snapshot of what they have become.
fn merge_absent(d: &mut Draw<'_>) -> Vec<Part> {
    let (node, away_ms) = (d.node(), d.rng.between(2_000, 12_000));
    let at_ms = d.rng.between(500, 4_000);
    let away = if d.rng.chance(0.5) {
        at(at_ms, Target::Node(node), away_ms, net::Kind::Isolate {})
    } else {
        at(at_ms, Target::Node(node), away_ms, process::Kind::Crash {})
    };
    let mut story = vec![away];
    for n in 0..3 {
        let number = d.region();
        story.push((700 * n, Draft::everywhere(0, region::merge(d, number).into())));
    }
    story
}

/// Regions are merged while replicas of them, or of their neighbours, move.
fn merge_and_move(d: &mut Draw<'_>) -> Vec<Part> {
    let number = d.region();
    let mut story = vec![(0, Draft::everywhere(0, region::merge(d, number).into()))];
    for _ in 0..3 {
        let (region, peer, to) = (d.region(), d.rng.below(3) as u32, d.node());
        let moved = leadership::Kind::MovePeer { region, peer, to };
        story.push((d.rng.between(0, 3_000), Draft::everywhere(0, moved.into())));
    }
    if d.rng.chance(0.5) {
        let away_ms = d.rng.between(2_000, 10_000);
        story.push(at(d.rng.between(500, 4_000), Target::Node(d.node()), away_ms, net::Kind::Isolate {}));
    }
    story
}

/// A region is split and merged again, several times.
fn split_and_merge(d: &mut Draw<'_>) -> Vec<Part> {
    let (mut story, mut at_ms) = (Vec::new(), 0);
    for _ in 0..d.rng.between(1, 3) {
        let number = d.region();
        story.push((at_ms, Draft::everywhere(0, region::split(d, number).into())));
        at_ms += d.log(10, 3_000);
        let number = d.region();
        story.push((at_ms, Draft::everywhere(0, region::merge(d, number).into())));
        at_ms += d.log(100, 4_000);
    }
    story
}

/// A leader's engine makes writers wait while its region is split: the other stores apply the split long before it
/// does, and the newborn may be led there.
fn split_unapplied(d: &mut Draw<'_>) -> Vec<Part> {
    let number = d.region();
    let stall_ms = d.election(150, 500);
    let stall = at(0, Target::Leader(number), stall_ms, disk::Kind::StallEngine {});
    vec![stall, (d.rng.between(1, 100), Draft::everywhere(0, region::split(d, number).into()))]
}

/// A node is away while a region is split, for a moment or for so long that it gets a snapshot of the region.
fn split_absent(d: &mut Draw<'_>) -> Vec<Part> {
    let number = d.region();
    let away_ms = d.log(500, 12_000);
    let away = match d.rng.below(2) {
        0 => at(0, Target::Follower(number), away_ms, net::Kind::Isolate {}),
        _ => at(0, Target::Follower(number), away_ms, process::Kind::Crash {}),
    };
    vec![away, (d.rng.below(away_ms), Draft::everywhere(0, region::split(d, number).into()))]
}
