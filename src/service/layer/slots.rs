//! Slots and permits: how much of a node queries over JSON may take.
//!
//! ```text
//!   a request -> QueryGuard (refused when there are QUERIES_MAX) -> a permit for each slice of work, first come first served
//! ```
//! Parsing is the dearest work that a client can ask for: a short request keeps a core busy for a second. Half of the cores take it at
//! a time, at least one, so that reads and writes go on beside it. Who waits does so in its task: a request that is given up gives
//! up its slot at once, and a slice that has begun keeps its permit until it ends.

use std::sync::Arc;

use prometheus::IntGauge;

use crate::rt::cpu;
use crate::rt::sync::{OwnedSemaphorePermit, Semaphore};
use crate::types::limits::QUERIES_MAX;
use crate::types::{Error, Result};

/// Slots for queries under way, and permits to use a core. Clones share them.
#[derive(Clone, Debug)]
pub struct Queries {
    slots: Arc<Semaphore>,
    cores: Arc<Semaphore>,
    gauge: IntGauge,
}

impl Queries {
    /// Permits for half of the machine's cores; `gauge`, which nobody else changes, counts the queries under way.
    pub fn new(gauge: IntGauge) -> Queries {
        Queries::on((cpu::cores() / 2).max(1), QUERIES_MAX, gauge)
    }

    fn on(cores: usize, slots: usize, gauge: IntGauge) -> Queries {
        Queries { slots: Arc::new(Semaphore::new(slots)), cores: Arc::new(Semaphore::new(cores)), gauge }
    }

    /// One more query.
    ///
    /// # Errors
    /// [`Error::Busy`] when there are [`QUERIES_MAX`] already.
    pub(crate) fn begin(&self) -> Result<QueryGuard> {
        let Ok(slot) = self.slots.clone().try_acquire_owned() else {
            let waiting = self.gauge.get();
            return Err(Error::Busy(format!("{waiting} queries are under way, the limit is {QUERIES_MAX}")));
        };
        self.gauge.inc();
        Ok(QueryGuard { cores: self.cores.clone(), gauge: self.gauge.clone(), _slot: slot })
    }
}

/// A query under way; its slot is free again when this is dropped.
#[derive(Debug)]
pub(crate) struct QueryGuard {
    cores: Arc<Semaphore>,
    gauge: IntGauge,
    _slot: OwnedSemaphorePermit,
}

impl QueryGuard {
    /// Waits for a core, which is free again when this is dropped: give it to the work, which nobody can take back.
    pub(crate) async fn permit(&self) -> OwnedSemaphorePermit {
        self.cores.clone().acquire_owned().await.expect("nobody closes it")
    }
}

impl Drop for QueryGuard {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

#[cfg(test)]
mod tests {
    //! Goal: no more work at a time than there are cores, no more queries than slots, nothing lost when one is given up. Method: futures
    //! polled by hand.

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
        assert!(third.as_mut().now_or_never().is_some(), "who gives up is not waited for");
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
