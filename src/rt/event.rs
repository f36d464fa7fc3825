//! What probes report: the facts of the protocol, as plain data that both worlds know.

use bytes::Bytes;

/// A fact of the protocol. Ids are plain numbers so that this leaf needs no other room.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the variants' docs say what the fields are
pub enum Event {
    /// A group's peer was created or restored on `store` from its log: its hard state as recovered, and the entries that the log
    /// holds, behind `base`.
    Start { store: u64, group: u64, peer: u64, term: u64, vote: u64, commit: u64, base: u64, last_index: u64 },
    /// A hard state became durable.
    HardState { store: u64, group: u64, peer: u64, term: u64, vote: u64, commit: u64 },
    /// A record with entries of this peer from `first` up to `index` is made, which is still to be written.
    Record { store: u64, group: u64, peer: u64, first: u64, index: u64 },
    /// A log entry became durable at this peer (`hash` covers term and data).
    Append { store: u64, group: u64, peer: u64, index: u64, term: u64, hash: u64 },
    /// The peer's log from `from_index` on was overwritten (a conflict).
    Truncate { store: u64, group: u64, peer: u64, from_index: u64 },
    /// The peer became leader of `term`.
    Leader { store: u64, group: u64, peer: u64, term: u64 },
    /// The peer learnt that its group is led by `leader` (0: by nobody).
    Follow { store: u64, group: u64, peer: u64, term: u64, leader: u64 },
    /// The peer takes proposals from now on (it leads, its state is complete, it is not handing over), or no more.
    Accepts { store: u64, group: u64, peer: u64, term: u64, accepts: bool },
    /// The leading peer began to hand over to its group's peer on `to_store`.
    Transfer { store: u64, group: u64, peer: u64, to_store: u64 },
    /// The placement driver's leader on `store` ordered a region's leadership to `to_store`.
    Order { store: u64, region: u64, to_store: u64 },
    /// A read of old entries for the group's peer on `to_store` begins, which may bring so many bytes.
    Fetch { store: u64, group: u64, to_store: u64, bytes: u64 },
    /// That read has ended: what it brought is with the group, which sends it.
    Fetched { store: u64, group: u64 },
    /// An entry was applied (`hash` covers term and data).
    Apply { store: u64, group: u64, peer: u64, index: u64, term: u64, hash: u64 },
    /// A snapshot replaced the peer's state.
    Snapshot { store: u64, group: u64, peer: u64, index: u64, term: u64 },
    /// The peer's lease changed: from now on it runs `left_ns` more on its node's clock (0: it was taken back).
    Lease { store: u64, group: u64, peer: u64, term: u64, left_ns: u64 },
    /// A request to read a region arrived at `store`, which calls it `read`.
    ReadAsked { store: u64, group: u64, read: u64 },
    /// That request got its view of the engine, in which the group stands at the index `applied`.
    ReadServed { store: u64, group: u64, read: u64, applied: u64 },
    /// A read was served under the leader's lease. The oracle checks that no other peer leads a later term.
    LeaseRead { store: u64, group: u64, peer: u64, term: u64 },
    /// A read was served after a quorum confirmed the leader.
    IndexRead { store: u64, group: u64, peer: u64, index: u64 },
    /// A timestamp batch left PD: `last` is the largest, `count` how many.
    Tso { store: u64, last: u64, count: u32 },
    /// The store stopped serving for good, and why.
    Poisoned { store: u64, why: String },
    /// Anything else worth tracing; `what` is a stable name.
    Note { store: u64, what: &'static str, a: u64, b: u64, data: Bytes },
}
