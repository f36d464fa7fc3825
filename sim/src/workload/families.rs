//! The client that uses all column families: the same keys in each, with values that name their family. A read must
//! return a value that was written to that key in that family.

use std::collections::{BTreeMap, BTreeSet};

use armilla::proto::kvrpcpb::{Context, RawDeleteRequest, RawGetRequest, RawPutRequest};
use armilla::proto::tikvpb::tikv_client::TikvClient;
use armilla::rt::rng::Rng;
use armilla::rt_select;
use armilla::types::region;
use bytes::Bytes;

use crate::oracle::Violation;
use crate::workload::insider::Insider;

/// The column families, as clients name them.
const FAMILIES: [&str; 3] = ["default", "lock", "write"];
/// Number of keys in each family.
const KEYS: u64 = 4;
const TIMEOUT_NS: u64 = 2_000_000_000;

/// The possible contents of a key of a family, which only this client writes.
#[derive(Debug, Default)]
struct Known {
    /// The content after the last acknowledged write.
    last: Option<Bytes>,
    /// The contents that writes of unknown outcome may have left or may still leave.
    maybe: BTreeSet<Option<Bytes>>,
}

impl Known {
    fn may_hold(&self, value: &Option<Bytes>) -> bool {
        *value == self.last || self.maybe.contains(value)
    }
}

/// The outcome of a write.
enum Ended {
    Done,
    Unknown,
    Refused,
}

/// Writes and reads in all column families.
pub struct Families(pub Insider);

impl Families {
    /// Reads and writes until `until_ns` (true time).
    pub async fn run(self, until_ns: u64) {
        let mut rng = Rng::fork(self.0.plan.workload.seed, "families");
        let mut known: BTreeMap<(&str, u32), Known> = BTreeMap::new();
        let mut written = 0_u64;
        loop {
            self.0.world.sleep_ns(rng.between(1, self.0.plan.workload.families_ms * 2) * 1_000_000).await;
            if self.0.world.now_ns() >= until_ns {
                return;
            }
            let (family, number) = (*rng.pick(&FAMILIES), rng.below(KEYS) as u32);
            let Some((node, context)) = self.leader(number) else { continue };
            let address = &self.0.cluster.addresses()[node as usize - 1];
            let stub = TikvClient::new(self.0.env.net.channel(address).expect("it is an address"));
            let own = known.entry((family, number)).or_default();
            let value = match rng.below(5) {
                0 | 1 => {
                    let Some(seen) = self.get(stub, context, family, number).await else { continue };
                    if !own.may_hold(&seen) {
                        let seen = seen.map_or("nothing".into(), |value| String::from_utf8_lossy(&value).into_owned());
                        let what = format!("key {number} of family {family} holds {seen}, not {own:?}");
                        self.0.monitor.report(Violation::new("families", self.0.world.now_ns(), node, what));
                        return;
                    }
                    continue;
                }
                2 => None,
                _ => Some(Bytes::from(format!("{family}.{number}.{written}"))),
            };
            written += 1;
            match self.write(stub, context, family, number, value.clone()).await {
                Ended::Done => own.last = value,
                Ended::Unknown => drop(own.maybe.insert(value)),
                Ended::Refused => {}
            }
        }
    }

    /// Returns the node that leads a key's region, and the context of requests to it.
    fn leader(&self, number: u32) -> Option<(u64, Option<Context>)> {
        let regions = self.0.regions();
        let region = regions.iter().find(|region| region::holds(region, &own_key(number)))?;
        let (node, store) = self.0.leader(region.id)?;
        let peer = region::peer_on(region, store).cloned()?;
        let (region_id, region_epoch) = (region.id, region.region_epoch);
        Some((node, Some(Context { region_id, region_epoch, peer: Some(peer), ..Context::default() })))
    }

    /// Returns the key's content, or `None` if the read was not served.
    async fn get(
        &self,
        mut stub: TikvClient<armilla::rt::net::Channel>,
        context: Option<Context>,
        family: &str,
        number: u32,
    ) -> Option<Option<Bytes>> {
        let request = RawGetRequest { context, key: own_key(number), cf: family.to_owned() };
        let answer = rt_select! {
            answer = stub.raw_get(request) => answer,
            () = self.0.world.sleep_ns(TIMEOUT_NS) => return None,
        };
        let reply = answer.ok()?.into_inner();
        let served = reply.region_error.is_none() && reply.error.is_empty();
        served.then(|| (!reply.not_found).then_some(reply.value))
    }

    async fn write(
        &self,
        mut stub: TikvClient<armilla::rt::net::Channel>,
        context: Option<Context>,
        family: &str,
        number: u32,
        value: Option<Bytes>,
    ) -> Ended {
        let (key, cf) = (own_key(number), family.to_owned());
        let answer = async {
            match value {
                Some(value) => {
                    let request = RawPutRequest { context, key, value, cf, ..RawPutRequest::default() };
                    let reply = stub.raw_put(request).await?.into_inner();
                    Ok::<_, tonic::Status>((reply.region_error, reply.error))
                }
                None => {
                    let request = RawDeleteRequest { context, key, cf, ..RawDeleteRequest::default() };
                    let reply = stub.raw_delete(request).await?.into_inner();
                    Ok((reply.region_error, reply.error))
                }
            }
        };
        let answer = rt_select! {
            answer = answer => answer,
            () = self.0.world.sleep_ns(TIMEOUT_NS) => return Ended::Unknown,
        };
        match answer {
            Ok((None, error)) if error.is_empty() => Ended::Done,
            Ok((Some(error), _)) if error.not_leader.is_some() || error.epoch_not_match.is_some() => Ended::Refused,
            _ => Ended::Unknown,
        }
    }
}

/// Returns a key before or behind all keys of the other clients, whose ranges must not include it.
fn own_key(number: u32) -> Bytes {
    let side = if number.is_multiple_of(2) { "e" } else { "m" };
    format!("{side}~family.{number}").into()
}

#[cfg(test)]
mod tests {
    //! Goal: a value that was never written is detected, and a possible one is accepted.
    use super::*;

    #[test]
    fn values() {
        let value = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
        let mut known = Known::default();
        assert!(known.may_hold(&None) && !known.may_hold(&value("a")));
        known.last = value("a");
        known.maybe.insert(value("b"));
        assert!(known.may_hold(&value("a")) && known.may_hold(&value("b")));
        assert!(!known.may_hold(&None) && !known.may_hold(&value("c")));
    }
}
