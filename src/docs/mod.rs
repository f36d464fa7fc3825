//! # Decision records
//!
//! Each record explains a decision that a reader may question, on at most a page: the situation, the choice, the
//! measurements, and what would change our mind. A record is not rewritten when the choice changes; a new one says so.

#[doc = include_str!("follower-reads.md")]
pub mod follower_reads {}

#[doc = include_str!("keyspaces.md")]
pub mod keyspaces {}

#[doc = include_str!("load.md")]
pub mod load {}

#[doc = include_str!("members.md")]
pub mod members {}
#[doc = include_str!("merges.md")]
pub mod merges {}

#[doc = include_str!("own-raft-log.md")]
pub mod own_raft_log {}

#[doc = include_str!("one-build-profile.md")]
pub mod one_build_profile {}

#[doc = include_str!("code-compiled-once.md")]
pub mod code_compiled_once {}

#[doc = include_str!("state-machine-imports-engine.md")]
pub mod state_machine_imports_engine {}

#[doc = include_str!("founding-handshake.md")]
pub mod founding_handshake {}

#[doc = include_str!("swap-decided-at-apply.md")]
pub mod swap_decided_at_apply {}

#[doc = include_str!("raw-and-transactions-side-by-side.md")]
pub mod raw_and_transactions_side_by_side {}

#[doc = include_str!("leases-and-promises.md")]
pub mod leases_and_promises {}

#[doc = include_str!("queries-at-the-data.md")]
pub mod queries_at_the_data {}

#[doc = include_str!("expiry-collected-by-command.md")]
pub mod expiry_collected_by_command {}

#[doc = include_str!("kernels-and-tiers.md")]
pub mod kernels_and_tiers {}

#[doc = include_str!("aarch64-by-emulation.md")]
pub mod aarch64_by_emulation {}

#[doc = include_str!("effects-inside-long-work.md")]
pub mod effects_inside_long_work {}

#[doc = include_str!("rocksdb-ends-an-atomic-flush-early.md")]
pub mod rocksdb_ends_an_atomic_flush_early {}

#[doc = include_str!("leaders-handed-over.md")]
pub mod leaders_handed_over {}

#[doc = include_str!("formats-of-replication.md")]
pub mod formats_of_replication {}

#[doc = include_str!("the-engine-may-wait.md")]
pub mod the_engine_may_wait {}

#[doc = include_str!("lanes-and-the-logs-writer.md")]
pub mod lanes_and_the_logs_writer {}

#[doc = include_str!("requests-in-line.md")]
pub mod requests_in_line {}

#[doc = include_str!("an-older-log-is-known-by-its-start.md")]
pub mod an_older_log_is_known_by_its_start {}

#[doc = include_str!("heartbeats-in-numbers.md")]
pub mod heartbeats_in_numbers {}

#[doc = include_str!("splits.md")]
pub mod splits {}

#[doc = include_str!("large-values-in-blob-files.md")]
pub mod large_values_in_blob_files {}

#[doc = include_str!("sleeping-regions.md")]
pub mod sleeping_regions {}

#[doc = include_str!("old-versions.md")]
pub mod old_versions {}

#[doc = include_str!("transactions.md")]
pub mod transactions {}

#[doc = include_str!("stale-reads.md")]
pub mod stale_reads {}
