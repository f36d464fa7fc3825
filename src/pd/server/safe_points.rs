//! Moves the safe points, and answers calls about them.
//!
//! **In** come timestamps, barriers of clients and what stores report; **out** go commands that move the safe points.
//! **Never**: a safe point above a timestamp that was given out, or above the oldest transaction that is alive (unless
//! that is older than a day).

use std::time::Duration;

use super::{PdError, PdResult, PdServer, Serving};
use crate::pd::state::{PdState, holds, lowest_barrier};
use crate::proto::armilla::pd::pd_command::Op;
use crate::proto::armilla::pd::{Barrier, ChangeSafePoints, SafePoints};
use crate::types::{Timestamp, version};

/// The time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// A transaction that is older does not hold the safe point back.
const OLDEST: Duration = Duration::from_hours(24);

/// The safe points as clients see them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SafePointsView {
    /// Nothing may be read, and no transaction begin, below this timestamp.
    pub txn: u64,
    /// What clients that know only one safe point are told.
    pub gc: u64,
    /// What still holds the first one back.
    pub barriers: Vec<Barrier>,
    /// The placement driver's clock, Unix milliseconds.
    pub now_ms: u64,
}

/// What happened to a safe point that was to move.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Moved {
    /// Where it was.
    pub old: u64,
    /// Where it is.
    pub new: u64,
    /// What held it back, as a sentence; empty if nothing did.
    pub blocker: String,
}

impl PdServer {
    fn knows_safe_points(&self) -> bool {
        self.read(PdState::cluster_version) >= version::SAFE_POINTS
    }

    /// Moves the safe points while this node leads. Never returns.
    pub(super) async fn move_safe_points(&self, serving: &Serving) {
        let options = &self.inner.options.cluster;
        let look = LOOK.min(Duration::from_millis(options.gc_step_ms.max(1)));
        loop {
            self.inner.clock.sleep(look).await;
            if !self.knows_safe_points() {
                continue;
            }
            if let Err(error) = self.look_at_safe_points(serving).await {
                tracing::debug!(%error, "could not move the safe points, will look again");
            }
        }
    }

    async fn look_at_safe_points(&self, serving: &Serving) -> PdResult<()> {
        let (history, points) =
            self.look(serving, |cluster, state, now_ms| (cluster.history(state, now_ms), state.safe_points().clone()));
        let now_ms = self.inner.clock.wall_ms();
        let change = ChangeSafePoints { now_ms, ..ChangeSafePoints::default() };
        if points.txn > points.collect {
            if history.cleared_below < points.txn && !crate::mutant!("gc.not-all-regions-cleared") {
                return Ok(());
            }
            crate::reach!("pd.collection-begins");
            self.command(Op::ChangeSafePoints(ChangeSafePoints { collect: points.txn, ..change })).await?;
            tracing::info!(safe_point = points.txn, "every region is clear of older locks: old versions are removed");
            return Ok(());
        }
        let options = &self.inner.options.cluster;
        if !history.has_old || options.gc_keep_ms == 0 {
            return Ok(());
        }
        let now = self.tso(1).await?;
        let before = |ms: u64| now.physical_ms().saturating_sub(ms);
        let kept = Timestamp::new(before(options.gc_keep_ms), 0);
        if kept.physical_ms() < Timestamp(points.txn).physical_ms().saturating_add(options.gc_step_ms) {
            return Ok(());
        }
        let mut to = kept.0;
        if let Some(oldest) = history.oldest.filter(|oldest| Timestamp(*oldest).physical_ms() > before(day_ms())) {
            to = to.min(oldest);
        }
        if let Some(barrier) = lowest_barrier(&points, now_ms) {
            to = to.min(barrier.at);
        }
        if to > points.txn {
            self.command(Op::ChangeSafePoints(ChangeSafePoints { txn: to, ..change })).await?;
            crate::reach!("pd.safe-point-moved");
        }
        Ok(())
    }

    /// Returns the safe points.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn safe_points(&self) -> PdResult<SafePointsView> {
        self.confirmed().await?;
        let now_ms = self.inner.clock.wall_ms();
        Ok(self.read(|state| {
            let gc = state.gc_safe_point();
            if state.cluster_version() < version::SAFE_POINTS {
                return SafePointsView { txn: gc, gc, barriers: Vec::new(), now_ms };
            }
            let SafePoints { txn, mut barriers, .. } = state.safe_points().clone();
            barriers.retain(|barrier| holds(barrier, now_ms));
            SafePointsView { txn, gc: gc.min(txn), barriers, now_ms }
        }))
    }

    /// Returns the largest safe point that a client has asked for, or that versions were removed up to.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn gc_safe_point(&self) -> PdResult<u64> {
        if !crate::mutant!("pd.safe-point-unconfirmed") {
            self.confirmed().await?;
        }
        Ok(self.read(PdState::gc_safe_point))
    }

    /// Takes a client's wish for the safe point: transactions below it are refused from now on, as far as barriers
    /// allow, and versions are removed once no region has a lock below. Returns the largest wish so far.
    ///
    /// # Errors
    /// None beyond those of every call.
    pub async fn update_gc_safe_point(&self, to: u64) -> PdResult<u64> {
        let largest = self.command(Op::GcSafePoint(to)).await?;
        if self.knows_safe_points() && self.read(PdState::bootstrapped) {
            self.advance_txn_safe_point(to).await?;
        }
        Ok(largest)
    }

    /// Moves the safe point of transactions up, as far as barriers allow.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if a node does not know safe points yet.
    pub async fn advance_txn_safe_point(&self, to: u64) -> PdResult<Moved> {
        self.must_know_safe_points()?;
        let to = to.min(self.tso(1).await?.0);
        let old = self.read(|state| state.safe_points().txn);
        let now_ms = self.inner.clock.wall_ms();
        let change = ChangeSafePoints { txn: to, now_ms, ..ChangeSafePoints::default() };
        let new = self.command(Op::ChangeSafePoints(change)).await?;
        let held = self.read(|state| lowest_barrier(state.safe_points(), now_ms).cloned());
        let blocker = held.filter(|barrier| new < to && barrier.at <= to);
        let blocker =
            blocker.map_or_else(String::new, |one| format!("the barrier {:?} holds it at {}", one.name, one.at));
        Ok(Moved { old, new, blocker })
    }

    /// Takes a client's wish for the safe point of the collection, which cannot be above the one of transactions.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if it would fall, or be above that one.
    pub async fn advance_gc_safe_point(&self, to: u64) -> PdResult<Moved> {
        self.must_know_safe_points()?;
        self.confirmed_cluster().await?;
        let (old, txn) = self.read(|state| (state.gc_safe_point(), state.safe_points().txn));
        if to < old || to > txn {
            return Err(PdError::Invalid(format!(
                "the safe point cannot move from {old} to {to}: it never falls, and stays at or below the safe point of \
                 transactions, which is {txn}"
            )));
        }
        let new = self.command(Op::GcSafePoint(to)).await?;
        Ok(Moved { old, new, blocker: String::new() })
    }

    /// Sets a barrier, or replaces the one of that name.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if it is below the safe point of transactions, has no name, or if there are too many.
    pub async fn set_barrier(&self, set: Barrier) -> PdResult<()> {
        self.must_know_safe_points()?;
        self.confirmed_cluster().await?;
        let now_ms = self.inner.clock.wall_ms();
        let change = ChangeSafePoints { set: Some(set), now_ms, ..ChangeSafePoints::default() };
        self.command(Op::ChangeSafePoints(change)).await.map(drop)
    }

    /// Removes a barrier. Returns it, if there was one.
    ///
    /// # Errors
    /// [`PdError::Invalid`] if a node does not know safe points yet.
    pub async fn remove_barrier(&self, name: &str, is_global: bool) -> PdResult<Option<Barrier>> {
        self.must_know_safe_points()?;
        self.confirmed_cluster().await?;
        let is_it = |one: &&Barrier| one.name == name && one.is_global == is_global;
        let found = self.read(|state| state.safe_points().barriers.iter().find(is_it).cloned());
        if let Some(remove) = found.clone() {
            let now_ms = self.inner.clock.wall_ms();
            let change = ChangeSafePoints { remove: Some(remove), now_ms, ..ChangeSafePoints::default() };
            self.command(Op::ChangeSafePoints(change)).await?;
        }
        Ok(found)
    }

    fn must_know_safe_points(&self) -> PdResult<()> {
        let known = self.read(PdState::cluster_version);
        if known >= version::SAFE_POINTS {
            return Ok(());
        }
        Err(PdError::Unavailable(format!(
            "there are no safe points yet: the cluster uses version {known} of its protocol, they need version {}",
            version::SAFE_POINTS
        )))
    }
}

fn day_ms() -> u64 {
    u64::try_from(OLDEST.as_millis()).unwrap_or(u64::MAX)
}
