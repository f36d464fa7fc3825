//! Proposals: commands that wait are packed into entries.

use bytes::Bytes;

use crate::raft::frame;
use crate::types::GroupId;
use crate::types::limits::{ENTRY_BYTES_MAX, ROUND_BYTES_MAX};

use super::Driver;
use crate::replica::peer::{Packed, Proposal};

impl Driver {
    /// Packs commands that wait into entries, as many as go into the log at a time. During a transfer they continue to
    /// wait: when the transfer is over, the new leader is known.
    pub(super) fn propose(&mut self, group: GroupId) {
        let now_ns = self.clock.now().0;
        let pack_bytes_max = if crate::buggify!("driver.tiny-pack") { 1 } else { self.options.pack_bytes_max };
        let Some(peer) = self.peers.get_mut(&group) else { return };
        if peer.group.transfers() {
            crate::reach!("driver.proposals-wait-for-transfer");
            return;
        }
        let term = peer.group.term();
        let mut bytes = 0;
        while bytes < ROUND_BYTES_MAX
            && let Some(Packed { commands, replies }) = peer.proposals.pack(term, pack_bytes_max)
        {
            let payload = frame::encode(commands.iter());
            bytes += payload.len();
            assert!(
                payload.len() <= ENTRY_BYTES_MAX + pack_bytes_max + frame::HEADER_BYTES * commands.len(),
                "an entry is bounded by its first command and the packing"
            );
            match peer.group.propose(payload, now_ns) {
                Ok(_) if crate::mutant!("replica.ack-before-commit") => {
                    for reply in replies {
                        reply.settle(Ok(Bytes::new()));
                    }
                }
                Ok((index, term)) => peer.proposals.await_entry(Proposal { index, term, replies }),
                Err(_) => {
                    for reply in replies {
                        reply.settle(Err(peer.view.not_leader()));
                    }
                }
            }
        }
    }
}
