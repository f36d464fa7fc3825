//! The API version of a cluster: which keys its clients may use, and how raw keys are stored.
//!
//! It is chosen when the cluster is founded, and never changes.

/// The API version that a cluster serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Api {
    /// Any key. Raw keys are stored as they are.
    #[default]
    V1,
    /// Keys of keyspaces. Raw keys are stored in memcomparable encoding.
    V2,
}

impl Api {
    /// Returns the version that configurations and identities call by this number.
    pub fn numbered(number: u32) -> Option<Api> {
        match number {
            1 => Some(Api::V1),
            2 => Some(Api::V2),
            _ => None,
        }
    }

    /// Returns the version's number.
    pub fn number(self) -> u32 {
        match self {
            Api::V1 => 1,
            Api::V2 => 2,
        }
    }
}
