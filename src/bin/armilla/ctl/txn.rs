//! `armilla ctl txn`: reads and writes transactional keys, and runs scripts.

use std::io::Read as _;
use std::ops::Deref;

use armilla::client::{CommitBy, Failed, Snapshot, Txn, TxnClient, TxnOptions};
use armilla::types::Timestamp;
use armilla::types::limits::MESSAGE_BYTES_MAX;
use bytes::Bytes;
use clap::Subcommand;
use serde_json::{Map, Value, json};

use super::listing::{Pages, RangeArgs};
use super::script::{self, Step};
use super::show::{self, Table, print_json};
use super::values::read_all;
use super::{BYTES, Ctl};
use crate::failure::Failure;

/// How long the locks of a transaction stand after its program has died, in milliseconds.
const TTL_MS: u64 = 20_000;

/// What is printed below the help of `run`.
const SCRIPT: &str = "\
Commands: begin [optimistic|pessimistic], get KEY..., put KEY VALUE, insert KEY VALUE (which must not exist),
delete KEY..., lock KEY..., scan FROM [TO] [limit N] [reverse], commit, rollback.
A `#` begins a comment. Put words with blanks in quotes. The script is read to its end and checked before it begins.
A pessimistic transaction locks each key as it writes it, and waits for others that have it locked; an optimistic one
finds out when it commits. If a command fails, its transaction is rolled back and the script ends.";

/// A command about transactional keys.
#[derive(Debug, Subcommand)]
pub enum TxnCommand {
    /// Print the values of keys, all as of one moment; exits with code 1 if one does not exist. A single value is
    /// printed byte for byte.
    #[command(after_help = BYTES)]
    Get {
        /// The keys.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
        #[command(flatten)]
        moment: Moment,
    },
    /// Set keys in one transaction.
    #[command(after_help = BYTES)]
    Put {
        /// The keys, each followed by its value; `-` as a value reads it from standard input.
        #[arg(required = true, num_args = 2.., value_names = ["KEY", "VALUE"], allow_negative_numbers = true)]
        pairs: Vec<String>,
    },
    /// Delete keys in one transaction.
    #[command(after_help = BYTES)]
    Delete {
        /// The keys.
        #[arg(required = true, value_name = "KEY")]
        keys: Vec<String>,
    },
    /// List pairs as of one moment, from START (inclusive) to END (exclusive), or with a prefix; says so if there are
    /// more than --limit.
    #[command(after_help = BYTES)]
    Scan(TxnScanArgs),
    /// Run a script of transactions from standard input, one command a line.
    #[command(after_help = SCRIPT)]
    Run,
}

/// The moment as of which is read.
#[derive(clap::Args, Debug)]
pub struct Moment {
    /// Read what there was SECONDS ago: any replica may serve it without asking its leader (a stale read) [default:
    /// what there is now]
    #[arg(long, value_name = "SECONDS")]
    ago: Option<f64>,
}

/// What is read from.
enum View {
    Now(Txn),
    Then(Snapshot),
}

impl Deref for View {
    type Target = Txn;

    fn deref(&self) -> &Txn {
        match self {
            View::Now(txn) => txn,
            View::Then(snapshot) => snapshot,
        }
    }
}

/// The range to read, and how to read it.
#[derive(clap::Args, Debug)]
pub struct TxnScanArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// Maximum number of pairs to list.
    #[arg(long, default_value_t = 100)]
    limit: usize,
    /// List in descending order, beginning with the largest key.
    #[arg(long)]
    reverse: bool,
    #[command(flatten)]
    moment: Moment,
}

/// What a command of a script has found.
enum Outcome {
    /// It has nothing to tell.
    Quiet,
    /// The values of keys.
    Values(Vec<(Bytes, Option<Bytes>)>),
    /// The pairs of a range.
    Pairs(Vec<(Bytes, Bytes)>),
    /// The start of a transaction.
    Begun(Timestamp),
    /// The commit timestamp; 0 if nothing was written.
    Committed(Timestamp),
    /// The transaction was ended without a commit.
    RolledBack,
}

impl Ctl {
    pub(super) async fn transaction(&self, command: TxnCommand) -> Result<(), Failure> {
        match command {
            TxnCommand::Get { keys, moment } => self.txn_get(&keys, &moment).await,
            TxnCommand::Put { pairs } => self.txn_put(&pairs).await,
            TxnCommand::Delete { keys } => {
                let keys = keys.iter().map(|key| self.form.key(key)).collect::<Result<Vec<_>, _>>()?;
                let mut txn = self.begin(false).await?;
                keys.into_iter().for_each(|key| txn.delete(key));
                self.committed(txn.commit().await?)
            }
            TxnCommand::Scan(args) => self.txn_scan(&args).await,
            TxnCommand::Run => self.run_script().await,
        }
    }

    /// Returns the client for transactions.
    pub(super) fn transactions(&self) -> TxnClient {
        TxnClient::new(self.raw.clone())
    }

    async fn begin(&self, pessimistic: bool) -> Result<Txn, Failure> {
        // If there is no cluster, this says what to do.
        self.pd.cluster_id().await?;
        let options = TxnOptions {
            pessimistic,
            commit_by: CommitBy::OnePhase,
            ttl_ms: TTL_MS,
            patience: self.timeout,
            ..TxnOptions::default()
        };
        Ok(self.transactions().begin(options).await?)
    }

    /// Prints that a transaction has committed.
    fn committed(&self, at: Timestamp) -> Result<(), Failure> {
        if self.form.json {
            return print_json(&json!({ "ok": true, "commit_ts": at.0.to_string() }));
        }
        say!("committed at {at}");
        Ok(())
    }

    /// Returns the view of all keys as of a moment.
    async fn view(&self, moment: &Moment) -> Result<View, Failure> {
        let Some(ago) = moment.ago else { return Ok(View::Now(self.begin(false).await?)) };
        if !(ago >= 0.0 && ago.is_finite()) {
            return Err(Failure::usage(format!("--ago {ago}: a number of seconds, 0 or more")));
        }
        self.pd.cluster_id().await?;
        let now = self.pd.tso(1).await?;
        let at = Timestamp::new(now.physical_ms().saturating_sub((ago * 1000.0) as u64), now.logical());
        Ok(View::Then(self.transactions().as_of(at, self.timeout)))
    }

    async fn txn_get(&self, names: &[String], moment: &Moment) -> Result<(), Failure> {
        let keys = names.iter().map(|key| self.form.key(key)).collect::<Result<Vec<_>, _>>()?;
        let txn = self.view(moment).await?;
        if let ([name], [key]) = (names, &keys[..]) {
            return self.print_value(name, txn.get(key).await?);
        }
        let mut found = Vec::new();
        for key in keys {
            let value = txn.get(&key).await?;
            found.push((key, value));
        }
        let complete = found.iter().all(|(_, value)| value.is_some());
        if self.form.json {
            print_json(&json!({ "start_ts": txn.start().0.to_string(), "keys": self.values_json(&found) }))?;
        } else {
            let mut table = Table::new(&["key", "value"]);
            for (key, value) in &found {
                table.row(vec![self.form.text(key), self.cell(value.as_ref())]);
            }
            table.print();
        }
        if complete { Ok(()) } else { Err(Failure::silent(1)) }
    }

    async fn txn_put(&self, words: &[String]) -> Result<(), Failure> {
        let (pairs, rest) = words.as_chunks::<2>();
        if let [key] = rest {
            return Err(Failure::usage(format!("txn put: the key `{key}` has no value")));
        }
        if pairs.iter().filter(|[_, value]| value == "-").count() > 1 {
            return Err(Failure::usage("txn put: only one value can be read from standard input"));
        }
        let mut read = Vec::new();
        for [key, value] in pairs {
            let given = match value.as_str() {
                "-" => read_all(std::io::stdin().lock(), "standard input")?,
                value => Bytes::copy_from_slice(value.as_bytes()),
            };
            read.push((self.form.key(key)?, self.form.value(given)?));
        }
        let mut txn = self.begin(false).await?;
        read.into_iter().for_each(|(key, value)| txn.put(key, value));
        self.committed(txn.commit().await?)
    }

    async fn txn_scan(&self, args: &TxnScanArgs) -> Result<(), Failure> {
        let range = args.range.range(self.form)?;
        let txn = self.view(&args.moment).await?;
        let pages = Pages::of_txn(&txn, range, args.reverse);
        self.list(pages, args.limit, "txn scan").await
    }

    async fn run_script(&self) -> Result<(), Failure> {
        let mut text = String::new();
        let mut input = std::io::stdin().lock().take(MESSAGE_BYTES_MAX as u64);
        input.read_to_string(&mut text).map_err(|error| Failure::new(format!("standard input: {error}")))?;
        let lines = script::parse(&text, self.form)?;
        let (mut open, mut told) = (None, Vec::new());
        let mut failed = None;
        for line in lines {
            match self.step(&mut open, line.step).await {
                Ok(outcome) => told.push((line.number, outcome)),
                Err(failure) => {
                    failed = Some(failure.at(&format!("line {}", line.number)));
                    break;
                }
            }
        }
        // What is left of a transaction that failed.
        if let Some(txn) = open {
            Txn::rollback(txn).await;
        }
        self.tell(&told)?;
        failed.map_or(Ok(()), Err)
    }

    /// Carries out a command of a script.
    async fn step(&self, open: &mut Option<Txn>, step: Step) -> Result<Outcome, Failure> {
        if let Step::Begin { pessimistic } = step {
            let txn = self.begin(pessimistic).await?;
            let start = txn.start();
            *open = Some(txn);
            return Ok(Outcome::Begun(start));
        }
        let mut txn = open.take().expect("the script was checked");
        let outcome = match step {
            Step::Commit => return Ok(Outcome::Committed(txn.commit().await?)),
            Step::Rollback => {
                txn.rollback().await;
                return Ok(Outcome::RolledBack);
            }
            step => within(&mut txn, step).await,
        };
        *open = Some(txn);
        Ok(outcome?)
    }

    /// Prints what a script has found.
    fn tell(&self, told: &[(usize, Outcome)]) -> Result<(), Failure> {
        if self.form.json {
            let lines: Vec<Value> = told.iter().filter_map(|(number, outcome)| self.line(*number, outcome)).collect();
            return print_json(&json!({ "lines": lines }));
        }
        for (number, outcome) in told {
            match outcome {
                Outcome::Quiet => {}
                Outcome::Begun(start) => say!("line {number}: began at {start}"),
                Outcome::Committed(Timestamp(0)) => say!("line {number}: committed; nothing was written"),
                Outcome::Committed(at) => say!("line {number}: committed at {at}"),
                Outcome::RolledBack => say!("line {number}: rolled back"),
                Outcome::Values(found) => {
                    for (key, value) in found {
                        say!("line {number}: {}  {}", self.form.text(key), self.cell(value.as_ref()));
                    }
                }
                Outcome::Pairs(pairs) if pairs.is_empty() => say!("line {number}: no keys"),
                Outcome::Pairs(pairs) => {
                    for (key, value) in pairs {
                        say!("line {number}: {}  {}", self.form.text(key), self.cell(Some(value)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Returns what a line has found as JSON.
    fn line(&self, number: usize, outcome: &Outcome) -> Option<Value> {
        let mut object = match outcome {
            Outcome::Quiet => return None,
            Outcome::Begun(start) => json!({ "start_ts": start.0.to_string() }),
            Outcome::Committed(at) => json!({ "commit_ts": at.0.to_string() }),
            Outcome::RolledBack => json!({ "rolled_back": true }),
            Outcome::Values(found) => json!({ "keys": self.values_json(found) }),
            Outcome::Pairs(pairs) => {
                let found: Vec<_> = pairs.iter().map(|(key, value)| (key.clone(), Some(value.clone()))).collect();
                json!({ "pairs": self.values_json(&found) })
            }
        };
        object["line"] = number.into();
        Some(object)
    }

    /// Returns keys and values as JSON.
    fn values_json(&self, found: &[(Bytes, Option<Bytes>)]) -> Value {
        let one = |(key, value): &(Bytes, Option<Bytes>)| {
            let mut object = Map::new();
            self.form.insert(&mut object, "key", key);
            object.insert("found".into(), value.is_some().into());
            if let Some(value) = value {
                self.form.insert(&mut object, "value", value);
            }
            Value::from(object)
        };
        found.iter().map(one).collect()
    }

    /// Formats a value for a table.
    fn cell(&self, value: Option<&Bytes>) -> String {
        value.map_or("(does not exist)".into(), |value| show::cut(self.form.text(value)))
    }
}

/// Carries out a command within a transaction.
async fn within(txn: &mut Txn, step: Step) -> Result<Outcome, Failed> {
    let mut found = Vec::new();
    match step {
        Step::Get(keys) => {
            for key in keys {
                let value = txn.get(&key).await?;
                found.push((key, value));
            }
        }
        Step::Lock(keys) => {
            for key in keys {
                let (_, value) = txn.lock(&key, false).await?;
                found.push((key, value));
            }
        }
        Step::Put(key, value) => {
            lock_first(txn, &key).await?;
            txn.put(key, value);
        }
        Step::Insert(key, value) => {
            lock_first(txn, &key).await?;
            txn.insert(key, value);
        }
        Step::Delete(keys) => {
            for key in keys {
                lock_first(txn, &key).await?;
                txn.delete(key);
            }
        }
        Step::Scan { from, to, limit, reverse } => {
            return Ok(Outcome::Pairs(txn.scan(&from, &to, limit, reverse).await?));
        }
        Step::Begin { .. } | Step::Commit | Step::Rollback => unreachable!("they are carried out elsewhere"),
    }
    Ok(if found.is_empty() { Outcome::Quiet } else { Outcome::Values(found) })
}

/// Locks a key that a pessimistic transaction is about to write.
async fn lock_first(txn: &mut Txn, key: &Bytes) -> Result<(), Failed> {
    if txn.is_pessimistic() {
        txn.lock(key, false).await?;
    }
    Ok(())
}
