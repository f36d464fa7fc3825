//! Latches: of all requests that write a key, one at a time decides and writes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::rt::sync::oneshot;

use super::action::Key;

/// How many parts the table has, each with a lock of its own.
const PARTS: usize = 64;

/// The latches of a store. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Latches(Arc<Vec<Mutex<Part>>>);

/// The keys that are held, and who waits for each.
type Part = BTreeMap<Bytes, VecDeque<oneshot::Sender<Held>>>;

/// A held latch. Dropping it passes it on.
#[derive(Debug)]
pub(super) struct Held {
    latches: Latches,
    key: Bytes,
}

impl Default for Latches {
    fn default() -> Latches {
        Latches(Arc::new((0..PARTS).map(|_| Mutex::default()).collect()))
    }
}

impl Latches {
    fn part(&self, key: &[u8]) -> &Mutex<Part> {
        let mixed = key.iter().fold(0u64, |sum, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
        &self.0[(mixed >> 32) as usize % PARTS]
    }

    /// Takes the latches of all these keys, in the order of the keys: two requests never wait for each other.
    pub(super) async fn take(&self, keys: &[Key]) -> Vec<Held> {
        let mut sorted: Vec<&Bytes> = keys.iter().map(|key| &key.encoded).collect();
        sorted.sort();
        sorted.dedup();
        let mut held = Vec::with_capacity(sorted.len());
        for key in sorted {
            held.push(self.take_one(key).await);
        }
        held
    }

    async fn take_one(&self, key: &Bytes) -> Held {
        loop {
            let answer = {
                let mut part = self.part(key).lock().expect("no holder panics");
                match part.get_mut(key) {
                    None => {
                        part.insert(key.clone(), VecDeque::new());
                        return Held { latches: self.clone(), key: key.clone() };
                    }
                    Some(waiting) => {
                        let (sender, answer) = oneshot::channel();
                        waiting.push_back(sender);
                        answer
                    }
                }
            };
            crate::reach!("txn.waited-for-a-latch");
            if let Ok(held) = answer.await {
                return held;
            }
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        loop {
            let next = {
                let mut part = self.latches.part(&self.key).lock().expect("no holder panics");
                let waiting = part.get_mut(&self.key).expect("a held latch is in the table");
                match waiting.pop_front() {
                    Some(next) => next,
                    None => {
                        part.remove(&self.key);
                        return;
                    }
                }
            };
            // A request that stops waiting after this drops the latch with the message, and so passes it on.
            match next.send(Held { latches: self.latches.clone(), key: self.key.clone() }) {
                Ok(()) => return,
                Err(unsent) => std::mem::forget(unsent),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: one holder at a time, in order, also when some give up. Method: futures polled by hand.
    use futures::FutureExt as _;

    use super::*;

    fn keys(names: &[&'static str]) -> Vec<Key> {
        names.iter().map(|name| Key::new(Bytes::from_static(name.as_bytes()))).collect()
    }

    #[test]
    fn one_holder_at_a_time() {
        let latches = Latches::default();
        let (first, both, last) = (keys(&["a"]), keys(&["b", "a", "b"]), keys(&["b"]));
        let held = latches.take(&first).now_or_never().expect("free");
        let mut second = Box::pin(latches.take(&both));
        assert!(second.as_mut().now_or_never().is_none());
        let mut given_up = Box::pin(latches.take(&first));
        assert!(given_up.as_mut().now_or_never().is_none());
        drop(held);
        drop(given_up);
        let held = second.now_or_never().expect("it was passed on");
        assert!(latches.take(&last).now_or_never().is_none());
        drop(held);
        assert!(latches.take(&both).now_or_never().is_some());
        assert!(latches.0.iter().all(|part| part.lock().unwrap().is_empty()));
    }
}
