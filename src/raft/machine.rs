//! The interface of the state machine that a raft group replicates.

use bytes::Bytes;

use crate::engine::{Cf, Read, WriteBatch};
use crate::proto::armilla::raft::Merges;
use crate::types::{GroupId, Region, Result};

use super::frame::Command;

pub use crate::engine::CfRange;

/// The log position of a command that is being applied.
#[derive(Clone, Copy, Debug)]
pub struct ApplyContext {
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
}

/// An effect of applying a command other than the engine's new content and the reply. Reported to the store through a
/// bounded channel once the engine holds the applied entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The group may now contain values with an expiry.
    WroteExpiring,
}

/// The result of applying a command.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Applied {
    /// The reply to the proposer.
    pub reply: Bytes,
    /// The effect on this store, if any.
    pub effect: Option<Effect>,
    /// Groups that begin with this command, on every replica alike, each at [`FIRST`](super::membership::FIRST): the
    /// group has given them part of its range. Its own descriptor, [`StateMachine::region`], has changed with it.
    pub born: Vec<Region>,
    /// Whether [`StateMachine::region`] or [`StateMachine::merges`] has changed, other than by what the rest says.
    pub reshaped: bool,
    /// The group whose range this one has taken over.
    pub absorbed: Option<GroupId>,
}

/// A group whose peer here stops so that another group takes over its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absorbs {
    /// The group that stops.
    pub source: GroupId,
    /// The index and term of its entry that is the last to be applied; `None` if the other group's snapshot has all of
    /// that.
    pub at: Option<(u64, u64)>,
}

/// A step of a merge that a leader takes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MergeStep {
    /// Every peer's log holds the command that froze the group.
    Seal,
    /// The group goes on as before.
    RollBack {
        /// The target decided against a merge that was sealed.
        is_proved: bool,
    },
    /// The target takes over the group. For the target's log.
    Commit,
    /// No merge into this group at its present epoch.
    Refuse,
    /// No store has a peer of this group any more, which became part of the group.
    Forget(GroupId),
}

impl Applied {
    /// Creates a result with only a reply.
    pub fn reply(reply: impl Into<Bytes>) -> Applied {
        Applied { reply: reply.into(), ..Applied::default() }
    }
}

/// The replicated state machine of one group: a data region or the placement driver. It owns the group's descriptor.
///
/// The driver calls [`StateMachine::apply`] for every committed command in log order, exactly once for each state of
/// the engine (the applied index is in the same batch), and passes the reply to the proposer if that is on this node.
///
/// **Never**: the use of a clock or a random number, or two different results for the same state and command.
pub trait StateMachine: Send + 'static {
    /// Returns the group's descriptor, as of the last applied command.
    fn region(&self) -> &Region;

    /// Returns the keys that applying a command reads; additional keys do no harm. The driver reads them into memory
    /// beforehand, so that no lane waits for the disk. The outcome of a command never depends on that.
    fn reads(&self, command: &Command) -> Vec<(Cf, Bytes)>;

    /// Applies one command by adding its changes to `batch`. For commands of kind [`Reads`](super::frame::Kind::Reads)
    /// and [`Admin`](super::frame::Kind::Admin), `read` contains everything applied before; for other commands it may
    /// lag behind.
    ///
    /// A command that this version does not know, or that cannot be decoded, is rejected in the reply: every replica
    /// has the same bytes and must continue.
    ///
    /// # Errors
    /// Only if this node cannot continue (the engine fails): the store stops.
    fn apply(
        &mut self,
        context: ApplyContext,
        command: Command,
        read: &dyn Read,
        batch: &mut WriteBatch,
    ) -> Result<Applied>;

    /// Returns the descriptor that a command which changes the group's members leads to, if it is applied next.
    ///
    /// # Errors
    /// Why it would be refused, as the reply for its proposer.
    fn members_after(&self, term: u64, command: &Command) -> Result<Region, Bytes>;

    /// Returns the command that ends a joint membership.
    fn leave_joint(&self) -> Command;

    /// Returns what merges have made of the group, as of the last applied command.
    fn merges(&self) -> &Merges {
        static NONE: Merges = Merges { merging: None, absorbed: Vec::new(), marks: None };
        &NONE
    }

    /// Returns the group that must stop before a command is applied next, if there is one.
    fn absorbs(&self, _term: u64, _command: &Command) -> Option<Absorbs> {
        None
    }

    /// Returns the command that makes a step of a merge.
    fn merge_step(&self, step: &MergeStep) -> Command {
        unreachable!("only regions are merged: {step:?}")
    }

    /// Returns the reply for a proposer on this node whose entry could not be decoded.
    fn refusal(&self, why: &str) -> Bytes;

    /// Returns the engine's ranges that make up the state of a group with this descriptor. A snapshot contains and
    /// replaces exactly these.
    fn ranges(&self, region: &Region) -> Vec<CfRange>;

    /// Takes over a descriptor and its merges, drops the state kept in memory and reads it again. Called after a start
    /// and after a snapshot was installed.
    ///
    /// # Errors
    /// If the engine's content cannot be decoded.
    fn reload(&mut self, region: &Region, merges: &Merges, read: &dyn Read) -> Result<()>;
}
