//! The ear of the run: hears every fact of the protocol, feeds the online oracles, and knows who leads what.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use armilla::rt::probe::Event;
use armilla::rt::sim::World;
use armilla::rt::sim::probe::{ProbeRecord, What};
use armilla::rt::sync::Notify;

use crate::oracle::Violation;
use crate::oracle::lease::Leases;
use crate::oracle::pause::Pauses;
use crate::oracle::raft::Raft;
use crate::oracle::reads::Reads;
use crate::oracle::tso::Issued;

/// What has been heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// O1, O3.
    pub raft: Raft,
    /// O1, leases.
    pub leases: Leases,
    /// H1, reads as they happen.
    pub reads: Reads,
    /// O5, the server's side.
    pub issued: Issued,
    /// Regions that take no writes.
    pub pauses: Pauses,
    /// The first violation.
    pub violation: Option<Violation>,
    /// By group: the highest term that has a leader, and the leader's node.
    pub leaders: BTreeMap<u64, (u64, u64)>,
    /// By group: when (ghost ns) that leader began.
    pub led_since: BTreeMap<u64, u64>,
    /// By store: its node.
    pub node_of: BTreeMap<u64, u64>,
    /// Nodes whose store stopped serving in their present life, and why.
    pub poisoned: BTreeMap<u64, String>,
}

/// Shared by the sink and the scenario.
#[derive(Clone, Default)]
pub struct Watch {
    heard: Arc<Mutex<Heard>>,
    /// Told when something happens that the scenario must look at: a violation, a store that stopped.
    pub news: Arc<Notify>,
}

impl Watch {
    /// Listens to a world from now on.
    pub fn listen(world: &World) -> Watch {
        let watch = Watch::default();
        let (own, clocks) = (watch.clone(), world.clone());
        world.probe().add_sink(move |record| own.hear(record, &clocks));
        watch
    }

    /// Looks at what has been heard.
    pub fn with<T>(&self, look: impl FnOnce(&mut Heard) -> T) -> T {
        look(&mut self.heard.lock().expect("no oracle panics"))
    }

    /// Reports a violation that was found elsewhere. The first one counts.
    pub fn report(&self, violation: Violation) {
        self.with(|heard| heard.violation.get_or_insert(violation).clone());
        self.news.notify_waiters();
    }

    /// The first violation.
    pub fn violation(&self) -> Option<Violation> {
        self.with(|heard| heard.violation.clone())
    }

    fn hear(&self, record: &ProbeRecord<'_>, world: &World) {
        let What::Event(event) = &record.what else { return };
        let mut heard = self.heard.lock().expect("no oracle panics");
        let heard = &mut *heard;
        if heard.violation.is_some() {
            return;
        }
        match event {
            Event::Start { store, .. } => {
                heard.node_of.insert(*store, record.node);
            }
            Event::Leader { group, term, .. } => {
                let newest = heard.leaders.entry(*group).or_default();
                if *term >= newest.0 {
                    *newest = (*term, record.node);
                    heard.led_since.insert(*group, record.at_ns);
                }
            }
            Event::Poisoned { why, .. } => {
                heard.poisoned.insert(record.node, why.clone());
                self.news.notify_waiters();
            }
            _ => {}
        }
        let clocks = |node: u64| {
            let node = world.get(node).filter(|node| node.is_alive())?;
            Some((node.epoch(), node.clock().local_ns()))
        };
        let judged = heard
            .raft
            .observe(event)
            .and_then(|()| heard.leases.observe(event, record.node, &clocks))
            .and_then(|()| heard.reads.observe(event))
            .and_then(|()| heard.issued.observe(event));
        let judged = judged.map_err(|(oracle, _, what)| Violation::new(oracle, record.at_ns, record.node, what));
        let judged = judged.and_then(|()| heard.pauses.observe(record.at_ns, record.node, event, &heard.node_of));
        if let Err(violation) = judged {
            heard.violation = Some(violation);
            self.news.notify_waiters();
        }
    }
}
