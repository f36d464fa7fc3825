//! Who waits for whom, and whether that is a circle. Pure.
//!
//! The graph of one store, in which a circle is found at once. One over keys of several stores is found by the
//! placement driver ([`super::circles`]).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::proto::deadlock::WaitForEntry;
use crate::proto::kvrpcpb::{Deadlock, KeyError};
use crate::types::Timestamp;

/// Transactions that wait: for whom, and for which key.
#[derive(Debug, Default)]
pub(super) struct Graph {
    edges: BTreeMap<Timestamp, BTreeMap<(Timestamp, Bytes), Edge>>,
}

/// What is known of an edge.
#[derive(Debug, Default)]
struct Edge {
    /// How many requests wait.
    count: usize,
    /// The tag of the newest request, which its client knows it by.
    tag: Bytes,
}

impl Graph {
    /// Adds that one transaction waits for another's lock on a key, unless that closes a circle. `tag` is the
    /// request's.
    ///
    /// # Errors
    /// The circle, as the reply says it; the new edge is last.
    pub(super) fn wait(
        &mut self,
        waiter: Timestamp,
        holder: Timestamp,
        key: &Bytes,
        tag: &Bytes,
    ) -> Result<(), Deadlock> {
        let undetected = crate::mutant!("txn.wait-deadlock-undetected");
        if let Some(mut chain) = self.chain(holder, waiter).filter(|_| !undetected) {
            crate::reach!("txn.deadlock");
            chain.push(entry(waiter, holder, key, tag));
            return Err(circle(holder, key, chain));
        }
        let edge = self.edges.entry(waiter).or_default().entry((holder, key.clone())).or_default();
        edge.count += 1;
        edge.tag = tag.clone();
        Ok(())
    }

    /// Removes what [`Graph::wait`] has added.
    pub(super) fn done(&mut self, waiter: Timestamp, holder: Timestamp, key: &Bytes) {
        let Some(edges) = self.edges.get_mut(&waiter) else { return };
        if let Some(edge) = edges.get_mut(&(holder, key.clone())) {
            edge.count -= 1;
            if edge.count == 0 {
                edges.remove(&(holder, key.clone()));
            }
        }
        if edges.is_empty() {
            self.edges.remove(&waiter);
        }
    }

    /// Returns the edges of a way from one transaction to another.
    fn chain(&self, from: Timestamp, to: Timestamp) -> Option<Vec<WaitForEntry>> {
        let mut seen = BTreeSet::from([from]);
        let mut ways: Vec<(Timestamp, Vec<WaitForEntry>)> = vec![(from, Vec::new())];
        while let Some((at, way)) = ways.pop() {
            for ((holder, key), edge) in self.edges.get(&at).into_iter().flatten() {
                let mut way = way.clone();
                way.push(entry(at, *holder, key, &edge.tag));
                if *holder == to {
                    return Some(way);
                }
                if seen.insert(*holder) {
                    ways.push((*holder, way));
                }
            }
        }
        None
    }
}

/// Returns a wait as replies tell it.
pub(super) fn entry(waiter: Timestamp, holder: Timestamp, key: &Bytes, tag: &Bytes) -> WaitForEntry {
    WaitForEntry {
        txn: waiter.0,
        wait_for_txn: holder.0,
        key_hash: farmhash::fingerprint64(key),
        key: key.clone(),
        resource_group_tag: tag.clone(),
    }
}

/// Returns a deadlock as a reply says it: the wait of its caller for `holder` is the last of the chain. The hash is
/// that of the caller's own key for which another one waits.
fn circle(holder: Timestamp, key: &Bytes, wait_chain: Vec<WaitForEntry>) -> Deadlock {
    let waited_for = wait_chain.iter().rev().nth(1).map_or(0, |entry| entry.key_hash);
    Deadlock {
        lock_ts: holder.0,
        lock_key: key.clone(),
        deadlock_key_hash: waited_for,
        wait_chain,
        deadlock_key: Bytes::new(),
    }
}

/// Returns the error of a wait for the transaction `holder` that is part of a circle over several stores. Its own edge
/// is last.
pub(super) fn over_stores(key: &Bytes, holder: Timestamp, chain: Vec<WaitForEntry>) -> KeyError {
    error(circle(holder, key, chain))
}

/// Returns the error of a reply.
pub(super) fn error(deadlock: Deadlock) -> KeyError {
    KeyError { deadlock: Some(deadlock), ..KeyError::default() }
}

#[cfg(test)]
mod tests {
    //! Goal: exactly circles are found, with the edges in order. Method: a chain that is closed, opened and closed
    //! again.
    use super::*;

    #[test]
    fn a_circle_is_told_in_order() {
        let mut graph = Graph::default();
        let [a, b, c] = ["a", "b", "c"].map(Bytes::from);
        let at = Timestamp;
        assert!(graph.wait(at(1), at(2), &a, &Bytes::new()).is_ok());
        assert!(graph.wait(at(2), at(3), &b, &Bytes::new()).is_ok());
        assert!(graph.wait(at(4), at(1), &c, &Bytes::new()).is_ok(), "no circle");
        let told = graph.wait(at(3), at(1), &c, &Bytes::new()).unwrap_err();
        let edges: Vec<_> = told.wait_chain.iter().map(|edge| (edge.txn, edge.wait_for_txn)).collect();
        assert_eq!(edges, [(1, 2), (2, 3), (3, 1)]);
        assert_eq!((told.lock_ts, &told.lock_key[..]), (1, &b"c"[..]));
        assert_eq!(told.deadlock_key_hash, farmhash::fingerprint64(b"b"), "of the wait for transaction 3");
        graph.done(at(2), at(3), &b);
        assert!(graph.wait(at(3), at(1), &c, &Bytes::new()).is_ok());
        assert!(graph.wait(at(2), at(3), &b, &Bytes::new()).is_err());
        for (waiter, holder, key) in [(1, 2, &a), (3, 1, &c), (4, 1, &c)] {
            graph.done(at(waiter), at(holder), key);
        }
        assert!(graph.edges.is_empty());
    }
}
