//! Pending writes: commands in the queue, and entries that are in flight.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::raft::frame::Command;
use crate::replica::message::Waiting;
use crate::types::Error;

/// A command that waits to be packed into an entry.
#[derive(Debug)]
pub struct Queued {
    /// The term in which the proposer decided; 0 for any term.
    pub term: u64,
    /// The command.
    pub command: Command,
    /// The caller that waits for it.
    pub reply: Waiting,
}

impl Queued {
    fn is_decided_in(&self, term: u64) -> bool {
        self.term == 0 || self.term == term
    }
}

/// An entry that was proposed here and is not applied yet.
#[derive(Debug)]
pub struct Proposal {
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
    /// The callers that wait, in the order of the entry's commands.
    pub replies: Vec<Waiting>,
}

/// Commands that share one entry.
#[derive(Debug)]
pub struct Packed {
    /// The commands.
    pub commands: Vec<Command>,
    /// The callers that wait, in the order of the commands.
    pub replies: Vec<Waiting>,
}

/// The proposals of one group.
#[derive(Debug, Default)]
pub struct Proposals {
    queue: VecDeque<Queued>,
    /// Sorted by index.
    under_way: VecDeque<Proposal>,
    /// When leadership was lost with entries in flight (node clock, ns).
    lost_ns: Option<u64>,
}

impl Proposals {
    /// Queues a command.
    pub fn queue(&mut self, queued: Queued) {
        self.queue.push_back(queued);
    }

    /// Returns whether no caller waits.
    pub fn is_settled(&self) -> bool {
        self.queue.is_empty() && self.under_way.is_empty()
    }

    /// Returns whether the queue is empty.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes the commands of the next entry in `term` from the front of the queue: as many as have at most `bytes_max`
    /// bytes together, and at least one. A command that must stand alone gets an entry of its own. Commands whose
    /// callers have gone are dropped, and commands that were decided in another term are refused. Returns `None` if
    /// there is no command left.
    pub fn pack(&mut self, term: u64, bytes_max: usize) -> Option<Packed> {
        let Queued { command, reply, .. } = self.take_first(term)?;
        let alone = command.kind.stands_alone();
        let mut bytes = command.bytes.len();
        let mut packed = Packed { commands: vec![command], replies: vec![reply] };
        let fits = |bytes: usize, next: &Queued| {
            !alone
                && !next.command.kind.stands_alone()
                && bytes + next.command.bytes.len() <= bytes_max
                && next.is_decided_in(term)
        };
        while let Some(next) = self.queue.pop_front_if(|next| fits(bytes, next)) {
            bytes += next.command.bytes.len();
            packed.commands.push(next.command);
            packed.replies.push(next.reply);
        }
        Some(packed)
    }

    /// Takes the first command in the queue that may be proposed in `term`.
    fn take_first(&mut self, term: u64) -> Option<Queued> {
        loop {
            let queued = self.queue.pop_front()?;
            // The caller has given up, and may be retrying elsewhere.
            if queued.reply.is_gone() {
                continue;
            }
            if queued.is_decided_in(term) {
                return Some(queued);
            }
            queued.reply.settle(Err(Error::StaleCommand));
        }
    }

    /// Remembers the callers of an entry that was just proposed. Entries of an earlier leadership at or after its index
    /// are overwritten here; another peer that still holds them may yet commit them.
    pub fn await_entry(&mut self, proposal: Proposal) {
        // This peer is leader: an earlier loss of leadership does not count for this entry.
        self.lost_ns = None;
        while self.under_way.back().is_some_and(|last| last.index >= proposal.index)
            && let Some(overwritten) = self.under_way.pop_back()
        {
            fail(overwritten, || Error::Unknown("leadership was lost while the write was in flight".into()));
        }
        if let Some(last) = self.under_way.back() {
            assert!(
                last.index < proposal.index && last.term <= proposal.term,
                "proposals are not in order: entry {} of term {} after entry {} of term {}",
                proposal.index,
                proposal.term,
                last.index,
                last.term
            );
        }
        self.under_way.push_back(proposal);
    }

    /// Settles the proposals at and before an applied entry. A proposal of another term at that index was never
    /// committed, and gets `refused`.
    pub fn settle(&mut self, index: u64, term: u64, replies: Vec<Bytes>, refused: impl Fn() -> Error) {
        while self.under_way.front().is_some_and(|first| first.index < index)
            && let Some(proposal) = self.under_way.pop_front()
        {
            // Entries are applied one by one, so an older proposal can only remain if a snapshot skipped it.
            fail(proposal, || {
                Error::Unknown("a snapshot replaced the log before the write's outcome was known".into())
            });
        }
        let Some(proposal) = self.under_way.pop_front_if(|first| first.index == index) else { return };
        if proposal.term == term || crate::mutant!("replica.settle-ignores-term") {
            assert_eq!(proposal.replies.len(), replies.len(), "an entry has as many replies as commands");
            for (waiting, reply) in proposal.replies.into_iter().zip(replies) {
                waiting.settle(Ok(reply));
            }
        } else {
            fail(proposal, refused);
        }
    }

    /// Fails the entries in flight once leadership has been lost for `limit_ns`: their outcome may never be known here.
    pub fn fail_lost(&mut self, leads: bool, now_ns: u64, limit_ns: u64, error: impl Fn() -> Error) {
        if leads || self.under_way.is_empty() {
            self.lost_ns = None;
            return;
        }
        let since_ns = *self.lost_ns.get_or_insert(now_ns);
        if now_ns >= since_ns + limit_ns {
            self.under_way.drain(..).for_each(|proposal| fail(proposal, &error));
        }
    }

    /// Fails all proposals.
    pub fn fail_all(&mut self, error: impl Fn() -> Error) {
        self.queue.drain(..).for_each(|queued| queued.reply.settle(Err(error())));
        self.under_way.drain(..).for_each(|proposal| fail(proposal, &error));
    }
}

fn fail(proposal: Proposal, error: impl Fn() -> Error) {
    for reply in proposal.replies {
        reply.settle(Err(error()));
    }
}
