//! The node that a fault strikes.

use serde::{Deserialize, Serialize};

/// A node by its number, or by its role when the fault begins. In a file: `node-3`, `leader-0`, `follower-0`,
/// `pd-leader`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// The node with this number (from 1).
    Node(u32),
    /// The leader of the region with this number (from 0).
    Leader(u32),
    /// The node after that leader by number: a follower.
    Follower(u32),
    /// The leader of the placement driver's group.
    PdLeader,
}

impl From<Target> for String {
    fn from(target: Target) -> String {
        match target {
            Target::Node(n) => format!("node-{n}"),
            Target::Leader(region) => format!("leader-{region}"),
            Target::Follower(region) => format!("follower-{region}"),
            Target::PdLeader => "pd-leader".into(),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = String;
    fn try_from(text: String) -> Result<Target, String> {
        let unknown = || format!("`{text}` is not node-N, leader-N, follower-N or pd-leader");
        let number = |rest: &str| rest.parse().map_err(|_| unknown());
        match text.split_once('-') {
            Some(("node", rest)) => number(rest).map(Target::Node),
            Some(("leader", rest)) => number(rest).map(Target::Leader),
            Some(("follower", rest)) => number(rest).map(Target::Follower),
            Some(("pd", "leader")) => Ok(Target::PdLeader),
            _ => Err(unknown()),
        }
    }
}
