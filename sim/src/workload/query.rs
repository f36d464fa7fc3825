//! The client that sends queries over JSON, and the oracle that judges the results.
//!
//! Only this client writes its keys, which lie below and above all others. The range of a query therefore spans every
//! region, and the expected result is known: each key holds its last acknowledged write, or a write whose outcome is
//! unknown. A result must be consistent with one choice per key; each key is read once. The values that other clients
//! write in between are not JSON of this owner and must not count.
//!
//! Every query is valid, so a refusal is a violation, whatever its reason. A cluster with faults may fail to respond in
//! time. Once it has healed, it must answer queries of every kind.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use armilla::client::{Error, GoOn, RawClient};
use armilla::query::{self, Aggregate, Answer, Merge, Next, Query};
use armilla::rt::rng::Rng;
use armilla::rt::sim::World;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::cluster::monitor::Monitor;
use crate::oracle::Violation;
use crate::plan::Plan;

/// Number of keys below all others, and number of keys above them.
const KEYS: u64 = 14;
/// The maximum number of keys whose state is uncertain: the judge tries every combination.
const DOUBTS_MAX: usize = 8;

/// The document that a key holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Doc {
    group: u64,
    n: i64,
}

impl Doc {
    fn text(self) -> Bytes {
        json!({ "owner": "q", "g": format!("g{}", self.group), "n": self.n }).to_string().into()
    }
}

/// The possible contents of a key; a single one is certain.
type May = Vec<Option<Doc>>;

/// The client and its surroundings.
pub struct QueryClient {
    /// The client of raw keys.
    pub raw: RawClient,
    /// The simulated world.
    pub world: World,
    /// The monitor that receives violations.
    pub monitor: Monitor,
    /// The plan.
    pub plan: Arc<Plan>,
    /// Number of queries that were answered.
    pub answered: Arc<AtomicU64>,
}

#[derive(Clone, Copy, Debug)]
enum Ask {
    Rows { least: i64 },
    Groups { least: i64 },
    Whole,
}

impl Ask {
    fn query(self, page_rows: u64) -> Query {
        let (filter, aggregate, group_by) = match self {
            Ask::Rows { least } => (format!("$.owner = \"q\" and $.n >= {least}"), None, None),
            Ask::Groups { least } => {
                let all =
                    vec![Aggregate::Count("*".into()), Aggregate::Sum("$.n".into()), Aggregate::Max("$.n".into())];
                (format!("$.n >= {least} and $.owner in [\"q\"]"), Some(all), Some("$.g".to_owned()))
            }
            Ask::Whole => {
                let all =
                    vec![Aggregate::Count("$.n".into()), Aggregate::Sum("$.n".into()), Aggregate::Min("$.n".into())];
                ("$.owner = 'q'".to_owned(), Some(all), None)
            }
        };
        let select = aggregate.is_none().then(|| vec!["$.g".to_owned(), "$.n".to_owned()]);
        Query { filter: Some(filter), select, aggregate, group_by, page_rows: Some(page_rows), ..Query::default() }
    }

    fn takes(self, doc: Doc) -> bool {
        match self {
            Ask::Rows { least } | Ask::Groups { least } => doc.n >= least,
            Ask::Whole => true,
        }
    }
}

/// The client after its load has ended, with the queries to send once the cluster is healthy again.
pub struct Rest {
    asker: QueryClient,
    state: BTreeMap<Bytes, May>,
}

impl Rest {
    /// Sends each kind of query until it is answered or `until_ns` (true time) is reached.
    ///
    /// # Errors
    /// Returns the query that was not answered, and why. A wrong result or a refusal is reported to the monitor.
    pub async fn run(self, until_ns: u64) -> Result<(), String> {
        let Rest { asker, state } = self;
        for ask in [Ask::Rows { least: 0 }, Ask::Groups { least: 0 }, Ask::Whole] {
            while let Err(why) = asker.try_once(ask, 5, &state).await {
                if asker.world.now_ns() >= until_ns {
                    return Err(format!("{ask:?} is not answered: {why}"));
                }
                asker.world.sleep_ns(200_000_000).await;
            }
        }
        Ok(())
    }
}

/// Judges how a query ended. Returns a description of a wrong result or of a refusal, because every query is valid, and
/// an error if there was no answer.
fn verdict(ask: Ask, ended: Result<Answer, Error>, state: &BTreeMap<Bytes, May>) -> Result<Option<String>, String> {
    match ended {
        Ok(answer) => Ok(judge(ask, &answer, state).err()),
        Err(Error::Refused(why)) => Ok(Some(format!("a valid query is refused: {why}"))),
        Err(error) => Err(error.to_string()),
    }
}

impl QueryClient {
    /// Writes and sends queries until `until_ns` (true time).
    pub async fn run(self, until_ns: u64) -> Rest {
        let mut rng = Rng::fork(self.plan.workload.seed, "queries");
        let mut state: BTreeMap<Bytes, May> = (0..KEYS)
            .flat_map(|n| [Bytes::from(format!("b{n:02}")), Bytes::from(format!("q{n:02}"))])
            .map(|key| (key, vec![None]))
            .collect();
        loop {
            self.world.sleep_ns(rng.between(1, self.plan.workload.query_ms * 2) * 1_000_000).await;
            if self.world.now_ns() >= until_ns {
                return Rest { asker: self, state };
            }
            if rng.chance(0.6) {
                self.write(&mut state, &mut rng).await;
                continue;
            }
            let least = rng.below(80) as i64;
            let ask = *rng.pick(&[Ask::Rows { least }, Ask::Rows { least: 0 }, Ask::Groups { least }, Ask::Whole]);
            let least_rows = self.plan.workload.query_page_rows_min;
            let page_rows = if rng.chance(0.7) { rng.between(least_rows, least_rows + 11) } else { 10_000 };
            self.try_once(ask, page_rows, &state).await.ok();
        }
    }

    /// Sends one query and reports a wrong result to the monitor.
    ///
    /// # Errors
    /// Returns why there was no answer.
    async fn try_once(&self, ask: Ask, page_rows: u64, state: &BTreeMap<Bytes, May>) -> Result<(), String> {
        let ended = self.ask(ask.query(page_rows)).await;
        self.answered.fetch_add(u64::from(ended.is_ok()), Ordering::Relaxed);
        if let Some(what) = verdict(ask, ended, state)? {
            let what = format!("{ask:?} in pages of {page_rows}: {what}");
            self.monitor.report(Violation::new("query", self.world.now_ns(), 0, what));
        }
        Ok(())
    }

    async fn write(&self, state: &mut BTreeMap<Bytes, May>, rng: &mut Rng) {
        let certain: Vec<Bytes> = state.iter().filter(|(_, may)| may.len() == 1).map(|(key, _)| key.clone()).collect();
        if state.len() - certain.len() >= DOUBTS_MAX {
            return;
        }
        let key = rng.pick(&certain).clone();
        let doc = rng.chance(0.85).then(|| Doc { group: rng.below(4), n: rng.below(100) as i64 });
        let written = match doc {
            Some(doc) => self.raw.put(key.clone(), doc.text(), 0).await,
            None => self.raw.delete(key.clone()).await,
        };
        let may = state.get_mut(&key).expect("one of its keys");
        match written {
            Ok(()) => *may = vec![doc],
            Err(Error::Unknown(_)) => may.push(doc),
            Err(_) => {}
        }
    }

    async fn ask(&self, query: Query) -> Result<Answer, Error> {
        let merge = std::sync::Mutex::new(Merge::new(query).map_err(Error::Refused)?);
        let with = || merge.lock().expect("nothing panics while holding it");
        let take = |page: Bytes| {
            Ok(match with().take(&page)? {
                Next::From(key) => GoOn::From(key),
                Next::Beyond => GoOn::Beyond,
                Next::Enough => GoOn::Enough,
            })
        };
        let range = (Bytes::from_static(b"b"), Bytes::from_static(b"r"));
        self.raw.coprocessor(query::NAME, "^1", range, || with().request(), take).await?;
        let mut answer = merge.into_inner().expect("nothing panics while holding it").finish();
        for row in &mut answer.rows {
            row.key = self.raw.space().own(std::mem::take(&mut row.key));
        }
        Ok(answer)
    }
}

/// Checks that the result is consistent with the possible contents of the keys.
fn judge(ask: Ask, answer: &Answer, state: &BTreeMap<Bytes, May>) -> Result<(), String> {
    if let Ask::Rows { .. } = ask {
        return judge_rows(ask, answer, state);
    }
    let certain: Vec<Doc> = state.values().filter(|may| may.len() == 1).filter_map(|may| may[0]).collect();
    let doubtful: Vec<&May> = state.values().filter(|may| may.len() > 1).collect();
    // Each combination is a number in the mixed base of the choices.
    let worlds: usize = doubtful.iter().map(|may| may.len()).product();
    let mut wanted = BTreeSet::new();
    for world in 0..worlds {
        let (mut rest, mut docs) = (world, certain.clone());
        for may in &doubtful {
            docs.extend(may[rest % may.len()]);
            rest /= may.len();
        }
        let groups = compute(ask, &docs);
        if groups == answer.groups {
            return Ok(());
        }
        if wanted.len() < 3 {
            wanted.insert(format!("{groups:?}"));
        }
    }
    Err(format!("the answer is {:?}; of {worlds} possible states, some give {wanted:?}", answer.groups))
}

fn compute(ask: Ask, docs: &[Doc]) -> Vec<Vec<Value>> {
    let taken: Vec<Doc> = docs.iter().copied().filter(|doc| ask.takes(*doc)).collect();
    let sum = |docs: &[Doc]| docs.iter().map(|doc| doc.n).sum::<i64>();
    if let Ask::Whole = ask {
        let least = taken.iter().map(|doc| doc.n).min();
        return vec![vec![taken.len().into(), sum(&taken).into(), least.into()]];
    }
    let mut groups: BTreeMap<u64, Vec<Doc>> = BTreeMap::new();
    taken.iter().for_each(|doc| groups.entry(doc.group).or_default().push(*doc));
    let line = |(group, docs): (u64, Vec<Doc>)| {
        let most = docs.iter().map(|doc| doc.n).max();
        vec![format!("g{group}").into(), docs.len().into(), sum(&docs).into(), most.into()]
    };
    groups.into_iter().map(line).collect()
}

fn judge_rows(ask: Ask, answer: &Answer, state: &BTreeMap<Bytes, May>) -> Result<(), String> {
    if let Some(pair) = answer.rows.windows(2).find(|pair| pair[0].key >= pair[1].key) {
        return Err(format!("key {} comes after {}", pair[1].key.escape_ascii(), pair[0].key.escape_ascii()));
    }
    let mut rows: BTreeMap<&Bytes, &Vec<Value>> = answer.rows.iter().map(|row| (&row.key, &row.values)).collect();
    for (key, may) in state {
        let row = rows.remove(key);
        let fits = may.iter().any(|doc| match (doc.filter(|doc| ask.takes(*doc)), row) {
            (None, None) => true,
            (Some(doc), Some(row)) => *row == [Value::from(format!("g{}", doc.group)), doc.n.into()],
            _ => false,
        });
        if !fits {
            return Err(format!("key {} may hold {may:?} but shows {row:?}", key.escape_ascii()));
        }
    }
    match rows.first_key_value() {
        None => Ok(()),
        Some((key, row)) => Err(format!("key {} is not of this owner but shows {row:?}", key.escape_ascii())),
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the judge accepts every possible result and no other. Method: hand-written results around one uncertain
    //! key.

    use super::*;
    use armilla::query::Found;

    fn answer(groups: Value, rows: &[(&'static str, i64)]) -> Answer {
        let found =
            |(key, n): &(&'static str, i64)| Found { key: (*key).into(), values: vec!["g0".into(), (*n).into()] };
        Answer {
            groups: serde_json::from_value(groups).unwrap(),
            rows: rows.iter().map(found).collect(),
            ..Answer::default()
        }
    }

    #[test]
    fn a_refusal_is_wrong_and_silence_is_not() {
        let state = BTreeMap::new();
        let ended = |ended| verdict(Ask::Groups { least: 0 }, ended, &state);
        assert_eq!(ended(Ok(Answer::default())), Ok(None));
        assert!(ended(Err(Error::Refused("more than 3 comparisons".into()))).unwrap().unwrap().contains("is refused"));
        assert!(ended(Err(Error::Unavailable("no leader".into()))).unwrap_err().contains("no leader"));
    }

    #[test]
    fn what_may_be_passes_and_nothing_else() {
        let doc = |n| Some(Doc { group: 0, n });
        let state = BTreeMap::from([(Bytes::from("b00"), vec![doc(5)]), (Bytes::from("q00"), vec![None, doc(7)])]);
        let whole = |groups| judge(Ask::Whole, &answer(groups, &[]), &state);
        assert!(whole(json!([[1, 5, 5]])).is_ok() && whole(json!([[2, 12, 5]])).is_ok());
        assert!(whole(json!([[2, 11, 5]])).unwrap_err().contains("of 2 possible states"));
        let groups = |groups| judge(Ask::Groups { least: 6 }, &answer(groups, &[]), &state);
        assert!(groups(json!([])).is_ok() && groups(json!([["g0", 1, 7, 7]])).is_ok());
        assert!(groups(json!([["g0", 2, 12, 7]])).is_err());
        let rows = |rows: &[_]| judge(Ask::Rows { least: 0 }, &answer(json!([]), rows), &state);
        assert!(rows(&[("b00", 5)]).is_ok() && rows(&[("b00", 5), ("q00", 7)]).is_ok());
        for wrong in
            [&[][..], &[("b00", 6)], &[("b00", 5), ("b00", 5)], &[("b00", 5), ("k1", 1)], &[("q00", 7), ("b00", 5)]]
        {
            assert!(rows(wrong).is_err(), "{wrong:?}");
        }
    }
}
