//! Reads as of a moment that has passed, from any peer: what they see is what was committed by then.
//!
//! A timestamp of the past, or the one up to which all stores say that they can serve such reads, goes **in**; what was
//! read goes **out**, and the oracle of transactions compares it with everything committed.

use std::time::Duration;

use armilla::client::{PdClient, TxnClient};
use armilla::rt::rng::Rng;
use armilla::types::Timestamp;
use bytes::Bytes;

/// How far back the reads go, ms.
const AGO_MS_MAX: u64 = 3000;

/// What was read.
pub struct Seen {
    /// A timestamp that was given out when it began.
    pub start: Timestamp,
    /// Keys, the timestamp at which they were read, and their values.
    pub reads: Vec<(Bytes, Timestamp, Option<Bytes>)>,
}

/// Reads some keys, some of them twice, as of one moment.
pub async fn read((client, pd): (&TxnClient, &PdClient), keys: &[Bytes], rng: &mut Rng) -> Option<Seen> {
    let start = pd.tso(1).await.ok()?;
    // What is newest is the most likely to be missed.
    let ago_ms = match rng.below(10) {
        0..=4 => 0,
        5..=7 => rng.below(60),
        _ => rng.below(AGO_MS_MAX),
    };
    let mut at = Timestamp::new(start.physical_ms().saturating_sub(ago_ms), start.logical());
    if rng.chance(0.2)
        && let Ok(safe) = client.safe_ts().await
        && safe > Timestamp(0)
    {
        at = safe.min(start);
    }
    let view = client.as_of(at, Duration::from_millis(rng.between(100, 1500)));
    let mut reads = Vec::new();
    if rng.chance(0.5) {
        let (first, last) = (keys[0].clone(), [&keys[keys.len() - 1][..], b"\0"].concat().into());
        if let Ok(found) = view.scan(&first, &last, 1000, rng.chance(0.4)).await {
            for key in keys {
                let value = found.iter().find(|(of, _)| of == key).map(|(_, value)| value.clone());
                reads.push((key.clone(), at, value));
            }
        }
    } else {
        for _ in 0..rng.between(1, 4) {
            let key = rng.pick(keys);
            if let Ok(value) = view.get(key).await {
                reads.push((key.clone(), at, value));
            }
        }
    }
    Some(Seen { start, reads })
}
