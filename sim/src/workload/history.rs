//! The clients' calls and their results, with the true times of call and return.

use std::collections::BTreeMap;

use bytes::Bytes;

use armilla_check::{ABSENT, Action, KeyOp, Val};

/// A client's request. Keys and values are as on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Reads one key.
    Get(Bytes),
    /// Reads several keys.
    BatchGet(Vec<Bytes>),
    /// Sets a key.
    Put(Bytes, Bytes),
    /// Sets several keys.
    BatchPut(Vec<(Bytes, Bytes)>),
    /// Removes a key.
    Delete(Bytes),
    /// Removes several keys.
    BatchDelete(Vec<Bytes>),
    /// Removes the keys of `[start, end)`.
    DeleteRange(Bytes, Bytes),
    /// Reads the pairs of `[start, end)`.
    Scan {
        /// Lower bound, included.
        start: Bytes,
        /// Upper bound, excluded.
        end: Bytes,
        /// The maximum number of pairs.
        limit: u32,
        /// Reads from the upper bound downwards.
        reverse: bool,
        /// Returns no values.
        key_only: bool,
    },
    /// Compares with `expected` (absent: no such key) and, if equal, sets `new`.
    Cas {
        /// The key.
        key: Bytes,
        /// The value that must be there.
        expected: Option<Bytes>,
        /// The value to set.
        new: Bytes,
        /// Time to live in seconds; 0: no expiry.
        ttl_s: u64,
    },
    /// Sets a key with a time to live in seconds.
    PutTtl(Bytes, Bytes, u64),
}

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The write was acknowledged.
    Done,
    /// The value that a get returned.
    Value(Option<Bytes>),
    /// The pairs of a batch get or a scan.
    Pairs(Vec<(Bytes, Bytes)>),
    /// The result of a compare-and-swap.
    Swapped {
        /// Whether the value was equal and was replaced.
        succeed: bool,
        /// The value before.
        previous: Option<Bytes>,
    },
    /// The call certainly had no effect.
    Failed(String),
    /// The call may have taken effect, may still do so, or never.
    Unknown(String),
}

/// One call and its end.
#[derive(Clone, Debug)]
pub struct Record {
    /// The client's number.
    pub client: u32,
    /// The request.
    pub call: Call,
    /// True time of the call, ns.
    pub called: u64,
    /// True time of the return, ns; `u64::MAX` while the call is in flight.
    pub returned: u64,
    /// The result.
    pub ended: Ended,
}

impl Record {
    /// Returns one line for people: times in seconds, client, call, result.
    pub fn line(&self) -> String {
        let (called, returned) = (self.called as f64 / 1e9, self.returned as f64 / 1e9);
        format!("{called:.6} {returned:.6} c{} {:?} => {:?}\n", self.client, self.call, self.ended)
    }
}

/// All calls, in order of their start.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The calls.
    pub records: Vec<Record>,
}

impl History {
    /// Records the start of a call. Returns its number for [`History::end`].
    pub fn begin(&mut self, client: u32, call: Call, now: u64) -> usize {
        let ended = Ended::Unknown("under way".into());
        self.records.push(Record { client, call, called: now, returned: u64::MAX, ended });
        self.records.len() - 1
    }

    /// Records the result of a call.
    pub fn end(&mut self, number: usize, ended: Ended, now: u64) {
        let record = &mut self.records[number];
        record.returned = now;
        record.ended = ended;
    }

    /// Returns the number of calls whose outcome is unknown.
    pub fn unknown(&self) -> usize {
        self.records.iter().filter(|r| matches!(r.ended, Ended::Unknown(_))).count()
    }

    /// Returns the history of each key, as a register that [`armilla_check`] judges, and the values' numbers.
    ///
    /// A batch is one operation on each of its keys. A scan is a read of every key that it must have seen: of `keys`
    /// (all keys that the clients ever wrote), those in the part of the range that its result covers.
    pub fn by_key(&self, keys: &[Bytes]) -> (BTreeMap<Bytes, Vec<KeyOp>>, Values) {
        let mut split = Split { values: Values::default(), keys: BTreeMap::new() };
        for (number, record) in self.records.iter().enumerate() {
            split.add(number, record, keys);
        }
        (split.keys, split.values)
    }
}

/// Assigns numbers to values.
#[derive(Debug, Default)]
pub struct Values {
    numbers: BTreeMap<Bytes, Val>,
    names: Vec<Bytes>,
}

impl Values {
    /// Returns the number of a value; a new value gets the next number.
    pub fn number(&mut self, value: &Bytes) -> Val {
        if let Some(&number) = self.numbers.get(value) {
            return number;
        }
        self.names.push(value.clone());
        let number = self.names.len() as Val;
        self.numbers.insert(value.clone(), number);
        number
    }
    fn of(&mut self, value: &Option<Bytes>) -> Val {
        value.as_ref().map_or(ABSENT, |v| self.number(v))
    }
    /// Returns the value with this number, for people.
    pub fn show(&self, number: Val) -> String {
        match number {
            ABSENT => "absent".into(),
            n => show(&self.names[n as usize - 1]),
        }
    }
}

/// Returns bytes as people read them: escaped, and at most the first 24 bytes.
pub fn show(bytes: &[u8]) -> String {
    let head = &bytes[..bytes.len().min(24)];
    let text: String = head.escape_ascii().map(char::from).collect();
    if head.len() < bytes.len() { format!("{text}…({})", bytes.len()) } else { text }
}

struct Split {
    values: Values,
    keys: BTreeMap<Bytes, Vec<KeyOp>>,
}

impl Split {
    fn push(&mut self, key: &Bytes, op: usize, record: &Record, action: Action) {
        let known = !matches!(record.ended, Ended::Unknown(_));
        let ret = known.then_some(record.returned);
        self.keys.entry(key.clone()).or_default().push(KeyOp { op, call: record.called, ret, action });
    }

    fn add(&mut self, op: usize, record: &Record, keys: &[Bytes]) {
        if matches!(record.ended, Ended::Failed(_)) {
            return;
        }
        match &record.call {
            Call::Get(key) => {
                if let Ended::Value(value) = &record.ended {
                    let value = self.values.of(value);
                    self.push(key, op, record, Action::Read(value));
                }
            }
            Call::BatchGet(asked) => {
                if let Ended::Pairs(pairs) = &record.ended {
                    let found: BTreeMap<&Bytes, &Bytes> = pairs.iter().map(|(k, v)| (k, v)).collect();
                    for key in asked {
                        let value = found.get(key).map_or(ABSENT, |v| self.values.number(v));
                        self.push(key, op, record, Action::Read(value));
                    }
                }
            }
            Call::Put(key, value) => {
                let value = self.values.number(value);
                self.push(key, op, record, Action::Write(value));
            }
            Call::BatchPut(pairs) => {
                for (key, value) in pairs {
                    let value = self.values.number(value);
                    self.push(key, op, record, Action::Write(value));
                }
            }
            Call::Delete(key) => self.push(key, op, record, Action::Write(ABSENT)),
            Call::BatchDelete(asked) => {
                for key in asked {
                    self.push(key, op, record, Action::Write(ABSENT));
                }
            }
            Call::DeleteRange(start, end) => {
                for key in keys.iter().filter(|key| *key >= start && *key < end) {
                    self.push(key, op, record, Action::Write(ABSENT));
                }
            }
            Call::Scan { start, end, limit, reverse, key_only } => {
                let Ended::Pairs(pairs) = &record.ended else { return };
                let full = pairs.len() as u32 >= *limit;
                let last = pairs.last().map(|(key, _)| key);
                let found: BTreeMap<&Bytes, &Bytes> = pairs.iter().map(|(k, v)| (k, v)).collect();
                for key in keys.iter().filter(|key| *key >= start && *key < end) {
                    let beyond = last.is_some_and(|last| if *reverse { key < last } else { key > last });
                    if full && (beyond || last.is_none()) {
                        continue;
                    }
                    let action = match found.get(key) {
                        None => Action::Read(ABSENT),
                        Some(_) if *key_only => Action::ReadPresent,
                        Some(value) => Action::Read(self.values.number(value)),
                    };
                    self.push(key, op, record, action);
                }
            }
            Call::Cas { key, expected, new, .. } => {
                let (expected, new) = (self.values.of(expected), self.values.number(new));
                let action = match &record.ended {
                    Ended::Swapped { succeed: false, previous } => Action::Read(self.values.of(previous)),
                    _ => Action::Swap { expected, new },
                };
                self.push(key, op, record, action);
            }
            Call::PutTtl(..) => {}
        }
    }
}
