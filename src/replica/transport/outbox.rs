//! The sending side of the transport.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use armilla_arch::sync::{Budget, Share};
use protobuf::Message as _;
use raft::eraftpb::Message as RaftMessage;

use crate::engine::{Engine, KvEngine};
use crate::proto::armilla::raft::{GroupMessage, SnapshotHead};
use crate::raft::machine::CfRange;
use crate::replica::group_state;
use crate::replica::handle::Handle;
use crate::replica::message::{Beats, Message};
use crate::replica::snapshot::{Outgoing, Retries, Traffic};
use crate::rt::net::Net;
use crate::rt::sync::{mpsc, watch};
use crate::rt::task::{self, JoinHandle};
use crate::types::limits::{OUTBOX_BYTES_MAX, OUTBOX_MESSAGES_MAX};
use crate::types::region::RegionEpoch;
use crate::types::{Error, GroupId, Region};

use super::link::Link;
use super::{Addresses, Local, Outbound, Queued};

/// Sends to other stores. Clones, one for each lane, share the streams.
#[derive(Clone)]
pub struct Outbox {
    local: Local,
    net: Net,
    addresses: watch::Receiver<Addresses>,
    lines: Arc<Mutex<BTreeMap<u64, Line>>>,
    handle: Handle,
    sending: Sending,
}

/// How old entries and snapshots are sent.
#[derive(Clone)]
pub struct Sending {
    /// Maximum bytes of old entries in flight to one store.
    pub fetch_bytes_max: usize,
    /// Maximum bytes of pairs in one chunk.
    pub chunk_bytes: usize,
    /// The slots and the rate limit.
    pub traffic: Traffic,
    /// The delays before snapshots that failed are retried.
    pub retries: Arc<Mutex<Retries>>,
}

struct Line {
    queue: mpsc::Sender<Queued>,
    waiting_bytes: Budget,
    /// The bytes that pending reads of old entries may return.
    fetches: Budget,
    task: JoinHandle<()>,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A snapshot to be sent.
#[derive(Debug)]
pub struct SnapshotOut {
    /// The group's ID.
    pub group: GroupId,
    /// The group's epoch.
    pub epoch: RegionEpoch,
    /// The group's descriptor.
    pub region: Arc<Region>,
    /// The store that receives it.
    pub to_store: u64,
    /// Raft's message.
    pub message: RaftMessage,
    /// The ranges of keys that it carries.
    pub ranges: Vec<CfRange>,
    /// This store does not lead the group: the state is for a store that lacks it.
    pub by_candidate: bool,
}

fn group_message(
    group: GroupId,
    epoch: RegionEpoch,
    message: &RaftMessage,
    region: Option<&Region>,
) -> Option<GroupMessage> {
    let bytes = message.write_to_bytes().ok()?;
    Some(GroupMessage { group_id: group.0, message: bytes.into(), epoch: Some(epoch), region: region.cloned() })
}

impl Outbox {
    /// Creates the sending side of `local`, which reaches the stores in `addresses`.
    pub fn new(
        local: Local,
        net: Net,
        addresses: watch::Receiver<Addresses>,
        handle: Handle,
        sending: Sending,
    ) -> Outbox {
        Outbox { local, net, addresses, lines: Arc::default(), handle, sending }
    }

    /// Connects to a store, which learns of this store's run even if no message follows.
    pub fn connect(&self, store: u64) {
        if store != self.local.store {
            self.line(&mut self.lines.lock().expect("no holder panics"), store);
        }
    }

    /// Reserves room for old entries to a store, to be held until they are in its queue. Returns `None` if the queue
    /// already has as many bytes as it may.
    pub fn room_for_a_fetch(&self, store: u64, bytes: usize) -> Option<Share> {
        let mut lines = self.lines.lock().expect("no holder panics");
        let line = self.line(&mut lines, store);
        let full = line.waiting_bytes.taken() + line.fetches.taken() >= self.sending.fetch_bytes_max;
        if full || crate::buggify!("transport.no-room-for-a-fetch") {
            return None;
        }
        line.fetches.take(if crate::mutant!("replica.fetches-not-reserved") { 0 } else { bytes }).ok()
    }

    /// Queues a message, with the group's descriptor for a store that may lack the group. Returns false and drops it if
    /// the store's queue is full.
    pub fn send(
        &self,
        group: GroupId,
        epoch: RegionEpoch,
        to_store: u64,
        message: RaftMessage,
        region: Option<&Region>,
    ) -> bool {
        let Some(message) = group_message(group, epoch, &message, region) else { return false };
        let bytes = message.message.len();
        !crate::buggify!("transport.outbox-full") && self.queue(to_store, Outbound::Message(message), bytes)
    }

    /// Returns the IDs of the other stores.
    pub fn stores(&self) -> Vec<u64> {
        self.addresses.borrow().keys().copied().filter(|store| *store != self.local.store).collect()
    }

    /// Queues heartbeats and what travels with them. Drops them if the store's queue is full.
    pub fn send_beats(&self, to_store: u64, beats: Beats) {
        if !beats.is_empty() && !crate::buggify!("transport.outbox-full") {
            let bytes = beats.bytes();
            self.queue(to_store, Outbound::Beats(beats), bytes);
        }
    }

    fn queue(&self, to_store: u64, outbound: Outbound, bytes: usize) -> bool {
        let mut lines = self.lines.lock().expect("no holder panics");
        let line = self.line(&mut lines, to_store);
        line.waiting_bytes.take(bytes).is_ok_and(|share| line.queue.try_send((outbound, share)).is_ok())
    }

    fn line<'a>(&self, lines: &'a mut BTreeMap<u64, Line>, to_store: u64) -> &'a mut Line {
        lines.entry(to_store).or_insert_with(|| {
            let (queue, waiting) = mpsc::channel(OUTBOX_MESSAGES_MAX);
            let link = Link {
                to_store,
                local: self.local.clone(),
                net: self.net.clone(),
                addresses: self.addresses.clone(),
                handle: self.handle.clone(),
            };
            Line {
                queue,
                waiting_bytes: Budget::new(OUTBOX_BYTES_MAX),
                fetches: Budget::new(self.sending.fetch_bytes_max),
                task: task::spawn(link.run(waiting)),
            }
        })
    }

    /// Streams a snapshot of the ranges as the engine holds them now, and tells the driver by message when it has
    /// ended. If it finds no free slot or fails, the message is delayed, so that raft does not ask for the next
    /// snapshot at once.
    pub fn send_snapshot(&self, snapshot: SnapshotOut, engine: &Engine) {
        let SnapshotOut { group, epoch, region, to_store, message, ranges, by_candidate } = snapshot;
        let (to_peer, index) = (message.to, message.get_snapshot().get_metadata().index);
        let address = self.addresses.borrow().get(&to_store).cloned();
        let channel = address.and_then(|address| self.net.channel(&address).ok());
        let head = SnapshotHead {
            cluster_id: self.local.cluster,
            from_store: self.local.store,
            to_store,
            message: group_message(group, epoch, &message, Some(&region)),
            election_ns: self.local.election_ns,
            incarnation: Some(self.local.history.run),
            earlier: self.local.history.earlier.clone(),
            by_candidate,
        };
        let Sending { chunk_bytes, traffic, retries, .. } = &self.sending;
        let slot = traffic.take_slot();
        // Only a snapshot that has a slot holds a view of the engine.
        let frozen = || {
            let frozen = engine.snapshot();
            let held = group_state::applied(&frozen, group);
            if let Ok(Some((held, _))) = held {
                assert_eq!(held, index, "group {group}: a snapshot holds exactly what is applied up to its index");
            }
            frozen
        };
        let outgoing = slot.is_some().then(|| Outgoing {
            head,
            frozen: frozen(),
            ranges,
            chunk_bytes: *chunk_bytes,
            traffic: traffic.clone(),
            counts: self.handle.snapshots().clone(),
            clock: self.handle.clock().clone(),
        });
        let (handle, retries) = (self.handle.clone(), retries.clone());
        task::spawn(async move {
            let sent = match (outgoing, channel) {
                (Some(outgoing), Some(channel)) => outgoing.send(channel).await,
                (Some(_), None) => Err(Error::Io("the address of the store is unknown".into())),
                (None, _) => Err(Error::Busy("this store is already sending as many snapshots as it may".into())),
            };
            drop(slot);
            match &sent {
                Ok(()) => {
                    handle.snapshots().count_sent();
                    retries.lock().expect("no holder panics").delivered(group, to_peer);
                }
                Err(error) => {
                    let wait = {
                        let mut retries = retries.lock().expect("no holder panics");
                        match error {
                            Error::Busy(_) => retries.no_slot(group, to_peer),
                            _ => retries.failed(group, to_peer),
                        }
                    };
                    let wait_ms = wait.as_millis() as u64;
                    match error {
                        // Many groups may wait for the same slots.
                        Error::Busy(_) => {
                            tracing::debug!(%group, to_store, %error, wait_ms, "no free slot for a snapshot, trying again")
                        }
                        _ => {
                            tracing::warn!(%group, to_store, %error, wait_ms, "sending a snapshot failed, trying again")
                        }
                    }
                    handle.clock().sleep(wait).await;
                }
            }
            handle.send(group, Message::SnapshotSent { group, to_peer, index, delivered: sent.is_ok() });
        });
    }
}
