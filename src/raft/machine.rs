//! What a raft group replicates: the state machine behind the log.

use bytes::Bytes;

use crate::engine::{Cf, Read, WriteBatch};
use crate::types::{Region, Result};

use super::frame::Command;

pub use crate::engine::CfRange;

/// Where a command stands when it is applied.
#[derive(Clone, Copy, Debug)]
pub struct ApplyContext {
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
}

/// What applying a command means beyond the engine's content and the reply. Told to the store through one bounded channel, once
/// the engine holds what was applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Values with an expiry may have come into the group.
    WroteExpiring,
}

/// What applying a command gave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// For the proposer.
    pub reply: Bytes,
    /// For this store.
    pub effect: Option<Effect>,
}

impl Applied {
    /// A reply, and nothing else to tell.
    pub fn reply(reply: impl Into<Bytes>) -> Applied {
        Applied { reply: reply.into(), effect: None }
    }
}

/// The replicated state machine of one group: a data region or the placement driver. It owns the group's descriptor.
///
/// The driver calls [`StateMachine::apply`] for every committed command in log order, exactly once for each state of the
/// engine (the applied index is in the same batch), and hands the reply to whoever proposed it on this node.
///
/// **Never**: a clock, a random number, or a different answer for the same state and command.
pub trait StateMachine: Send + 'static {
    /// The group's descriptor, as of the last command applied.
    fn region(&self) -> &Region;

    /// The keys that applying a command reads; some more do no harm. The driver has them read into memory before, so that no lane waits
    /// for the disk; what a command does never depends on that.
    fn reads(&self, command: &Command) -> Vec<(Cf, Bytes)>;

    /// Applies one command: changes go to `batch`. For commands of kind [`Reads`](super::frame::Kind::Reads) and
    /// [`Admin`](super::frame::Kind::Admin) everything applied before is in `read`; for others `read` may be behind.
    ///
    /// A command that this version does not know, or that does not decode, is refused in the reply: every replica has the same
    /// bytes and must go on.
    ///
    /// # Errors
    /// Only what makes this node unable to go on (the engine fails): the store stops.
    fn apply(
        &mut self,
        context: ApplyContext,
        command: Command,
        read: &dyn Read,
        batch: &mut WriteBatch,
    ) -> Result<Applied>;

    /// The reply for a proposer whose entry could not be understood, although this node wrote it.
    fn refusal(&self, why: &str) -> Bytes;

    /// The ranges of the engine that make up the state of a group with this descriptor; a snapshot carries and replaces exactly
    /// these.
    fn ranges(&self, region: &Region) -> Vec<CfRange>;

    /// Takes over a descriptor, forgets what is kept in memory and reads it again: called after a start and after a snapshot was
    /// installed.
    ///
    /// # Errors
    /// When the engine's content does not decode.
    fn reload(&mut self, region: &Region, read: &dyn Read) -> Result<()>;
}
