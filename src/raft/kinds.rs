//! Kinds of raft's messages: which of them peers send each other, and how long ones are cut.

use ::raft::eraftpb::{Message, MessageType};

use super::frame;

pub(super) fn is_vote_request(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgRequestVote | MessageType::MsgRequestPreVote)
}

/// Returns whether an append's entries directly follow the index that it names. raft-rs (0.7, `batch_append`) adds
/// entries to an append of the same round that has none yet, without comparing indexes: after a rejection in between,
/// they may begin before the append's index, and the follower would treat them as a conflict with committed entries.
/// Such a message is dropped, as a network may do.
pub(super) fn continuous(message: &Message) -> bool {
    message.get_msg_type() != MessageType::MsgAppend
        || message.entries.first().is_none_or(|entry| entry.index == message.index + 1)
}

/// Splits an append into messages of at most `bytes_max` bytes of entries (plus one entry): raft-rs puts all entries
/// proposed in one round into one message.
pub(super) fn split(mut message: Message, bytes_max: u64) -> Vec<Message> {
    let bytes: u64 = message.entries.iter().map(|entry| frame::bytes(entry) as u64).sum();
    if message.get_msg_type() != MessageType::MsgAppend || bytes <= bytes_max || crate::mutant!("raft.append-not-cut") {
        return vec![message];
    }
    let entries = message.take_entries();
    let (mut parts, mut part, mut size) = (Vec::new(), message.clone(), 0);
    for entry in entries {
        if size >= bytes_max {
            let last = (entry.index - 1, part.entries.last().map_or(part.log_term, |last| last.term));
            let mut next = message.clone();
            (next.index, next.log_term) = last;
            parts.push(std::mem::replace(&mut part, next));
            size = 0;
        }
        size += frame::bytes(&entry) as u64;
        part.mut_entries().push(entry);
    }
    parts.push(part);
    parts
}

/// Returns whether peers send messages of this kind to each other. raft-rs accepts more kinds (orders to itself,
/// forwarded proposals and reads), which would do harm from outside: a transfer that never gave up its lease, or the
/// answer to a read that was never requested.
pub(super) fn is_between_peers(kind: MessageType) -> bool {
    is_vote_request(kind)
        || is_from_leader(kind)
        || matches!(
            kind,
            MessageType::MsgAppendResponse
                | MessageType::MsgHeartbeatResponse
                | MessageType::MsgRequestVoteResponse
                | MessageType::MsgRequestPreVoteResponse
                | MessageType::MsgTimeoutNow
        )
}

pub(super) fn is_from_leader(kind: MessageType) -> bool {
    matches!(kind, MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot)
}
