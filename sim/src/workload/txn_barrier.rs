//! A reader that holds the safe point back, and reads at its timestamp for longer than versions are kept.
//!
//! A read above a barrier that still holds is never refused because it is too old, and sees what it saw at first.

use armilla::client::{PdClient, TxnClient, TxnOptions};
use armilla::rt::rng::Rng;
use armilla::rt::sim::World;
use bytes::Bytes;

use crate::cluster::monitor::Monitor;
use crate::oracle::Violation;

/// How long the barrier holds, seconds: forever, because the placement driver's clock may be set forward.
const HELD_S: u64 = u64::MAX;
/// How long it reads, ns.
const READS_NS: u64 = 6_000_000_000;

/// Reads behind a barrier of this name.
pub async fn read(
    name: &str,
    (client, pd): (&TxnClient, &PdClient),
    (world, monitor): (&World, &Monitor),
    keys: &[Bytes],
    rng: &mut Rng,
) {
    let Ok(txn) = client.begin(TxnOptions::default()).await else { return };
    let began_ns = world.now_ns();
    if pd.set_gc_barrier(name, txn.start(), HELD_S).await.is_err() {
        return;
    }
    let key = rng.pick(keys);
    let mut first = None;
    while world.now_ns() < began_ns + READS_NS {
        match txn.get(key).await {
            Ok(found) => {
                let seen = first.get_or_insert_with(|| found.clone());
                if *seen != found {
                    let what = format!("a read behind a barrier at {} saw {seen:?}, then {found:?}", txn.start());
                    return monitor.report(Violation::new("transactions", world.now_ns(), 0, what));
                }
            }
            Err(failed) if failed.to_string().contains("safe point") => {
                let what = format!("a read behind a barrier at {} was refused: {failed}", txn.start());
                return monitor.report(Violation::new("transactions", world.now_ns(), 0, what));
            }
            Err(_) => {}
        }
        world.sleep_ns(rng.between(100, 1500) * 1_000_000).await;
    }
    let _ = pd.delete_gc_barrier(name).await;
}
