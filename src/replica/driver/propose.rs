//! Proposals: what waits is packed into entries.

use bytes::Bytes;

use crate::raft::frame;
use crate::types::limits::ENTRY_BYTES_MAX;
use crate::types::{Error, GroupId};

use super::Driver;
use crate::replica::peer::{Proposal, Queued};

impl Driver {
    /// Packs what waits into entries. During a transfer it goes on waiting: when the transfer is over, the new leader is known.
    pub(super) fn propose(&mut self, group: GroupId) {
        let now_ns = self.clock.now().0;
        let pack_bytes_max = self.options.pack_bytes_max;
        let Some(peer) = self.peers.get_mut(&group) else { return };
        if peer.group.transfers() {
            return;
        }
        let term = peer.group.term();
        let mut queue = peer.proposals.take_queue().into_iter().peekable();
        while let Some(Queued { term: decided, command, reply }) = queue.next() {
            // Nobody waits any more: the caller has given up, and may be trying elsewhere.
            if reply.is_gone() {
                continue;
            }
            if decided != 0 && decided != term {
                reply.settle(Err(Error::StaleCommand));
                continue;
            }
            let alone = command.kind.stands_alone();
            let mut bytes = command.bytes.len();
            let (mut commands, mut replies) = (vec![command], vec![reply]);
            let fits = |bytes: usize, next: &Queued| {
                !alone
                    && !next.command.kind.stands_alone()
                    && bytes + next.command.bytes.len() <= pack_bytes_max
                    && (next.term == 0 || next.term == term)
            };
            while let Some(next) = queue.next_if(|next| fits(bytes, next)) {
                bytes += next.command.bytes.len();
                commands.push(next.command);
                replies.push(next.reply);
            }
            let payload = frame::encode(commands.iter());
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
