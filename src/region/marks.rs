//! How far back the transactional data of a region go: raised in the region's log, never lowered.
//!
//! **In** come a region's marks and what a command asks for; **out** come the marks after it, and removals. **Never**:
//! a mark that falls; history that is removed above the floor, where it may still be read.

use crate::engine::{Cf, WriteBatch};
use crate::proto::armilla::raft::{Change, CollectVersions, Marks};

/// Returns the larger of two regions' marks, each for itself.
pub fn larger(one: Option<Marks>, other: Option<Marks>) -> Option<Marks> {
    let (a, b) = (one.unwrap_or_default(), other.unwrap_or_default());
    let both = Marks { floor: a.floor.max(b.floor), collected: a.collected.max(b.collected) };
    (both != Marks::default()).then_some(both)
}

/// Returns the marks after a command.
///
/// # Errors
/// The reason, as a sentence: the command would remove what may still be read.
pub fn raised(marks: Option<Marks>, command: &CollectVersions) -> Result<Option<Marks>, String> {
    let asked = Marks { floor: command.floor, collected: command.collected };
    let after = larger(marks, Some(asked));
    let Marks { floor, collected } = after.unwrap_or_default();
    if collected > floor {
        return Err(format!("versions below {collected} cannot be removed: the region's floor is at {floor}"));
    }
    Ok(after)
}

/// Adds the removals of a command whose keys were checked.
///
/// # Errors
/// The reason, as a sentence: a change does more than remove a transactional key.
pub fn remove(changes: Vec<Change>, batch: &mut WriteBatch) -> Result<(), String> {
    let family = |change: &Change| Cf::from_number(change.cf).filter(|cf| matches!(cf, Cf::TxnDefault | Cf::TxnWrite));
    if let Some(wrong) = changes.iter().find(|change| change.value.is_some() || change.range_end.is_some()) {
        return Err(format!("the collection of versions only removes single keys, not {wrong:?}"));
    }
    if let Some(wrong) = changes.iter().find(|change| family(change).is_none()) {
        return Err(format!("column family {} has no versions that could be collected", wrong.cf));
    }
    for change in changes {
        let cf = Cf::from_number(change.cf).expect("checked above");
        batch.delete(cf, change.key);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    //! Goal: marks never fall, and nothing above the floor is collected. Method: by hand.
    use super::*;

    fn marks(floor: u64, collected: u64) -> Option<Marks> {
        Some(Marks { floor, collected })
    }

    fn command(floor: u64, collected: u64) -> CollectVersions {
        CollectVersions { floor, collected, changes: Vec::new() }
    }

    #[test]
    fn marks_only_rise() {
        assert_eq!(raised(None, &command(0, 0)), Ok(None));
        assert_eq!(raised(None, &command(7, 0)), Ok(marks(7, 0)));
        assert_eq!(raised(marks(7, 3), &command(5, 0)), Ok(marks(7, 3)));
        assert_eq!(raised(marks(7, 3), &command(0, 7)), Ok(marks(7, 7)));
        assert!(raised(marks(7, 3), &command(0, 8)).unwrap_err().contains("floor is at 7"));
        assert_eq!(larger(marks(3, 1), marks(2, 2)), marks(3, 2));
        assert_eq!(larger(None, None), None);
    }

    #[test]
    fn only_versions_are_removed() {
        let gone = |cf: Cf| Change { cf: cf as u32, key: "k".into(), value: None, range_end: None };
        let mut batch = WriteBatch::new();
        assert!(remove(vec![gone(Cf::TxnLock)], &mut batch).is_err());
        assert!(remove(vec![Change { value: Some("v".into()), ..gone(Cf::TxnWrite) }], &mut batch).is_err());
        assert!(batch.is_empty());
        remove(vec![gone(Cf::TxnWrite), gone(Cf::TxnDefault)], &mut batch).unwrap();
        assert_eq!(batch.len(), 2);
    }
}
