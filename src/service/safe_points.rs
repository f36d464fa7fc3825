//! Safe points and barriers in PD's messages, those of PD 8 and the newer ones.
//!
//! There is one state of garbage collection for all keys, that of the null keyspace, and so of every keyspace. An older
//! client's service safe point is a barrier of that name; the service `gc_worker` moves the safe point of transactions
//! itself.

use crate::pd::{PdError, PdServer, SafePointsView};
use crate::proto::armilla::pd::Barrier;
use crate::proto::pdpb::{
    GcBarrierInfo, GcState, GlobalGcBarrierInfo, GlobalGcBarriersInfo, KeyspaceScope, UpdateServiceGcSafePointRequest,
    keyspace_scope,
};

/// The keyspace without a name, in which all data are that belong to no other one.
pub(super) const NULL_KEYSPACE: u32 = u32::MAX;
/// The keyspace that clients of the newer API begin in.
pub(super) const DEFAULT_KEYSPACE: u32 = 0;
/// IDs from here on are no keyspaces.
const FIRST_NO_KEYSPACE: u32 = 1 << 24;
/// The service whose safe point is that of transactions.
pub(super) const GC_WORKER: &str = "gc_worker";

/// Returns why a request is not about the one state that there is, if it is not. `exists` says whether there is a
/// keyspace with this ID.
pub(super) fn unknown_keyspace(scope: Option<&KeyspaceScope>, exists: impl FnOnce(u32) -> bool) -> Option<String> {
    let id = |scope: &KeyspaceScope| {
        scope.keyspace.as_ref().map_or(DEFAULT_KEYSPACE, |keyspace_scope::Keyspace::KeyspaceId(id)| *id)
    };
    let keyspace = scope.map_or(NULL_KEYSPACE, id);
    let known = keyspace == DEFAULT_KEYSPACE || keyspace >= FIRST_NO_KEYSPACE || exists(keyspace);
    (!known).then(|| format!("keyspace {keyspace} does not exist"))
}

/// Returns the end of a barrier that lasts for `ttl_s` seconds from now on: Unix milliseconds, 0 for never.
pub(super) fn until_ms(now_ms: u64, ttl_s: i64) -> u64 {
    match u64::try_from(ttl_s) {
        Ok(ttl_s) if ttl_s < i64::MAX as u64 / 1000 => now_ms.saturating_add(ttl_s * 1000),
        _ => 0,
    }
}

/// Returns for how many seconds a barrier still holds.
fn ttl_s(until_ms: u64, now_ms: u64) -> i64 {
    match until_ms {
        0 => i64::MAX,
        until => until.saturating_sub(now_ms).div_ceil(1000) as i64,
    }
}

/// Returns a barrier as clients know it.
pub(super) fn info(barrier: &Barrier, now_ms: u64) -> GcBarrierInfo {
    let Barrier { name, at, until_ms, .. } = barrier.clone();
    GcBarrierInfo { barrier_id: name, barrier_ts: at, ttl_seconds: ttl_s(until_ms, now_ms) }
}

/// Returns a barrier of all keyspaces as clients know it.
pub(super) fn global_info(barrier: &Barrier, now_ms: u64) -> GlobalGcBarrierInfo {
    let GcBarrierInfo { barrier_id, barrier_ts, ttl_seconds } = info(barrier, now_ms);
    GlobalGcBarrierInfo { barrier_id, barrier_ts, ttl_seconds }
}

/// Returns the state of garbage collection.
pub(super) fn gc_state(view: &SafePointsView, with_barriers: bool) -> GcState {
    let own = view.barriers.iter().filter(|barrier| with_barriers && !barrier.is_global);
    GcState {
        keyspace_scope: Some(KeyspaceScope { keyspace: Some(keyspace_scope::Keyspace::KeyspaceId(NULL_KEYSPACE)) }),
        is_keyspace_level_gc: false,
        txn_safe_point: view.txn,
        gc_safe_point: view.gc,
        gc_barriers: own.map(|barrier| info(barrier, view.now_ms)).collect(),
    }
}

/// Returns the barriers that hold for all keyspaces.
pub(super) fn global_barriers(view: &SafePointsView) -> GlobalGcBarriersInfo {
    let all = view.barriers.iter().filter(|barrier| barrier.is_global);
    GlobalGcBarriersInfo { barriers: all.map(|barrier| global_info(barrier, view.now_ms)).collect() }
}

/// Sets a barrier for `ttl_s` seconds. Returns it with the placement driver's clock.
pub(super) async fn set(
    pd: &PdServer,
    (name, is_global): (&str, bool),
    at: u64,
    ttl_s: i64,
) -> Result<(Barrier, u64), PdError> {
    if ttl_s <= 0 {
        return Err(PdError::Invalid(format!("a barrier needs a time to live of at least one second, not {ttl_s}")));
    }
    if name == GC_WORKER {
        return Err(PdError::Invalid(format!("`{GC_WORKER}` cannot be the name of a barrier")));
    }
    let now_ms = pd.safe_points().await?.now_ms;
    let barrier = Barrier { name: name.to_owned(), at, until_ms: until_ms(now_ms, ttl_s), is_global };
    pd.set_barrier(barrier.clone()).await?;
    Ok((barrier, now_ms))
}

/// Removes a barrier. Returns it, if there was one, with the placement driver's clock.
pub(super) async fn remove(pd: &PdServer, name: &str, is_global: bool) -> Result<(Option<Barrier>, u64), PdError> {
    let now_ms = pd.safe_points().await?.now_ms;
    Ok((pd.remove_barrier(name, is_global).await?, now_ms))
}

/// Does what an older client wants of a service's safe point. Returns the safe point of transactions, below which no
/// service may set its own.
pub(super) async fn of_service(pd: &PdServer, request: &UpdateServiceGcSafePointRequest) -> Result<u64, PdError> {
    let name = String::from_utf8_lossy(&request.service_id).into_owned();
    if name == GC_WORKER {
        return pd.advance_txn_safe_point(request.safe_point).await.map(|moved| moved.new);
    }
    if request.ttl <= 0 {
        pd.remove_barrier(&name, false).await?;
        return pd.safe_points().await.map(|view| view.txn);
    }
    let view = pd.safe_points().await?;
    // The answer, above what was asked for, tells the client that it came too late.
    if request.safe_point >= view.txn {
        set(pd, (&name, false), request.safe_point, request.ttl).await?;
    }
    Ok(view.txn)
}

#[cfg(test)]
mod tests {
    //! Goal: times and keyspaces of PD's messages. Method: by hand.
    use super::*;

    #[test]
    fn times_to_live_come_back() {
        for ttl in [1, 600, i64::MAX] {
            let barrier = Barrier { name: "b".into(), at: 7, until_ms: until_ms(5_000, ttl), is_global: false };
            let told = info(&barrier, 5_000);
            assert_eq!((told.ttl_seconds, told.barrier_ts), (ttl, 7));
        }
        assert_eq!(ttl_s(6_001, 5_000), 2);
    }

    #[test]
    fn there_is_one_keyspace() {
        let scope = |id| Some(KeyspaceScope { keyspace: Some(keyspace_scope::Keyspace::KeyspaceId(id)) });
        for known in [None, scope(0), scope(NULL_KEYSPACE), scope(FIRST_NO_KEYSPACE)] {
            assert_eq!(unknown_keyspace(known.as_ref(), |_| false), None);
        }
        assert_eq!(unknown_keyspace(scope(7).as_ref(), |id| id == 7), None);
        assert!(unknown_keyspace(scope(7).as_ref(), |id| id == 8).unwrap().contains("keyspace 7"));
    }
}
