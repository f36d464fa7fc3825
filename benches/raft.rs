//! Measures the pure module `raft`: the cost of a proposal for three peers of one group, without network, disk and
//! engine. `cargo bench --bench raft`
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "benches of the real world")]

use std::collections::VecDeque;

use armilla::node::config::RaftConfig;
use armilla::raft::eraftpb::{ConfState, Message};
use armilla::raft::{Group, LogView, Options, log_view, membership};
use armilla::types::GroupId;
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const TICK_NS: u64 = 50_000_000;

/// Three peers of one group. Messages are delivered directly, and every write is durable at once.
struct Trio {
    peers: Vec<Group>,
    mail: VecDeque<Message>,
    now: u64,
    applied: u64,
}

impl Trio {
    fn new() -> Trio {
        let options = Options { tick_ns: TICK_NS, ..RaftConfig::default().groups() };
        let mut voters = ConfState::default();
        voters.voters = vec![1, 2, 3];
        let view = || {
            LogView::new(log_view::Start {
                hard_state: membership::first_hard_state(),
                conf_state: voters.clone(),
                truncated: membership::FIRST,
                runs: Vec::new(),
                last_index: membership::FIRST.0,
                unapplied: Vec::new(),
                applied: membership::FIRST,
                state: Bytes::new(),
                cache_bytes_max: 1 << 20,
            })
        };
        let peer =
            |id| Group::new(GroupId(7), id, options.clone(), view(), armilla::raft::Run::default()).expect("a peer");
        let mut trio = Trio { peers: (1..=3).map(peer).collect(), mail: VecDeque::new(), now: TICK_NS, applied: 0 };
        trio.peers[0].campaign();
        trio.settle();
        assert!(trio.peers[0].ready(), "the first peer leads");
        trio
    }

    /// Runs until no peer has anything to do.
    fn settle(&mut self) {
        loop {
            let mut quiet = true;
            for at in 0..self.peers.len() {
                while let Some(output) = self.peers[at].take(self.now) {
                    quiet = false;
                    self.mail.extend(output.messages);
                    self.peers[at].persisted(output.number);
                    self.mail.extend(output.messages_after_persist);
                    if let Some(last) = output.committed.last() {
                        let (index, term) = (last.index, last.term);
                        self.peers[at].applied(index, term);
                        // As the driver does after the engine has flushed.
                        self.peers[at].log_mut().truncate_to(index);
                        if at == 0 {
                            self.applied = index;
                        }
                    }
                }
            }
            for message in std::mem::take(&mut self.mail) {
                quiet = false;
                let to = message.to as usize - 1;
                let election_ns = 20 * TICK_NS;
                self.peers[to].step(message, election_ns, self.now).expect("a log that lost nothing");
            }
            if quiet {
                return;
            }
        }
    }

    /// Proposes `count` entries at once and waits until the leader has applied them.
    fn commit(&mut self, count: usize, payload: &Bytes) {
        self.now += 1_000;
        let mut last = 0;
        for _ in 0..count {
            last = self.peers[0].propose(payload.clone(), self.now).expect("the leader proposes").0;
        }
        self.settle();
        assert!(self.applied >= last, "committed and applied");
    }
}

fn commit(c: &mut Criterion) {
    let mut group = c.benchmark_group("raft/commit");
    let payload = Bytes::from(vec![7u8; 272]);
    for batch in [1usize, 16, 256] {
        let mut trio = Trio::new();
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(BenchmarkId::from_parameter(batch), |b| b.iter(|| trio.commit(batch, &payload)));
    }
    group.finish();
}

criterion_group!(benches, commit);
criterion_main!(benches);
