//! The facts of the protocol that probes report, as plain data that both worlds share.

use bytes::Bytes;

/// A fact of the protocol. IDs are plain numbers so that this module depends on no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the variants' docs say what the fields are
pub enum Event {
    /// A group's peer was created, or restored from its log, on `store`: its recovered hard state, and the entries that
    /// the log holds after `base`.
    Start { store: u64, group: u64, peer: u64, term: u64, vote: u64, commit: u64, base: u64, last_index: u64 },
    /// The peer on `store` shows this descriptor (an encoded `metapb.Region`) from now on: at its start, and whenever
    /// its region's range or members change.
    Region { store: u64, group: u64, descriptor: Bytes },
    /// A hard state became durable.
    HardState { store: u64, group: u64, peer: u64, term: u64, vote: u64, commit: u64 },
    /// A record with this peer's entries from `first` to `index` was prepared and is not yet written.
    Record { store: u64, group: u64, peer: u64, first: u64, index: u64 },
    /// A log entry became durable at this peer (`hash` covers term and data).
    Append { store: u64, group: u64, peer: u64, index: u64, term: u64, hash: u64 },
    /// The peer's log from `from_index` on was overwritten (a conflict).
    Truncate { store: u64, group: u64, peer: u64, from_index: u64 },
    /// The peer became leader of `term`.
    Leader { store: u64, group: u64, peer: u64, term: u64 },
    /// The peer learned that `leader` leads its group (0: the group has no leader).
    Follow { store: u64, group: u64, peer: u64, term: u64, leader: u64 },
    /// The peer starts to accept proposals (it is leader, its state is complete, it is not transferring leadership), or
    /// stops.
    Accepts { store: u64, group: u64, peer: u64, term: u64, accepts: bool },
    /// The leader began to transfer leadership to its group's peer on `to_store`.
    Transfer { store: u64, group: u64, peer: u64, to_store: u64 },
    /// The placement driver's leader, on `store`, ordered a region's leadership to be transferred to `to_store`.
    Order { store: u64, region: u64, to_store: u64 },
    /// A read of at most `bytes` of old entries begins, for the group's peer on `to_store`.
    Fetch { store: u64, group: u64, to_store: u64, bytes: u64 },
    /// The group's read of old entries has ended; the group has the entries, and sends them.
    Fetched { store: u64, group: u64 },
    /// An entry was applied (`hash` covers term and data).
    Apply { store: u64, group: u64, peer: u64, index: u64, term: u64, hash: u64 },
    /// A snapshot replaced the peer's state.
    Snapshot { store: u64, group: u64, peer: u64, index: u64, term: u64 },
    /// The peer's lease changed: it now runs for another `left_ns` on its node's clock (0: it was revoked).
    Lease { store: u64, group: u64, peer: u64, term: u64, left_ns: u64 },
    /// A request to read a region arrived at `store`, which numbers it `read`.
    ReadAsked { store: u64, group: u64, read: u64 },
    /// That request got its view of the engine, in which the group's applied index is `applied`.
    ReadServed { store: u64, group: u64, read: u64, applied: u64 },
    /// A read was served under the leader's lease. The oracle checks that no other peer leads a later term.
    LeaseRead { store: u64, group: u64, peer: u64, term: u64 },
    /// A read was served after a quorum confirmed the leader.
    IndexRead { store: u64, group: u64, peer: u64, index: u64 },
    /// The placement driver returned a batch of timestamps: `last` is the largest, `count` is how many there are.
    Tso { store: u64, last: u64, count: u32 },
    /// The store stopped serving for good, for the reason `why`.
    Poisoned { store: u64, why: String },
    /// Anything else worth tracing; `what` is a stable name.
    Note { store: u64, what: &'static str, a: u64, b: u64, data: Bytes },
}
