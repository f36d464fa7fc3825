//! Goal: a query means what the module's page says, wherever pages end. Method: golden scripts
//! (`tests/scripts/query/*.txt`, rewritten by `ARMILLA_REWRITE=1`), a differential test against a plain evaluator over
//! serde_json's values, and every limit with its error.

mod differential;
mod limits;
mod scripts;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;

/// Pairs by key.
type Data = BTreeMap<Bytes, Bytes>;

/// Returns one page over the pairs from `from` on.
fn page(data: &Data, request: &[u8], from: &Bytes) -> Result<Bytes, String> {
    let plan = Arc::new(Plan::decode(request)?);
    let mut page = Page::new(plan);
    for (key, value) in data.range(from.clone()..) {
        if page.room() == Room::Full || page.push(key, value)? == Room::Full {
            break;
        }
    }
    page.finish()
}

/// Returns the whole result, and how many pages it took.
fn ask(data: &Data, query: Query) -> Result<(Answer, usize), String> {
    let mut merge = Merge::new(query)?;
    let (mut from, mut pages) = (Bytes::new(), 0);
    loop {
        pages += 1;
        let page = page(data, &merge.request(), &from)?;
        assert!(page.len() <= crate::types::limits::QUERY_PAGE_BYTES_MAX);
        match merge.take(&page)? {
            Next::From(key) => {
                assert!(key > from, "every page advances");
                from = key;
            }
            Next::Beyond | Next::Enough => return Ok((merge.finish(), pages)),
        }
    }
}
