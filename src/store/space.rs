//! Free space on the disk: which requests a store still accepts when little is left.
//!
//! | free space, not counting the reserve file | what the store does |
//! |---|---|
//! | two reserves or more | accepts everything |
//! | less than two | hands its leaders over, refuses writes that add data, accepts deletes |
//! | less than one | frees the reserve file, hands its leaders over, reports itself as not healthy |
//!
//! A store whose disk becomes full nevertheless stops. The reserve lets it start again, so that data can be deleted.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::replica::{Handle, Room};
use crate::rt::clock::Clock;
use crate::rt::disk::Disk;
use crate::types::limits::RESERVE_BYTES_MAX;

/// The name of the reserve file in the data directory.
const NAME: &str = "RESERVE";
/// How often the free space is checked.
const LOOK: Duration = Duration::from_millis(200);

/// Returns the length of a disk's reserve in bytes; 0 if there is none.
fn reserve_bytes(configured: Option<u64>, capacity: u64) -> u64 {
    configured.unwrap_or((capacity / 20).min(RESERVE_BYTES_MAX))
}

/// How long handing leaders over may take.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);
/// How long after it has handed over a store with hardly any room does so again.
const HAND_OVER_AGAIN: Duration = Duration::from_secs(2);

/// Returns the state of a store that has `available` bytes left and was in the state `before`.
fn room(available: u64, reserve: u64, before: Room) -> Room {
    // Hysteresis: freeing the reserve, and concurrent writes, must not change the state with every check.
    let (low, critical) = match before {
        Room::Enough => (2 * reserve, reserve),
        Room::Low => (2 * reserve + reserve / 2, reserve),
        Room::Critical => (3 * reserve + reserve / 2, 3 * reserve),
    };
    if available < critical {
        Room::Critical
    } else if available < low {
        Room::Low
    } else {
        Room::Enough
    }
}

/// Frees the reserve if the disk is nearly full, because starting needs some space.
pub async fn make_room_for_a_start(disk: &Disk, data_dir: &Path, reserve: Option<u64>) {
    let Ok((capacity, available)) = disk.space(data_dir).await else { return };
    if available < reserve_bytes(reserve, capacity) && disk.remove(&data_dir.join(NAME)).await.is_ok() {
        tracing::warn!(available, "the disk is nearly full: freed the reserve in order to start");
    }
}

/// Watches the free space of one store's disk.
#[derive(Debug)]
pub struct Space {
    /// The disk.
    pub disk: Disk,
    /// The data directory.
    pub data_dir: PathBuf,
    /// The configured length of the reserve in bytes, if any.
    pub reserve: Option<u64>,
    /// The store's replicas, which are told the state.
    pub handle: Handle,
    /// The node's clock.
    pub clock: Clock,
}

impl Space {
    /// Runs until it is dropped.
    pub async fn run(self) {
        if self.reserve == Some(0) {
            return std::future::pending().await;
        }
        let mut kept = Reserve::find(&self.disk, &self.data_dir).await;
        // A store that has groups but no reserve was nearly full before it restarted.
        let mut was_full = !kept.is_there && !self.handle.views().is_empty();
        let mut handed_over = None;
        loop {
            if let Ok((capacity, available)) = self.disk.space(&self.data_dir).await {
                let reserve = reserve_bytes(self.reserve, capacity);
                let shown = self.handle.room();
                let forgets = crate::mutant!("store.freed-reserve-forgotten");
                let before = if std::mem::take(&mut was_full) && !forgets { Room::Critical } else { shown };
                let now =
                    if crate::mutant!("store.disk-fills-up") { Room::Enough } else { room(available, reserve, before) };
                let changed = now != shown;
                if changed {
                    tracing::warn!(available, reserve, "room on the disk: {now:?}, was {before:?}");
                    self.handle.show_room(now);
                }
                // The reserve comes first, because handing over may take time.
                kept.follow(now, available, reserve).await;
                // Other stores may have room for what this store refuses. With hardly any room left, the store hands
                // over again and again: a peer may elect it again.
                let due = handed_over.is_none_or(|at| self.clock.now().since(at) >= HAND_OVER_AGAIN);
                let again = now == Room::Critical && due && !crate::mutant!("store.hands-over-once");
                if again || (changed && now != Room::Enough) {
                    crate::reach!("store.little-room");
                    self.handle.hand_over(Duration::ZERO, HAND_OVER_MAX).await;
                    handed_over = Some(self.clock.now());
                }
            }
            self.clock.sleep(LOOK).await;
        }
    }
}

/// The file that reserves some of the disk's space.
struct Reserve {
    disk: Disk,
    path: PathBuf,
    is_there: bool,
}

impl Reserve {
    /// Finds the reserve of a data directory. A reserve from an earlier run is as good as a new one.
    async fn find(disk: &Disk, data_dir: &Path) -> Reserve {
        let path = data_dir.join(NAME);
        let is_there = disk.open(&path).await.is_ok();
        Reserve { disk: disk.clone(), path, is_there }
    }

    /// Frees the reserve when hardly any space is left, and creates it again when there is plenty.
    async fn follow(&mut self, room: Room, available: u64, bytes: u64) {
        match room {
            Room::Critical if self.is_there => {
                crate::reach!("store.reserve-freed");
                self.is_there = self.disk.remove(&self.path).await.is_err();
            }
            Room::Enough if !self.is_there && available > 4 * bytes => self.is_there = self.make(bytes).await,
            _ => {}
        }
    }

    /// Creates the file. Returns whether it exists.
    async fn make(&self, bytes: u64) -> bool {
        let file = match self.disk.open(&self.path).await {
            Ok(file) => Ok(file),
            Err(_) => self.disk.create(&self.path).await,
        };
        let allocated = match file {
            Ok(file) => file.allocate(bytes).await,
            Err(error) => Err(error),
        };
        match allocated {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "could not reserve disk space");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what a store accepts follows the free space without changing at every check, and any run that finds the
    //! disk full frees the reserve. Method: by hand.
    use super::*;

    #[test]
    fn room_by_reserves() {
        let of = |available, before| room(available, 100, before);
        assert_eq!(of(200, Room::Enough), Room::Enough);
        assert_eq!(of(199, Room::Enough), Room::Low);
        assert_eq!(of(249, Room::Low), Room::Low);
        assert_eq!(of(250, Room::Low), Room::Enough);
        assert_eq!(of(99, Room::Low), Room::Critical);
        // The space of the freed reserve does not count as free space.
        assert_eq!(of(299, Room::Critical), Room::Critical);
        assert_eq!(of(300, Room::Critical), Room::Low);
        assert_eq!(of(350, Room::Critical), Room::Enough);
        assert_eq!((reserve_bytes(None, 1 << 40), reserve_bytes(None, 100 << 20)), (5 << 30, 5 << 20));
    }

    #[test]
    fn a_reserve_of_an_earlier_run_is_given_back() {
        crate::rt::testing::run(|env, dir| async move {
            let (disk, path) = (env.disk, dir.join(NAME));
            let is_there = || async { disk.open(&path).await.is_ok() };
            let mut first = Reserve::find(&disk, &dir).await;
            first.follow(Room::Enough, 3 << 20, 1 << 20).await;
            assert!(!is_there().await, "too little free space for a reserve");
            first.follow(Room::Enough, 5 << 20, 1 << 20).await;
            let made = disk.open(&path).await.expect("the reserve was created");
            assert_eq!(made.len().await.expect("the length of the reserve"), 1 << 20);
            let mut second = Reserve::find(&disk, &dir).await;
            second.follow(Room::Low, 3 << 19, 1 << 20).await;
            assert!(is_there().await);
            second.follow(Room::Critical, 1 << 19, 1 << 20).await;
            assert!(!is_there().await);
        });
    }
}
