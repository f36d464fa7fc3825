//! Peers that hear no leader: they may have been removed from their group without hearing of it.
//!
//! The placement driver knows the newest descriptor of every region. **In** come the views of this store's peers;
//! **out** go descriptors that may prove that a peer is no member any more. **Never**: a conclusion from silence alone.

use std::sync::Arc;
use std::time::Duration;

use super::PdLink;
use crate::replica::Handle;
use crate::rt::clock::Clock;
use crate::types::GroupId;

/// Asks about peers without a leader.
pub struct Alone {
    /// The handle of the store's replicas.
    pub handle: Handle,
    /// The node's clock.
    pub clock: Clock,
    /// The connection to PD.
    pub pd: Arc<dyn PdLink>,
    /// The time between two rounds, and the longest time to wait for an answer.
    pub interval: Duration,
}

impl Alone {
    /// Runs until it is dropped.
    pub async fn run(self) {
        loop {
            self.clock.sleep(self.interval).await;
            let mut alone = self.handle.views();
            alone.retain(|view| view.group != GroupId::PD && view.is_alone());
            for view in alone {
                let known = self.clock.timeout(self.interval, self.pd.region(view.group.0)).await;
                if let Ok(Ok(Some(region))) = known {
                    self.handle.end_by_proof(view.group, region);
                }
            }
        }
    }
}
