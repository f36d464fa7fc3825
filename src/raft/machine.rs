//! What a raft group replicates: the state machine behind the log.

use bytes::Bytes;

use crate::engine::{Cf, Read, WriteBatch};
use crate::types::{Region, Result};

/// Where a command stands when it is applied.
#[derive(Clone, Copy, Debug)]
pub struct ApplyContext<'a> {
    /// The group's descriptor at this entry.
    pub region: &'a Region,
    /// The entry's index.
    pub index: u64,
    /// The entry's term.
    pub term: u64,
}

/// A range of the engine that belongs to a group: `[start, end)`, an empty end is plus infinity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CfRange {
    /// The column family.
    pub cf: Cf,
    /// First key.
    pub start: Bytes,
    /// First key beyond.
    pub end: Bytes,
}

/// The replicated state machine of one group: a data region or the placement driver.
///
/// The driver calls [`StateMachine::apply`] for every committed command in log order, exactly once for each state of the
/// engine (the applied index is in the same batch), and hands the reply to whoever proposed it on this node.
///
/// Must never: read a clock, draw a random number, or answer differently for the same state and command.
pub trait StateMachine: Send + 'static {
    /// Whether [`StateMachine::apply`] reads the engine for this command. If so, everything applied before it is in `read`.
    fn reads(&self, command: &Bytes) -> bool;

    /// Applies one command: changes go to `batch`, the reply is what the proposer gets.
    ///
    /// # Errors
    /// Only what makes this node unable to go on (a corrupt command or engine): the store stops. A refusal is a reply.
    fn apply(
        &mut self,
        context: ApplyContext<'_>,
        command: Bytes,
        read: &dyn Read,
        batch: &mut WriteBatch,
    ) -> Result<Bytes>;

    /// The ranges of the engine that make up this group's state; a snapshot carries and replaces exactly these.
    fn ranges(&self, region: &Region) -> Vec<CfRange>;

    /// Forgets what is kept in memory and reads it again: called after a start and after a snapshot was installed.
    ///
    /// # Errors
    /// When the engine's content does not decode.
    fn reload(&mut self, region: &Region, read: &dyn Read) -> Result<()>;
}
