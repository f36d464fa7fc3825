//! Merging of pages, on the side of the client.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use crate::types::limits::QUERY_GROUPS_MAX;

use super::aggregate::Partial;
use super::json;
use super::page::Scanned;
use super::request::{Aggregate, Plan, Query, unhex};
use super::scalar::GroupKey;

/// A row of a result.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The row's key.
    pub key: Bytes,
    /// The selected parts of the row's value, in the order of the query; null if a path is missing.
    pub values: Vec<Value>,
}

/// The result of a query.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Answer {
    /// The column headers of [`Answer::rows`] or [`Answer::groups`].
    pub heads: Vec<String>,
    /// The selected rows, in key order.
    pub rows: Vec<Found>,
    /// For each group, its key (with `group_by`) and its aggregates, in the order of groups.
    pub groups: Vec<Vec<Value>>,
    /// Whether the query has aggregates. Then there are no rows, and possibly no groups.
    pub aggregated: bool,
    /// Counts of what was read.
    pub scanned: Scanned,
    /// How many rows match the predicate.
    pub matched: u64,
}

/// Where to ask for the next page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// In the same range, from this key on.
    From(Bytes),
    /// After this range, of which nothing is left.
    Beyond,
    /// Nowhere: there are as many rows as the query wants.
    Enough,
}

/// A query in progress. Pages must come in key order.
#[derive(Debug)]
pub struct Merge {
    plan: Plan,
    rows: Vec<Found>,
    groups: BTreeMap<GroupKey, Vec<Partial>>,
    groups_max: usize,
    scanned: Scanned,
    matched: u64,
}

impl Merge {
    /// Creates a query without pages.
    ///
    /// # Errors
    /// Returns what is wrong with the query.
    pub fn new(query: Query) -> Result<Merge, String> {
        let plan = Plan::new(query)?;
        let mut groups = BTreeMap::new();
        if plan.select.is_none() && plan.group.is_none() {
            groups.insert(GroupKey::Null, plan.aggregates.iter().map(Aggregate::nothing).collect());
        }
        let groups_max = QUERY_GROUPS_MAX;
        Ok(Merge { plan, rows: Vec::new(), groups, groups_max, scanned: Scanned::default(), matched: 0 })
    }

    #[cfg(test)]
    pub(super) fn with_groups_max(mut self, max: usize) -> Merge {
        self.groups_max = max;
        self
    }

    /// Returns the request for the next page.
    pub fn request(&self) -> Bytes {
        let mut query = self.plan.query.clone();
        query.limit = query.limit.map(|limit| limit.saturating_sub(self.rows.len() as u64));
        serde_json::to_vec(&query).expect("texts and numbers are JSON").into()
    }

    /// Returns whether there are as many rows as the query wants.
    pub fn enough(&self) -> bool {
        self.plan.select.is_some() && self.rows.len() as u64 >= self.plan.limit
    }

    /// Adds a page. Rows beyond the limit are dropped, because a client that asks several regions at once gets that
    /// many from each.
    ///
    /// # Errors
    /// Fails if the page is invalid or belongs to another query, or if there are too many groups. The query cannot
    /// continue then.
    pub fn take(&mut self, page: &[u8]) -> Result<Next, String> {
        let mut bytes = page.to_vec();
        let tape = simd_json::to_tape(&mut bytes).map_err(|error| format!("the page is not JSON: {error}"))?;
        let page = json::value(&tape.0, 0);
        let number = |value: &Value, name: &str| value.get(name).and_then(Value::as_u64);
        let odd = || "the page belongs to another query".to_owned();
        let scanned = page.get("scanned").ok_or_else(odd)?;
        let add = |sum: &mut u64, number: Option<u64>| {
            *sum = number.and_then(|number| sum.checked_add(number)).ok_or_else(odd)?;
            Ok::<_, String>(())
        };
        add(&mut self.scanned.rows, number(scanned, "rows"))?;
        add(&mut self.scanned.bytes, number(scanned, "bytes"))?;
        add(&mut self.scanned.not_json, number(scanned, "not_json"))?;
        add(&mut self.scanned.too_long, number(scanned, "too_long"))?;
        add(&mut self.matched, number(&page, "matched"))?;
        if self.plan.select.is_some() {
            let rows = page.get("rows").and_then(Value::as_array).ok_or_else(odd)?;
            let left = self.plan.limit.saturating_sub(self.rows.len() as u64);
            for row in rows.iter().take(usize::try_from(left).unwrap_or(usize::MAX)) {
                let key = row.get("key").and_then(Value::as_str).and_then(unhex).ok_or_else(odd)?;
                let values = row.get("values").and_then(Value::as_array).ok_or_else(odd)?.clone();
                self.rows.push(Found { key: key.into(), values });
            }
        } else {
            for group in page.get("groups").and_then(Value::as_array).ok_or_else(odd)? {
                let key = GroupKey::from_json(group.get("key").unwrap_or(&Value::Null));
                let values = group.get("values").and_then(Value::as_array).ok_or_else(odd)?;
                self.group(key, values)?;
            }
        }
        if self.plan.select.is_some() {
            self.matched = self.rows.len() as u64;
        }
        match page.get("next") {
            _ if self.enough() => Ok(Next::Enough),
            // The page has fewer rows than requested.
            _ if page.get("enough") != Some(&Value::Bool(false)) => Err(odd()),
            Some(Value::Null) => Ok(Next::Beyond),
            Some(Value::String(key)) => Ok(Next::From(unhex(key).ok_or_else(odd)?.into())),
            _ => Err(odd()),
        }
    }

    fn group(&mut self, key: GroupKey, values: &[Value]) -> Result<(), String> {
        let read = |(aggregate, value)| Partial::read(aggregate, value);
        let partials: Option<Vec<Partial>> = self.plan.aggregates.iter().zip(values).map(read).collect();
        let partials = partials.filter(|partials| partials.len() == self.plan.aggregates.len());
        let partials = partials.ok_or("the page has other aggregates than the query")?;
        match self.groups.get_mut(&key) {
            Some(known) if !crate::mutant!("query.group-merge-loses") => {
                known.iter_mut().zip(partials).try_for_each(|(known, partial)| known.merge(partial))
            }
            _ => {
                self.groups.insert(key, partials);
                if self.groups.len() > self.groups_max {
                    return Err(format!("more than {} groups: group by fewer values", self.groups_max));
                }
                Ok(())
            }
        }
    }

    /// Returns the result.
    pub fn finish(self) -> Answer {
        let shown = |(key, partials): (GroupKey, Vec<Partial>)| {
            let key = self.plan.group.map(|_| key.to_json());
            let results = self.plan.aggregates.iter().zip(&partials).map(|(aggregate, part)| aggregate.result(part));
            key.into_iter().chain(results).collect()
        };
        Answer {
            heads: self.plan.heads(),
            groups: self.groups.into_iter().map(shown).collect(),
            aggregated: self.plan.select.is_none(),
            rows: self.rows,
            scanned: self.scanned,
            matched: self.matched,
        }
    }
}
