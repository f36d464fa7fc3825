//! Proposals: commands that wait are packed into entries.

use bytes::Bytes;

use crate::raft::frame::{self, Command, Kind};
use crate::types::limits::{ENTRY_BYTES_MAX, ROUND_BYTES_MAX};
use crate::types::{Error, GroupId, Result};

use super::Driver;
use crate::replica::peer::{Packed, Peer, Proposal};

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
            if let [command] = &commands[..]
                && command.kind == Kind::Members
            {
                let proposed = propose_members(peer, term, command, now_ns);
                for reply in replies {
                    match &proposed {
                        Ok((index, term)) => {
                            let (index, term) = (*index, *term);
                            peer.proposals.await_entry(Proposal { index, term, replies: vec![reply] });
                        }
                        Err(Refused::Reply(bytes)) => reply.settle(Ok(bytes.clone())),
                        Err(Refused::Error(Error::NotLeader { .. })) => reply.settle(Err(peer.view.not_leader())),
                        Err(Refused::Error(error)) => reply.settle(Err(error.clone())),
                    }
                }
                continue;
            }
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

/// Why a change of members was not proposed.
enum Refused {
    /// The state machine refuses it: its reply.
    Reply(Bytes),
    /// The group refuses it.
    Error(Error),
}

/// Proposes a command that changes a group's members, and returns the entry's index and term.
fn propose_members(peer: &mut Peer, term: u64, command: &Command, now_ns: u64) -> Result<(u64, u64), Refused> {
    let to = peer.machine.members_after(term, command).map_err(Refused::Reply)?;
    let payload = frame::encode([command].into_iter());
    let from = peer.machine.region().clone();
    peer.group.propose_members(payload, &from, &to, now_ns).map_err(Refused::Error)
}

impl Driver {
    /// Ends the joint memberships of the groups that are led here. A leader that will be no voter hands over first.
    pub(super) fn leave_joint(&mut self, groups: Vec<GroupId>) {
        let now_ns = self.clock.now().0;
        for group in groups {
            let Some(peer) = self.peers.get_mut(&group) else { continue };
            if peer.group.should_leave_joint() {
                let command = peer.machine.leave_joint();
                let term = peer.group.term();
                if let Err(Refused::Error(error)) = propose_members(peer, term, &command, now_ns) {
                    tracing::debug!(%group, %error, "cannot end the joint membership yet");
                }
                self.touch(group);
            } else if peer.group.is_leaving() {
                crate::reach!("driver.demoted-leader-hands-over");
                self.hand_over(|one| one == group);
            }
        }
    }
}
