//! The options of RocksDB.

use std::path::PathBuf;
use std::time::Duration;

use librocksdb_sys as ffi;
use rocksdb::{AsRawPtr as _, BlockBasedOptions, Cache, DBCompressionType, DataBlockIndexType, Options};

use crate::engine::Cf;
use crate::types::limits::MEMTABLE_RANGE_DELETIONS_MAX;

/// Options of a [`RocksEngine`](super::RocksEngine): where and how it stores its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RocksOptions {
    /// The data directory. Only one engine at a time may use it.
    pub path: PathBuf,
    /// Bytes of memory for uncompressed blocks, indexes and filters.
    pub block_cache_bytes: usize,
    /// Bytes of memory for writes in all column families, above which RocksDB flushes on its own. Writes that are being
    /// flushed are not included: up to six times half of this value in one column family, if the disk is much slower
    /// than the writers.
    pub write_buffer_bytes: usize,
    /// Maximum number of open table files. 0 derives it from the process's file-descriptor limit, which also caps any
    /// other value.
    pub max_open_files: u32,
    /// Number of threads that flush (one) and compact (the others, at least one).
    pub background_jobs: u32,
    /// Bytes from which a value goes into a blob file, in the column families where large values do; 0: never.
    pub separate_from: u64,
    /// How long after ranges were deleted the files that hold them are compacted, which frees their blobs.
    pub reclaim_after: Duration,
    /// Whether to create the engine if it does not exist.
    pub create: bool,
}

impl Default for RocksOptions {
    /// Returns the options of a store of moderate size: 256 MiB of cache, 128 MiB of writes, two background threads,
    /// values of 32 KiB and more in blob files, in `armilla-data`.
    fn default() -> RocksOptions {
        RocksOptions {
            path: PathBuf::from("armilla-data"),
            block_cache_bytes: 256 << 20,
            write_buffer_bytes: 128 << 20,
            max_open_files: 0,
            background_jobs: 2,
            separate_from: SEPARATE_FROM,
            reclaim_after: Duration::from_secs(30),
            create: true,
        }
    }
}

/// Bytes of pairs in one block of a table file.
pub(super) const BLOCK_BYTES: usize = 8 << 10;
/// The default of [`RocksOptions::separate_from`].
const SEPARATE_FROM: u64 = 32 << 10;
/// Bytes of values after which a blob file is complete. A flush or compaction that ends earlier ends its file too.
const BLOB_FILE_BYTES: u64 = 256 << 20;
/// The oldest part of the blob files from which compaction moves the values that it meets.
const BLOB_AGE_CUTOFF: f64 = 0.25;
/// The part of garbage in that oldest part at which RocksDB compacts the tables that refer to it.
const BLOB_GARBAGE_FORCED: f64 = 0.5;

/// Fewer file descriptors are few.
const FEW_DESCRIPTORS: i32 = 256;

/// Returns how many table files may be open: the requested number, but at most three quarters of the process's limit of
/// file descriptors, or half of few, so that enough remain for sockets and the log. A lowered limit must cost speed,
/// never cause a crash.
fn open_files(asked: u32) -> i32 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable rlimit for the duration of the call.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    let descriptors = if known { limit.rlim_cur.min(1 << 20) as i32 } else { 1024 };
    // Flushes and compactions have files open that do not count: of few descriptors they need a larger part.
    let part = if descriptors < FEW_DESCRIPTORS { descriptors / 2 } else { descriptors / 4 * 3 };
    // RocksDB uses at least 20.
    let most = part.max(20);
    if asked == 0 { most } else { most.min(i32::try_from(asked).unwrap_or(most)) }
}

pub(super) fn db_options(options: &RocksOptions) -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    db.set_atomic_flush(true);
    db.set_paranoid_checks(true);
    db.set_db_write_buffer_size(options.write_buffer_bytes);
    let files = open_files(options.max_open_files);
    db.set_max_open_files(files);
    if files < FEW_DESCRIPTORS {
        // Each part of the cache of open files holds at least one: of 64 parts, far more than the limit says.
        db.set_table_cache_num_shard_bits(1);
    }
    let jobs = options.background_jobs.clamp(2, 64) as i32;
    db.set_max_background_jobs(jobs);
    #[allow(deprecated, reason = "the number of jobs alone makes a quarter of them flush")]
    {
        db.set_max_background_flushes(1);
        db.set_max_background_compactions(jobs - 1);
    }
    db.set_max_subcompactions((options.background_jobs / 2).clamp(1, 4));
    // Spread disk writes over time, so that syncing a large file does not stall the raft log's syncs.
    db.set_bytes_per_sync(1 << 20);
    db.set_avoid_unnecessary_blocking_io(true);
    db.set_max_manifest_file_size(64 << 20);
    // At most four text logs of 8 MiB, without the periodic dump of statistics (metrics contain those).
    db.set_keep_log_file_num(4);
    db.set_max_log_file_size(8 << 20);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db
}

pub(super) fn cf_options(options: &RocksOptions, cache: &Cache, of: Cf) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(BLOCK_BYTES);
    table.set_bloom_filter(10.0, false);
    table.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut cf = Options::default();
    cf.set_block_based_table_factory(&table);
    // Level 0 and the level below it are rewritten often and are small; the other levels hold nearly all of the data.
    use DBCompressionType::{Lz4, None};
    cf.set_compression_per_level(&[None, None, Lz4, Lz4, Lz4, Lz4, Lz4]);
    cf.set_level_compaction_dynamic_level_bytes(true);
    // Half of the total each: the total decides, except when one column family gets nearly all writes; it may then fill
    // one memtable while another is being flushed.
    cf.set_write_buffer_size((options.write_buffer_bytes / 2).max(64 << 10));
    cf.set_max_write_buffer_number(6);
    cf.set_target_file_size_base(32 << 20);
    cf.set_max_bytes_for_level_base(256 << 20);
    // Flushes are frequent (each lets the raft log shrink), so level 0 may hold more small files before writes are
    // slowed down.
    cf.set_level_zero_file_num_compaction_trigger(4);
    cf.set_level_zero_slowdown_writes_trigger(32);
    cf.set_level_zero_stop_writes_trigger(64);
    // A filter over the memtable makes lookups of missing keys cheap there too.
    cf.set_memtable_prefix_bloom_ratio(0.02);
    cf.set_memtable_whole_key_filtering(true);
    // Every range deletion in a memtable makes the next reader sort all of them again: flush before there are many.
    // SAFETY: the options are live, and the call sets one number in them.
    unsafe { ffi::rocksdb_options_set_memtable_max_range_deletions(cf.as_raw_ptr(), MEMTABLE_RANGE_DELETIONS_MAX) };
    if of.separates() {
        separate(&mut cf, options.separate_from, cache);
    }
    cf
}

/// Sets where large values go. With 0, those in blob files come back into the tables: whenever compaction meets one.
fn separate(cf: &mut Options, from: u64, cache: &Cache) {
    cf.set_enable_blob_files(from > 0);
    cf.set_min_blob_size(from);
    cf.set_blob_file_size(BLOB_FILE_BYTES);
    // As nearly all of the tables.
    cf.set_blob_compression_type(DBCompressionType::Lz4);
    cf.set_blob_cache(cache);
    cf.set_enable_blob_gc(true);
    cf.set_blob_gc_age_cutoff(if from > 0 { BLOB_AGE_CUTOFF } else { 1.0 });
    cf.set_blob_gc_force_threshold(BLOB_GARBAGE_FORCED);
}
