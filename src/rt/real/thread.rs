//! The kind of the current thread: a lane, or one of the runtime's threads.

use std::cell::RefCell;

use tokio::runtime::Handle;

thread_local! {
    /// Set on a lane: the runtime on which the lane's spawns run, so that spawned tasks never wait for the lane's file
    /// operations.
    static OUTER: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Makes this thread a lane, whose spawns run on `outer`.
pub(super) fn become_lane(outer: Handle) {
    OUTER.set(Some(outer));
}

/// Returns whether this thread is a lane, where file operations run in place instead of on the blocking pool.
pub(super) fn on_lane() -> bool {
    OUTER.with_borrow(Option::is_some)
}

/// Returns the runtime for tasks spawned on this lane, or `None` if this thread is not a lane.
pub(super) fn outer() -> Option<Handle> {
    OUTER.with_borrow(Clone::clone)
}
