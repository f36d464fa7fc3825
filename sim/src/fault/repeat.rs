//! Repeated and stray messages: messages between stores are delivered once more, later and perhaps to another process,
//! or come from a peer that is not a member.
//!
//! A sender repeats messages that may not have arrived, and a network may hold messages for long; a connection or
//! stream orders only its own messages.

use armilla::proto::armilla::raft::RaftBatch;
use armilla::proto::armilla::raft::transport_client::TransportClient;
use bytes::Bytes;
use futures::stream;
use prost::Message as _;
use protobuf::Message as _;
use raft::eraftpb::{Message, MessageType};
use serde::{Deserialize, Serialize};

use super::behavior::{Active, Behavior, Hit, Shape};
use super::context::Context;
use super::draw::{Class, Draft};
use super::force::{Force, Machines};
use crate::oracle::strays::STRAY_TERM;

/// The path of the call whose messages the network records.
pub const PATH: &str = "/armilla.raft.Transport/Messages";

/// A fault of message delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kind {
    /// The last messages that other stores sent to the node before the fault are delivered again at its end.
    Repeat {
        /// Whether they are delivered in another order.
        shuffled: bool,
    },
    /// The node receives a message from a peer that is not a member of the group, or for a peer that is not.
    Stray {
        /// Whether the receiver is wrong instead of the sender.
        to: bool,
    },
}

/// The values of `kind`.
pub const NAMES: &[&str] = &["repeat", "stray"];

/// The classes from which the swarm draws.
pub const CLASSES: &[Class<Kind>] = &[
    Class {
        name: "repeat",
        per_minute: (0.6, 8.0),
        make: |d| {
            let (target, shuffled) = (d.target(), d.rng.chance(0.3));
            Draft::at(target, d.log(1, 60_000), Kind::Repeat { shuffled })
        },
    },
    Class {
        name: "stray",
        per_minute: (0.6, 8.0),
        make: |d| {
            let target = d.target();
            Draft::at(target, 0, Kind::Stray { to: d.rng.chance(0.5) })
        },
    },
];

/// Decodes the messages in sent data. Each is preceded by a zero byte (not compressed) and its length.
fn decode(mut data: Bytes) -> Vec<RaftBatch> {
    let mut batches = Vec::new();
    while data.len() > 5 {
        let len = u32::from_be_bytes(data[1..5].try_into().expect("four bytes")) as usize;
        if data.len() < 5 + len {
            break;
        }
        batches.extend(RaftBatch::decode(data.slice(5..5 + len)).ok());
        data = data.slice(5 + len..);
    }
    batches
}

/// Returns the last messages that each other store sent to the node.
fn sent(node: u64, context: &Context) -> Vec<Vec<RaftBatch>> {
    let others = context.machines.others(node);
    let by_sender = others.map(|from| context.world.net().recorded(from, node));
    by_sender.map(|sent| sent.into_iter().flat_map(decode).collect()).collect()
}

/// Sends batches to a node, with one call per sender.
fn send(node: u64, by_sender: Vec<Vec<RaftBatch>>, context: &Context) {
    let Some(address) = context.cluster.addresses().get(node as usize - 1).cloned() else { return };
    for batches in by_sender.into_iter().filter(|batches| !batches.is_empty()) {
        let Ok(channel) = context.admin.env().net.channel(&address) else { return };
        context.admin.spawn(async move {
            // A refusal (the sender or the receiver has been restarted) is ignored.
            let _ = TransportClient::new(channel).messages(stream::iter(batches)).await;
        });
    }
}

/// Turns a batch into messages from a peer that is not a member or, with `to`, for such a peer.
fn stray(mut batch: RaftBatch, to: bool, hit: &mut Hit) -> RaftBatch {
    batch.messages.retain_mut(|message| {
        let Ok(mut raft) = Message::parse_from_bytes(&message.message) else { return false };
        if to {
            raft.to += 1000;
        } else {
            raft.from += 1000;
        }
        raft.term = STRAY_TERM + hit.rng.below(1000);
        raft.commit = 0;
        raft.clear_entries();
        let kind =
            *hit.rng.pick(&[MessageType::MsgHeartbeat, MessageType::MsgRequestVote, MessageType::MsgAppendResponse]);
        raft.set_msg_type(kind);
        if kind == MessageType::MsgRequestVote {
            // As in a leadership transfer, which ignores promises.
            raft.context = Bytes::from_static(raft::CAMPAIGN_TRANSFER);
        }
        if let Some(epoch) = &mut message.epoch {
            // An epoch from before the present members.
            epoch.conf_ver = 0;
        }
        message.message = raft.write_to_bytes().unwrap_or_default().into();
        !message.message.is_empty()
    });
    batch
}

impl Behavior for Kind {
    fn shape(&self) -> Shape {
        Shape { target: true, lasts: matches!(self, Kind::Repeat { .. }) }
    }

    fn strike(&self, hit: &mut Hit, context: &mut Context) -> bool {
        let mut by_sender = sent(hit.node, context);
        match self {
            Kind::Repeat { shuffled } => {
                if *shuffled {
                    by_sender.iter_mut().for_each(|batches| {
                        for n in (1..batches.len()).rev() {
                            batches.swap(n, hit.rng.below(n as u64 + 1) as usize);
                        }
                    });
                }
                context.held.entry(hit.node).or_default().push(by_sender.concat());
            }
            Kind::Stray { to } => {
                let last = by_sender.into_iter().filter_map(|mut batches| batches.pop());
                let last: Vec<RaftBatch> = last.collect();
                let strays = last.into_iter().map(|batch| vec![stray(batch, *to, hit)]).collect();
                send(hit.node, strays, context);
            }
        }
        true
    }

    fn impose(&self, _active: Active, _machines: &Machines, force: &mut Force) {
        // Repeated messages of an old leader renew voters' promises.
        force.plain = false;
    }

    fn end(&self, node: u64, context: &mut Context) -> Vec<u64> {
        let held = context.held.get_mut(&node).filter(|held| !held.is_empty()).map(|held| held.remove(0));
        let mut by_sender: std::collections::BTreeMap<u64, Vec<RaftBatch>> = Default::default();
        for batch in held.unwrap_or_default() {
            by_sender.entry(batch.from_store).or_default().push(batch);
        }
        send(node, by_sender.into_values().collect(), context);
        context.unsettle(node);
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: the data that tonic sends is decoded.
    use super::*;

    #[test]
    fn frames() {
        let batch = |store| RaftBatch { from_store: store, ..RaftBatch::default() };
        let mut data = Vec::new();
        for store in [3, 4] {
            let encoded = batch(store).encode_to_vec();
            data.push(0);
            data.extend((encoded.len() as u32).to_be_bytes());
            data.extend(encoded);
        }
        assert_eq!(decode(data.clone().into()), [batch(3), batch(4)]);
        data.pop();
        assert_eq!(decode(data.into()), [batch(3)], "a partial message is ignored");
    }
}
