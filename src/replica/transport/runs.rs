//! The run of each other store that was heard last, and whether another run may follow it.
//!
//! **In** come the runs that streams state; **out** goes whether this store accepts their messages. A run is durable
//! here before its messages are accepted, so that a store that went back to an older disk is recognized even after all
//! nodes were restarted. **Never**: a message of a run that does not continue the history that was heard before.

use std::collections::BTreeMap;
use std::sync::{self, Arc};

use bytes::Bytes;

use crate::engine::{Engine, KvEngine, WriteBatch};
use crate::proto::armilla::raft::Incarnation;
use crate::replica::group_state;
use crate::rt::cpu;
use crate::rt::probe::{self, Event as Probe};
use crate::rt::sync::Mutex;
use crate::types::Result;
use crate::types::run::{History, not_later, older};

/// The newest runs of other stores. Clones share them.
#[derive(Clone, Debug)]
pub(in crate::replica) struct Runs {
    engine: Engine,
    /// By store ID; durable.
    newest: Arc<sync::Mutex<BTreeMap<u64, Incarnation>>>,
    /// Held while a newer run is made durable.
    taking: Arc<Mutex<()>>,
}

impl Runs {
    /// Loads the runs from the engine.
    ///
    /// # Errors
    /// If the engine cannot be read, or the stored value does not decode.
    pub fn load(engine: &Engine) -> Result<Runs> {
        let known = match crate::mutant!("replica.runs-forgotten") {
            true => BTreeMap::new(),
            false => group_state::runs_heard(engine)?,
        };
        Ok(Runs { engine: engine.clone(), newest: Arc::new(sync::Mutex::new(known)), taking: Arc::default() })
    }

    fn of(&self, store: u64) -> Option<Incarnation> {
        self.newest.lock().expect("no holder panics").get(&store).copied()
    }

    /// Checks that a message may be accepted from a stream whose run was heard: a newer run may have been heard since.
    ///
    /// # Errors
    /// The reason for the refusal, as a sentence.
    pub fn check(&self, store: u64, run: &Incarnation) -> Result<(), String> {
        match self.of(store) {
            Some(newest) if newest == *run || crate::mutant!("replica.incarnations-not-checked") => Ok(()),
            Some(newest) => Err(refused(store, &newest, run)),
            None => Err(format!("store {store} has not stated which run of its process this is")),
        }
    }

    /// Handles the run that a store states at the beginning of a stream. `own` is this store.
    ///
    /// # Errors
    /// The engine's error, if it could not store the run. The inner error is the reason for a refusal, as a sentence.
    pub async fn hear(&self, own: u64, store: u64, heard: &History) -> Result<Result<(), String>> {
        let _taking = self.taking.lock().await;
        let known = self.of(store);
        if known != Some(heard.run) {
            let why = known.and_then(|known| not_later(store, &known, heard));
            if let Some(why) = why.filter(|_| !crate::mutant!("replica.incarnations-not-checked")) {
                crate::reach!("transport.older-run-refused");
                return Ok(Err(why));
            }
            let mut batch = WriteBatch::new();
            group_state::put_run_heard(&mut batch, store, heard.run);
            let engine = self.engine.clone();
            cpu::run_long(move || {
                engine.write(&batch)?;
                engine.flush()
            })
            .await?;
            self.newest.lock().expect("no holder panics").insert(store, heard.run);
        }
        let Incarnation { boot, nonce } = heard.run;
        let data = || Bytes::copy_from_slice(&nonce.to_be_bytes());
        probe::emit(|| Probe::Note { store: own, what: "run-heard", a: store, b: boot, data: data() });
        Ok(Ok(()))
    }
}

fn refused(store: u64, newest: &Incarnation, run: &Incarnation) -> String {
    let ended =
        || format!("a stream of start {} of store {store} continues, but start {} was heard", run.boot, newest.boot);
    older(store, newest, run).unwrap_or_else(ended)
}
