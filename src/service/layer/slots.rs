//! Slots and permits: they bound how much of a node JSON queries may use.
//!
//! ```text
//!   a request -> QueryGuard (refused if there are QUERIES_MAX) -> a permit for each slice of work, in order of arrival
//! ```
//! Parsing is the most expensive work that a client can ask for: a short request keeps a core busy for a second. At
//! most half of the cores, but at least one, do it at the same time, so that reads and writes can proceed. A query
//! waits in its own task. A cancelled request frees its slot at once, and a slice that has begun keeps its permit until
//! it ends.

use std::sync::Arc;

use prometheus::IntGauge;

use crate::rt::cpu;
use crate::rt::sync::{OwnedSemaphorePermit, Semaphore};
use crate::types::limits::QUERIES_MAX;
use crate::types::{Error, Result};

/// Slots for queries in progress, and permits to use a core. Clones share them.
#[derive(Clone, Debug)]
pub struct Queries {
    slots: Arc<Semaphore>,
    cores: Arc<Semaphore>,
    gauge: IntGauge,
}

impl Queries {
    /// Creates permits for half of the machine's cores. `gauge`, which must not be changed elsewhere, counts the
    /// queries in progress.
    pub fn new(gauge: IntGauge) -> Queries {
        Queries::on((cpu::cores() / 2).max(1), QUERIES_MAX, gauge)
    }

    fn on(cores: usize, slots: usize, gauge: IntGauge) -> Queries {
        Queries { slots: Arc::new(Semaphore::new(slots)), cores: Arc::new(Semaphore::new(cores)), gauge }
    }

    /// Takes a slot for a query.
    ///
    /// # Errors
    /// Returns [`Error::Busy`] if [`QUERIES_MAX`] queries are in progress.
    pub(crate) fn begin(&self) -> Result<QueryGuard> {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let waiting = self.gauge.get();
            return Err(Error::Busy(format!("{waiting} queries are in progress, the limit is {QUERIES_MAX}")));
        };
        self.gauge.inc();
        Ok(QueryGuard { cores: self.cores.clone(), gauge: self.gauge.clone(), _slot: slot })
    }
}

/// A query in progress. Frees its slot when dropped.
#[derive(Debug)]
pub(crate) struct QueryGuard {
    cores: Arc<Semaphore>,
    gauge: IntGauge,
    _slot: OwnedSemaphorePermit,
}

impl QueryGuard {
    /// Waits for a core. Dropping the permit frees it: pass the permit to the work, which cannot be cancelled.
    pub(crate) async fn permit(&self) -> OwnedSemaphorePermit {
        self.cores.clone().acquire_owned().await.expect("the semaphore is never closed")
    }
}

impl Drop for QueryGuard {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    //! Goal: at most as much work at a time as there are cores, at most as many queries as slots, and nothing is lost
    //! when one is cancelled. Method: futures polled by hand.

    use futures::FutureExt as _;

    use super::*;

    fn queries(cores: usize, slots: usize) -> Queries {
        Queries::on(cores, slots, IntGauge::new("queries", "queries").unwrap())
    }

    #[test]
    fn permits_are_taken_in_order_and_given_up() {
        let queries = queries(1, 3);
        let all: Vec<QueryGuard> = (0..3).map(|_| queries.begin().unwrap()).collect();
        let permit = all[0].permit().now_or_never().expect("a free core");
        let mut second = Box::pin(all[1].permit());
        let mut third = Box::pin(all[2].permit());
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        drop(permit);
        assert!(third.as_mut().now_or_never().is_none(), "the second came first");
        drop(second);
        assert!(third.as_mut().now_or_never().is_some(), "a cancelled query is not waited for");
    }

    #[test]
    fn one_too_many_is_told_that_the_node_is_busy() {
        let queries = queries(1, 2);
        let (first, second) = (queries.begin().unwrap(), queries.begin().unwrap());
        assert_eq!(queries.gauge.get(), 2);
        assert!(matches!(queries.begin(), Err(Error::Busy(_))));
        drop(first);
        let third = queries.begin().expect("a slot is free again");
        drop((second, third));
        assert_eq!(queries.gauge.get(), 0);
    }

    #[test]
    fn some_core_is_always_there() {
        let queries = Queries::new(IntGauge::new("queries", "queries").unwrap());
        assert!(queries.cores.available_permits() >= 1);
    }
}
