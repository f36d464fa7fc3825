//! Labels of stores. TiKV's clients and tools read them, and some say where a store is (`pd::schedule::isolation`).

use super::{Changed, LABEL_REPLACED_BY, Outcome, PdState};
use crate::proto::armilla::pd::SetStoreLabels;
use crate::proto::metapb::StoreLabel;
use crate::types::limits::{STORE_LABEL_BYTES_MAX, STORE_LABELS_MAX};

impl PdState {
    /// Changes a store's labels: sets those that are given, removes those whose value is empty and, with `replace`, all
    /// that are not given. Keys are compared without case, as PD does.
    pub(super) fn set_store_labels(&mut self, command: SetStoreLabels) -> Outcome {
        self.must_be_bootstrapped()?;
        let SetStoreLabels { store_id, labels: given, replace } = command;
        let Some(mut record) = self.stores.get(&store_id).cloned() else {
            return Err(format!("there is no store {store_id}"));
        };
        for StoreLabel { key, value } in &given {
            if key.is_empty() || key.eq_ignore_ascii_case(LABEL_REPLACED_BY) {
                return Err(format!("the label `{key}` cannot be set"));
            }
            if key.len() + value.len() > STORE_LABEL_BYTES_MAX {
                return Err(format!("a label has more than {STORE_LABEL_BYTES_MAX} bytes"));
            }
        }
        let store = record.store.get_or_insert_default();
        let mut labels = store.labels.clone();
        labels.retain(|label| !replace || label.key == LABEL_REPLACED_BY);
        for new in given {
            match labels.iter_mut().find(|label| label.key.eq_ignore_ascii_case(&new.key)) {
                Some(label) => label.value = new.value,
                None => labels.push(new),
            }
        }
        labels.retain(|label| !label.value.is_empty());
        if labels.len() > STORE_LABELS_MAX {
            return Err(format!("a store has at most {STORE_LABELS_MAX} labels"));
        }
        if store.labels == labels {
            return Ok((store_id, vec![]));
        }
        store.labels = labels;
        self.put_store_record(record);
        Ok((store_id, vec![Changed::Store(store_id)]))
    }
}

#[cfg(test)]
mod tests {
    //! Goal: labels are set, changed, removed and replaced as PD does. Method: commands one after the other.

    use super::*;
    use crate::pd::state::restore;
    use crate::proto::armilla::pd::StoreRecord;
    use crate::proto::metapb::Store;

    fn label(key: &str, value: &str) -> StoreLabel {
        StoreLabel { key: key.into(), value: value.into() }
    }

    #[test]
    fn labels_change_as_in_pd() {
        let mut state = restore(10, vec![]).unwrap();
        let labels = vec![label(LABEL_REPLACED_BY, "7")];
        let store = Store { id: 2, labels, ..Store::default() };
        state.put_store_record(StoreRecord { store: Some(store), uuid: "u".into(), name: "n".into() });
        let mut set = |labels: Vec<StoreLabel>, replace| {
            let changed = state.set_store_labels(SetStoreLabels { store_id: 2, labels, replace });
            let labels = state.store(2).unwrap().store.as_ref().unwrap().labels.clone();
            let shown: Vec<String> = labels.iter().map(|label| format!("{}={}", label.key, label.value)).collect();
            (changed.map(|(_, changed)| changed.len()), shown.join(" "))
        };
        let kept = "replaced-by=7";
        assert_eq!(
            set(vec![label("zone", "z1"), label("host", "h")], false),
            (Ok(1), format!("{kept} zone=z1 host=h"))
        );
        assert_eq!(set(vec![label("Zone", "z2")], false), (Ok(1), format!("{kept} zone=z2 host=h")));
        assert_eq!(set(vec![label("zone", "z2")], false), (Ok(0), format!("{kept} zone=z2 host=h")));
        assert_eq!(set(vec![label("zone", "")], false), (Ok(1), format!("{kept} host=h")));
        assert_eq!(set(vec![label("rack", "r")], true), (Ok(1), format!("{kept} rack=r")));
        for wrong in [label("Replaced-By", "1"), label("", "1"), label("k", &"v".repeat(STORE_LABEL_BYTES_MAX))] {
            assert_eq!(set(vec![wrong], false).1, format!("{kept} rack=r"));
        }
        let many = (0..STORE_LABELS_MAX).map(|n| label(&format!("k{n}"), "v")).collect();
        assert!(set(many, false).0.is_err(), "too many");
        let unknown = SetStoreLabels { store_id: 3, labels: vec![], replace: false };
        assert!(state.set_store_labels(unknown).is_err());
    }
}
