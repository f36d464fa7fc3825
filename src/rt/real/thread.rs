//! What a thread is: a lane, or one of the runtime's.

use std::cell::RefCell;

use tokio::runtime::Handle;

thread_local! {
    /// On a lane: the runtime that the lane's own spawns go to, so that their work never waits for the lane's files.
    static OUTER: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Makes this thread a lane, whose spawns go to `outer`.
pub(super) fn become_lane(outer: Handle) {
    OUTER.set(Some(outer));
}

/// Whether this thread is a lane, where file calls run in place instead of on the blocking pool.
pub(super) fn on_lane() -> bool {
    OUTER.with_borrow(Option::is_some)
}

/// The runtime that tasks spawned on this lane belong to; nothing when this thread is no lane.
pub(super) fn outer() -> Option<Handle> {
    OUTER.with_borrow(Clone::clone)
}
