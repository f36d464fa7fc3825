//! Room on the disk: what a store still takes when there is little left.
//!
//! | room left, beside the reserve file | what the store does |
//! |---|---|
//! | two reserves or more | everything |
//! | less than two | hands its leaders over, refuses writes that add data; deletes go on |
//! | less than one | frees the reserve file, hands its leaders over, is not healthy |
//!
//! A store whose disk is full all the same stops; the reserve is what lets it start again, to be cleaned.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::replica::{Handle, Room};
use crate::rt::clock::Clock;
use crate::rt::disk::Disk;
use crate::types::limits::RESERVE_BYTES_MAX;

/// The reserve file's name in the data directory.
const NAME: &str = "RESERVE";
/// Between two looks.
const LOOK: Duration = Duration::from_millis(200);

/// How large the reserve of a disk is, bytes; 0: there is none.
fn reserve_bytes(configured: Option<u64>, capacity: u64) -> u64 {
    configured.unwrap_or((capacity / 20).min(RESERVE_BYTES_MAX))
}

/// How long handing leaders over may take.
const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// What a store takes with that much room left.
fn room(available: u64, reserve: u64, before: Room) -> Room {
    // What was freed, and what is written meanwhile, must not make a store change its mind with every look.
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

/// Frees the reserve if the disk has hardly any room left: a start needs some.
pub async fn make_room_for_a_start(disk: &Disk, data_dir: &Path, reserve: Option<u64>) {
    let Ok((capacity, available)) = disk.space(data_dir).await else { return };
    if available < reserve_bytes(reserve, capacity) && disk.remove(&data_dir.join(NAME)).await.is_ok() {
        tracing::warn!(available, "the disk is nearly full: freed the reserve to start with");
    }
}

/// Watches the room of one store's disk.
#[derive(Debug)]
pub struct Space {
    /// The disk.
    pub disk: Disk,
    /// Where the data lies.
    pub data_dir: PathBuf,
    /// The reserve, bytes, if it is configured.
    pub reserve: Option<u64>,
    /// The store's replicas, which are told.
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
        loop {
            if let Ok((capacity, available)) = self.disk.space(&self.data_dir).await {
                let reserve = reserve_bytes(self.reserve, capacity);
                let before = self.handle.room();
                let now =
                    if crate::mutant!("store.disk-fills-up") { Room::Enough } else { room(available, reserve, before) };
                if now != before {
                    tracing::warn!(available, reserve, "room on the disk: {now:?}, was {before:?}");
                    self.handle.show_room(now);
                }
                // First: handing over may take its time.
                kept.follow(now, available, reserve).await;
                // Others may have room: they take what this store refuses. With hardly any it keeps away from leading, too, and
                // whoever elects it is asked again.
                let again = now == Room::Critical && !crate::mutant!("store.hands-over-once");
                if again || (now != before && now != Room::Enough) {
                    crate::reach!("store.little-room");
                    self.handle.hand_over(Duration::ZERO, HAND_OVER_MAX).await;
                }
            }
            self.clock.sleep(LOOK).await;
        }
    }
}

/// The file that keeps some of the disk's room back.
struct Reserve {
    disk: Disk,
    path: PathBuf,
    is_there: bool,
}

impl Reserve {
    /// The reserve of a data directory. One that an earlier run made is as good as a new one.
    async fn find(disk: &Disk, data_dir: &Path) -> Reserve {
        let path = data_dir.join(NAME);
        let is_there = disk.open(&path).await.is_ok();
        Reserve { disk: disk.clone(), path, is_there }
    }

    /// Gives its bytes back when there is hardly any room, and makes it again when there is plenty.
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

    /// Makes the file; whether it is there.
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
                tracing::debug!(%error, "no reserve on the disk");
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    //! Goal: what a store takes follows the room that is left, without changing its mind with every look; the reserve is given back by
    //! whichever run finds the disk full. Method: by hand.
    use super::*;

    #[test]
    fn room_by_reserves() {
        let of = |available, before| room(available, 100, before);
        assert_eq!(of(200, Room::Enough), Room::Enough);
        assert_eq!(of(199, Room::Enough), Room::Low);
        assert_eq!(of(249, Room::Low), Room::Low);
        assert_eq!(of(250, Room::Low), Room::Enough);
        assert_eq!(of(99, Room::Low), Room::Critical);
        // The reserve that was freed is no room.
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
            assert!(!is_there().await, "too little room to set any aside");
            first.follow(Room::Enough, 5 << 20, 1 << 20).await;
            let made = disk.open(&path).await.expect("it is made");
            assert_eq!(made.len().await.expect("its length"), 1 << 20);
            let mut second = Reserve::find(&disk, &dir).await;
            second.follow(Room::Low, 3 << 19, 1 << 20).await;
            assert!(is_there().await);
            second.follow(Room::Critical, 1 << 19, 1 << 20).await;
            assert!(!is_there().await);
        });
    }
}
