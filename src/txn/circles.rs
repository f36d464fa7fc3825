//! Circles of waiting transactions over several stores: the placement driver is told who waits, and says whose wait is
//! to end.
//!
//! Waits come **in**, reports of those that last go **out**, and a circle comes back to the request that is to end.
//! **Never**: a report while the answer to the one before is outstanding.

use std::time::Duration;

use crate::store::Kv;

use super::keeper::Keeper;

/// The time between two reports, while a request waits.
const INTERVAL: Duration = Duration::from_millis(100);

impl<K: Kv> Keeper<K> {
    /// Reports waits, and ends those that the placement driver names. Never returns.
    pub(super) async fn report_waits(&self) {
        let mut has_reported = false;
        loop {
            self.txn.kv.sleep(INTERVAL).await;
            let waits = self.txn.parked().lasting(self.txn.kv.now());
            if (waits.is_empty() && !has_reported) || crate::mutant!("txn.circles-not-reported") {
                continue;
            }
            has_reported = !waits.is_empty();
            let Ok(others) = self.txn.others() else { continue };
            // Each report is later than the one before.
            let number = self.txn.kv.now().0;
            match others.report_waits(number, waits).await {
                Ok(circles) => {
                    circles.into_iter().for_each(|circle| self.txn.parked().end(circle.number, circle.chain))
                }
                Err(error) => tracing::debug!(%error, "could not report waiting transactions"),
            }
        }
    }
}
