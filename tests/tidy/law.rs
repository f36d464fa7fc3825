//! The law: who may import whom, what is pure, what is forbidden and where, how long a file may be.

/// Who may import whom: a room names only these. What is not listed may import nothing.
pub const IMPORTS: &[(&str, &[&str])] = &[
    ("rt", &[]),
    ("types", &["proto"]),
    ("codec", &["types", "arch"]),
    ("engine", &["types"]),
    ("mvcc", &["types", "codec", "engine"]),
    // The state machine behind a group writes to a `WriteBatch`: src/docs/state-machine-imports-engine.md.
    ("raft", &["types", "proto", "engine"]),
    ("region", &["types", "codec", "engine", "raft", "proto"]),
    // JSON queries, which the store and whoever asks it share: src/docs/queries-at-the-data.md.
    ("query", &["types", "arch"]),
    ("client", &["rt", "types", "proto", "codec"]),
    ("replica", &["rt", "types", "proto", "engine", "raft", "arch"]),
    ("store", &["rt", "types", "proto", "codec", "engine", "region", "raft", "replica", "client"]),
    ("pd", &["rt", "types", "proto", "raft", "engine", "replica", "arch"]),
    ("service", &["rt", "types", "proto", "codec", "store", "replica", "pd", "engine", "arch", "query"]),
    (
        "node",
        &[
            "arch", "client", "codec", "engine", "pd", "proto", "raft", "region", "replica", "rt", "service", "store",
            "types",
        ],
    ),
    ("docs", &[]),
];

/// Words of `rt` that every room may use: plain data and hooks, no effect. Time comes in as an `Instant`, randomness as a
/// `&mut Rng`; probes and planted bugs do nothing in the real world.
pub const RT_WORDS: &[&str] = &["rt::clock::Instant", "rt::rng", "rt::probe", "rt::mutant", "rt::buggify", "rt::reach"];

/// Rooms (or files) without `async`, clock, randomness, files, sockets or threads.
pub const PURE: &[&str] = &[
    "src/types/",
    "src/codec/",
    "src/mvcc/",
    "src/raft/",
    "src/region/",
    "src/query/",
    "src/pd/",
    "src/client/backoff",
    "src/client/region_cache",
    "src/node/config",
];

/// The IO files of rooms whose rest is pure.
pub const IO_FILES: &[&str] = &["src/pd/server/"];

/// What only `rt` may name, and what to use instead.
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

/// Lines that may break [`FORBIDDEN`]: (file, word, why).
pub const ALLOWED: &[(&str, &str, &str)] =
    &[("src/engine/rocks/stage.rs", "std::fs", "files beside RocksDB's own, which the simulator does not have either")];

/// Code lines at which a file is listed, and at which it fails.
pub const LINES_LISTED: usize = 500;

pub const LINES_MAX: usize = 800;

/// Files that may be longer: (file, why).
pub const LONG: &[(&str, &str)] = &[];

/// Circles of files that may be: all of their files lie in the folder, or are the one named; and why.
pub const CIRCLES: &[(&str, &str)] = &[];
