//! The rules' tables: imports, purity, forbidden names and their exceptions, and the length of files.

/// The modules that each module may import. A module that is not listed may import nothing.
pub const IMPORTS: &[(&str, &[&str])] = &[
    ("rt", &[]),
    ("types", &["proto"]),
    ("codec", &["types", "arch"]),
    ("engine", &["types"]),
    ("mvcc", &["types", "codec", "engine"]),
    // The state machine behind a group writes to a `WriteBatch`: src/docs/state-machine-imports-engine.md.
    ("raft", &["types", "proto", "engine"]),
    ("region", &["types", "codec", "engine", "raft", "proto"]),
    // JSON queries, shared by the store and its clients: src/docs/queries-at-the-data.md.
    ("query", &["types", "arch"]),
    ("client", &["rt", "types", "proto", "codec"]),
    ("replica", &["rt", "types", "proto", "engine", "raft", "arch"]),
    ("store", &["rt", "types", "proto", "codec", "engine", "region", "raft", "replica", "client"]),
    ("pd", &["rt", "types", "proto", "codec", "raft", "region", "engine", "replica", "arch"]),
    ("txn", &["rt", "types", "proto", "codec", "engine", "mvcc", "store", "arch"]),
    ("service", &["rt", "types", "proto", "codec", "store", "txn", "replica", "pd", "engine", "arch", "query"]),
    (
        "node",
        &[
            "arch", "client", "codec", "engine", "pd", "proto", "raft", "region", "replica", "rt", "service", "store",
            "txn", "types",
        ],
    ),
    ("docs", &[]),
];

/// Names of `rt` that every module may use: plain data and hooks without effects. Time is passed in as an `Instant`,
/// randomness as `&mut Rng`; probes and planted bugs do nothing in the real world.
pub const RT_WORDS: &[&str] = &["rt::clock::Instant", "rt::rng", "rt::probe", "rt::mutant", "rt::buggify", "rt::reach"];

/// Modules (or files) without `async`, clock, randomness, files, sockets or threads.
pub const PURE: &[&str] = &[
    "src/types/",
    "src/codec/",
    "src/mvcc/",
    "src/raft/",
    "src/region/",
    "src/query/",
    "src/txn/action/",
    "src/pd/",
    "src/client/backoff",
    "src/client/region_cache",
    "src/node/config",
];

/// The IO files of modules that are otherwise pure.
pub const IO_FILES: &[&str] = &["src/pd/server/"];

/// Names that only `rt` may use, and the replacements.
pub const FORBIDDEN: &[(&str, &str)] = &[
    ("tokio::spawn", "rt::task::spawn"),
    ("tokio::task", "rt::task"),
    ("tokio::time", "rt::clock::Clock"),
    ("tokio::net", "rt::net"),
    ("tokio::fs", "rt::disk"),
    ("tokio::io", "rt::net or rt::disk"),
    ("tokio::runtime", "rt::lane"),
    ("tokio::select", "rt_select!, which is biased"),
    ("tokio::signal", "the binary's main"),
    ("std::fs", "rt::disk"),
    ("std::net::Tcp", "rt::net"),
    ("std::net::Udp", "rt::net"),
    ("std::thread", "rt::lane or rt::cpu"),
    ("Instant::now", "rt::clock::Clock::now"),
    ("std::time::Instant", "rt::clock::Instant"),
    ("SystemTime", "rt::clock::Clock"),
    ("thread_rng", "rt::rng::Rng"),
    ("rand::", "rt::rng::Rng"),
    ("HashMap", "BTreeMap, or a map with a fixed hasher that is never iterated"),
    ("HashSet", "BTreeSet"),
    ("RandomState", "a fixed hasher"),
];

/// Lines that may break [`FORBIDDEN`]: (file, name, reason).
pub const ALLOWED: &[(&str, &str, &str)] = &[
    ("src/engine/rocks/stage.rs", "std::fs", "files beside RocksDB's own, which the simulator does not have either"),
    ("src/engine/rocks/reclaim.rs", "std::thread", "a thread beside RocksDB's own, which the simulator does not have"),
];

/// The numbers of code lines at which a file is listed, and at which it fails.
pub const LINES_LISTED: usize = 500;

pub const LINES_MAX: usize = 800;

/// Files that may be longer: (file, reason).
pub const LONG: &[(&str, &str)] = &[];

/// Cycles of files that are allowed: (path, reason). All files of the cycle are in this folder, or are this one file.
pub const CIRCLES: &[(&str, &str)] = &[];

/// Functions that may be longer: (file, function, reason).
pub const LONG_FUNCTIONS: &[(&str, &str, &str)] = &[
    ("benches/versus/main.rs", "main", "one paragraph for each row of the table that it prints"),
    (
        "tests/cluster.rs",
        "random_nodes_die_under_load_and_nothing_acknowledged_is_lost",
        "a scenario, in order of time",
    ),
    ("tests/compat.rs", "every_raw_call", "one paragraph for each call of the client"),
    (
        "tests/refusals.rs",
        "bad_requests_get_the_protocols_error_and_leave_the_connection_usable",
        "one paragraph for each bad request",
    ),
];

/// Maxima outside `src/types/limits.rs`: (file, constant, what it is instead of a limit on what the store takes).
pub const OTHER_MAXIMA: &[(&str, &str, &str)] = &[
    ("src/bin/armilla/ctl/show.rs", "CELL_CHARS_MAX", "the width of a printed column"),
    ("src/client/pd/members.rs", "PAUSE_MAX", "the client's waiting time between two attempts"),
    ("src/client/pd/mod.rs", "WAIT_MAX", "the client's waiting time between two attempts"),
    ("src/codec/raw.rs", "TAIL_BYTES_MAX", "the format of stored values"),
    ("src/engine/sim.rs", "UNFLUSHED_BYTES_MAX", "when the simulated engine flushes by itself"),
    ("src/node/config.rs", "KIB_MAX", "the bound of an option"),
    ("src/node/config.rs", "MIB_MAX", "the bound of an option"),
    ("src/node/config.rs", "MS_MAX", "the bound of an option"),
    ("src/node/joining.rs", "REGISTER_RETRY_MAX", "the waiting time between two attempts"),
    ("src/pd/cluster.rs", "ORDER_SENT_MAX", "how often an order is repeated"),
    ("src/pd/tso.rs", "PHYSICAL_MS_MAX", "the format of timestamps"),
    ("src/query/chunk.rs", "FIELDS_MAX", "a limit under another name"),
    ("src/query/page.rs", "ROWS_BYTES_MAX", "derived from a limit"),
    ("src/raft/transfer.rs", "LAG_ENTRIES_MAX", "when a peer is close enough to lead"),
    ("src/rt/real/net.rs", "CONNECTIONS_MAX", "`rt` imports no other module"),
    ("src/rt/real/net.rs", "HTTP_BODIES_MAX", "`rt` imports no other module"),
    ("src/rt/real/net.rs", "HTTP_BODY_BYTES_MAX", "`rt` imports no other module"),
    ("src/rt/sim/disk/mod.rs", "COUNTED_BYTES_MAX", "a simulated disk"),
    ("src/rt/sim/net/mod.rs", "RECORDS_MAX", "a simulated network"),
    ("src/service/layer/deadline.rs", "DIGITS_MAX", "the format of a gRPC header"),
    ("src/store/space.rs", "HAND_OVER_MAX", "how long handing leaders over may take"),
];
