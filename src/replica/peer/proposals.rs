//! Who waits for a write: in the queue, or for an entry that is under way.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::raft::frame::Command;
use crate::replica::message::Waiting;
use crate::types::Error;

/// A command that waits to be packed into an entry.
#[derive(Debug)]
pub struct Queued {
    /// The term in which its proposer decided; 0: any.
    pub term: u64,
    /// The command.
    pub command: Command,
    /// Who waits for it.
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
    /// Its index.
    pub index: u64,
    /// Its term.
    pub term: u64,
    /// Who waits, in the order of its commands.
    pub replies: Vec<Waiting>,
}

/// Commands that share one entry.
#[derive(Debug)]
pub struct Packed {
    /// The commands.
    pub commands: Vec<Command>,
    /// Who waits, in the order of the commands.
    pub replies: Vec<Waiting>,
}

/// The proposals of one group.
#[derive(Debug, Default)]
pub struct Proposals {
    queue: VecDeque<Queued>,
    /// By index.
    under_way: VecDeque<Proposal>,
    /// When leadership was lost with entries under way (node clock, ns).
    lost_ns: Option<u64>,
}

impl Proposals {
    /// A command waits.
    pub fn queue(&mut self, queued: Queued) {
        self.queue.push_back(queued);
    }

    /// Whether nothing waits to be packed.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes the commands of the next entry in `term`: from the front, as many as have at most `bytes_max` together, and at
    /// least one. A command that must stand alone is the only one. Commands that nobody waits for any more are dropped on the
    /// way, and those that were decided in another term are refused. Nothing when nothing is left.
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

    /// The first command that waits and may be proposed in `term`.
    fn take_first(&mut self, term: u64) -> Option<Queued> {
        loop {
            let queued = self.queue.pop_front()?;
            // Nobody waits any more: the caller has given up, and may be trying elsewhere.
            if queued.reply.is_gone() {
                continue;
            }
            if queued.is_decided_in(term) {
                return Some(queued);
            }
            queued.reply.settle(Err(Error::StaleCommand));
        }
    }

    /// Remembers who waits for an entry that was just proposed. Entries of an earlier leadership at or behind its place are
    /// overwritten here; another peer that still holds them may yet commit them.
    pub fn await_entry(&mut self, proposal: Proposal) {
        // This peer leads: whatever was lost before, this entry's time has not begun.
        self.lost_ns = None;
        while self.under_way.back().is_some_and(|last| last.index >= proposal.index)
            && let Some(overwritten) = self.under_way.pop_back()
        {
            fail(overwritten, || Error::Unknown("leadership was lost while it was under way".into()));
        }
        if let Some(last) = self.under_way.back() {
            assert!(
                last.index < proposal.index && last.term <= proposal.term,
                "a proposal comes behind those before it: entry {} of term {} after entry {} of term {}",
                proposal.index,
                proposal.term,
                last.index,
                last.term
            );
        }
        self.under_way.push_back(proposal);
    }

    /// Settles the proposals at and before an applied entry. Those of another term at that index never happened: they get
    /// `refused`.
    pub fn settle(&mut self, index: u64, term: u64, replies: Vec<Bytes>, refused: impl Fn() -> Error) {
        while self.under_way.front().is_some_and(|first| first.index < index)
            && let Some(proposal) = self.under_way.pop_front()
        {
            // Entries are applied one by one, so an older proposal can only remain if a snapshot jumped over it.
            fail(proposal, || Error::Unknown("a snapshot replaced the log before the write's fate was seen".into()));
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

    /// Fails the entries under way when leadership has been lost for `limit_ns`: their fate may never be seen here.
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

    /// Fails everything.
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
