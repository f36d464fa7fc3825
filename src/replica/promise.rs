//! The longest promise that any voter of the store may have made. It is durable before a voter makes it.

use std::sync;

use crate::engine::{Engine, KvEngine, WriteBatch};
use crate::rt::cpu;
use crate::rt::sync::Mutex;
use crate::types::Result;

use super::group_state;

/// The longest promise of a store, shared by its lanes.
#[derive(Debug)]
pub(super) struct LongestPromise {
    engine: Engine,
    /// In nanoseconds; durable.
    ns: sync::Mutex<u64>,
    /// Held while a longer promise is made durable.
    raising: Mutex<()>,
}

impl LongestPromise {
    /// Loads the promise from the engine.
    ///
    /// # Errors
    /// If the engine cannot be read, or the stored value does not decode.
    pub fn load(engine: &Engine) -> Result<LongestPromise> {
        let forgotten = crate::mutant!("replica.longest-promise-forgotten");
        let ns = sync::Mutex::new(if forgotten { 0 } else { group_state::longest_promise_ns(engine)? });
        Ok(LongestPromise { engine: engine.clone(), ns, raising: Mutex::new(()) })
    }

    /// Returns the longest promise so far, in nanoseconds.
    pub fn ns(&self) -> u64 {
        *self.ns.lock().expect("no holder panics")
    }

    /// Makes sure that a restart remembers a promise of `ns` nanoseconds. Called before any voter makes it.
    ///
    /// # Errors
    /// If the engine cannot write.
    pub async fn raise(&self, ns: u64) -> Result<()> {
        if ns <= self.ns() {
            return Ok(());
        }
        let _raising = self.raising.lock().await;
        if ns <= self.ns() {
            return Ok(());
        }
        let mut batch = WriteBatch::new();
        group_state::put_longest_promise(&mut batch, ns);
        let engine = self.engine.clone();
        cpu::run_long(move || {
            engine.write(&batch)?;
            engine.flush()
        })
        .await?;
        let mut longest_ns = self.ns.lock().expect("no holder panics");
        assert!(ns > *longest_ns, "the longest promise only grows");
        *longest_ns = ns;
        Ok(())
    }
}
