//! Ticks: time passes for every group.

use crate::types::{Error, GroupId, Result};

use super::Driver;

impl Driver {
    pub(super) async fn tick(&mut self) -> Result<()> {
        self.tick_waiting.begin();
        let now_ns = self.clock.now().0;
        let limit_ns = self.options.raft.election_ns();
        let groups: Vec<GroupId> = self.peers.keys().copied().collect();
        for group in groups {
            if let Some(peer) = self.peers.get_mut(&group) {
                peer.group.tick(now_ns);
                let leads = peer.group.leads();
                let lost = || Error::Unknown("leadership was lost while it was under way".into());
                peer.proposals.fail_lost(leads, now_ns, limit_ns, lost);
            }
            self.touch(group);
        }
        self.maybe_flush();
        self.truncate();
        self.keep_log().await
    }
}
