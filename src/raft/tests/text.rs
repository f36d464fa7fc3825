//! Messages, entries and records in the format of the scripts.

use ::raft::eraftpb::{Entry, EntryType, HardState, Message, MessageType};

/// Formats a range of indexes, both ends included.
pub fn span(first: u64, last: u64) -> String {
    if first == last { first.to_string() } else { format!("{first}..{last}") }
}

/// Formats an entry's index and payload.
pub fn entry(entry: &Entry) -> String {
    if entry.get_entry_type() != EntryType::EntryNormal {
        return format!("{} members", entry.index);
    }
    let data = match entry.data.len() {
        0 => "nothing".to_owned(),
        bytes if bytes > 20 => format!("{bytes} bytes"),
        _ => entry.data.escape_ascii().to_string(),
    };
    format!("{} {data}", entry.index)
}

fn entries(entries: &[Entry]) -> String {
    match (entries.first(), entries.last()) {
        (Some(first), Some(last)) => format!(" entries {}", span(first.index, last.index)),
        _ => String::new(),
    }
}

/// Formats the log record of one output; `None` if the output writes nothing.
pub fn record(hard_state: Option<&HardState>, appended: &[Entry]) -> Option<String> {
    let state = hard_state.map(|state| format!(" term {} vote {} commit {}", state.term, state.vote, state.commit));
    let record = state.unwrap_or_default() + &entries(appended);
    (!record.is_empty()).then(|| record[1..].to_owned())
}

/// Formats a message as an arrow.
pub fn message(message: &Message) -> String {
    use MessageType::*;
    let kind = message.get_msg_type();
    let Message { from, to, term, index, log_term, commit, .. } = *message;
    let mut out = format!("{from} -> {to} {kind:?} term {term}");
    out += &match kind {
        MsgRequestVote | MsgRequestPreVote => format!(" last {index}@{log_term}"),
        MsgRequestVoteResponse | MsgRequestPreVoteResponse if message.reject => " no".into(),
        MsgRequestVoteResponse | MsgRequestPreVoteResponse => " yes".into(),
        MsgAppend => format!(" index {index}@{log_term} commit {commit}{}", entries(&message.entries)),
        MsgAppendResponse if message.reject => format!(" rejects {index}, holds up to {}", message.reject_hint),
        MsgAppendResponse => format!(" index {index}"),
        MsgHeartbeat => format!(" commit {commit}"),
        MsgSnapshot => {
            let metadata = message.get_snapshot().get_metadata();
            format!(" snapshot {}@{}", metadata.index, metadata.term)
        }
        _ => String::new(),
    };
    if kind == MsgRequestVote && !message.context.is_empty() {
        out += " in a transfer";
    }
    // The last byte of a read's context is the number of its round.
    if matches!(kind, MsgHeartbeat | MsgHeartbeatResponse)
        && let Some(round) = message.context.last()
    {
        out += &format!(" read round {round}");
    }
    out
}
