//! The table of all calls that a node answers.
//!
//! ```text
//!   tikv_calls! --> Method      names in metrics and logs
//!               --> Call        what the layers around a handler know about a request
//!               --> Reply       where a reply carries an error                   (its forms: error.rs)
//!               --> Tikv        the unary methods of tonic's trait               (tikv.rs)
//!               --> commands    the cases of a BatchCommands stream              (tikv.rs)
//!               --> refusals    replies to requests that were refused on arrival (used by intake)
//! ```
//!
//! To add a unary call of TiKV's protocol:
//!
//! 1. Copy its `rpc`, its messages and its case of `BatchCommands` into `proto/proto/`.
//! 2. Add a row to `tikv_calls!`, and remove its name from `UNBUILT`.
//! 3. Add its keys to the list in [`super::keys`].
//! 4. Write `impl<K: Kv> Handler<XRequest> for RawService<K>` in a file of `raw/`. A handler receives requests of this
//!    cluster and of the API version that it serves; an error that it returns becomes a reply in [`super::error`].
//!
//! Everything else follows, and the tests below cover the call. Two additions may be necessary. A reply that carries
//! its error in a place of its own needs a form of its own in `error::reply!`. Another kind of handlers (transactions)
//! is a new section of the table and a field of [`TikvService`](super::tikv::TikvService) with the same name.
//!
//! Calls of the other services have little more than their names in common: see `methods!` below.

use std::future::Future;

use bytes::Bytes;
use prost::Message as _;

use crate::proto::kvrpcpb::{self, Context};
use crate::proto::tikvpb::batch_commands_response::response::Cmd;
use crate::types::Result;

use super::error::{Repeat, Reply, reply};
use super::intake::refusal::Refusal;
use super::keys::Keyed;
use super::layer::quota::counts;

/// Calls `$with!` with the unary calls of `tikvpb.Tikv`, grouped by the field of `TikvService` that handles them. A row
/// has:
///
/// | column | meaning |
/// |---|---|
/// | `RawGet: raw_get(RawGetRequest) -> RawGetResponse` | the method, tonic's function, the messages in `kvrpcpb` |
/// | `[13 RawGet]` | its number and its case in a `BatchCommands` stream; `[]`: it does not occur in streams |
/// | `Read` | the effect of repeating it ([`Repeat`]); a `Read` ends when its `max_execution_duration_ms` is over |
/// | `(key)`, `(keys[])`, `(pairs[].key)`, `()` | the key that logs show, the first if there are many, or none |
/// | `text`, `write`, `key`, `keys`, `message`, `(pairs in kvs)` | where its reply carries an error (`error::reply!`) |
/// | `small`, `large`, `(value)` | whether its reply is charged to the response quota (a field: if it is large) |
macro_rules! tikv_calls {
    ($with:ident) => {
        $with! { raw {
            RawGet: raw_get(RawGetRequest) -> RawGetResponse,
                [13 RawGet] Read (key) text (value);
            RawBatchGet: raw_batch_get(RawBatchGetRequest) -> RawBatchGetResponse,
                [14 RawBatchGet] Read (keys[]) (pairs in pairs) large;
            RawGetKeyTTL: raw_get_key_ttl(RawGetKeyTtlRequest) -> RawGetKeyTtlResponse,
                [] Read (key) text small;
            RawPut: raw_put(RawPutRequest) -> RawPutResponse,
                [15 RawPut] Same (key) write small;
            RawBatchPut: raw_batch_put(RawBatchPutRequest) -> RawBatchPutResponse,
                [16 RawBatchPut] Same (pairs[].key) write small;
            RawDelete: raw_delete(RawDeleteRequest) -> RawDeleteResponse,
                [17 RawDelete] Same (key) write small;
            RawBatchDelete: raw_batch_delete(RawBatchDeleteRequest) -> RawBatchDeleteResponse,
                [18 RawBatchDelete] Same (keys[]) write small;
            RawDeleteRange: raw_delete_range(RawDeleteRangeRequest) -> RawDeleteRangeResponse,
                [20 RawDeleteRange] Same (start_key) write small;
            RawScan: raw_scan(RawScanRequest) -> RawScanResponse,
                [19 RawScan] Read (start_key) (pairs in kvs) large;
            RawBatchScan: raw_batch_scan(RawBatchScanRequest) -> RawBatchScanResponse,
                [21 RawBatchScan] Read (ranges[].start_key) (pairs in kvs) large;
            RawCompareAndSwap: raw_compare_and_swap(RawCasRequest) -> RawCasResponse,
                [] Differs (key) write (previous_value);
            RawChecksum: raw_checksum(RawChecksumRequest) -> RawChecksumResponse,
                [] Read (ranges[].start_key) text small;
            RawCoprocessor: raw_coprocessor(RawCoprocessorRequest) -> RawCoprocessorResponse,
                [34 RawCoprocessor] Read (ranges[].start_key) text large;
            SplitRegion: split_region(SplitRegionRequest) -> SplitRegionResponse,
                [] Same (split_keys[]) message small;
        }
        txn {
            KvGet: kv_get(GetRequest) -> GetResponse,
                [1 Get] Read (key) key (value);
            KvScan: kv_scan(ScanRequest) -> ScanResponse,
                [2 Scan] Read (start_key) (pairs in pairs and error) large;
            KvPrewrite: kv_prewrite(PrewriteRequest) -> PrewriteResponse,
                [3 Prewrite] Found (mutations[].key) keys small;
            KvCommit: kv_commit(CommitRequest) -> CommitResponse,
                [4 Commit] Found (keys[]) key small;
            KvCleanup: kv_cleanup(CleanupRequest) -> CleanupResponse,
                [6 Cleanup] Found (key) key small;
            KvBatchGet: kv_batch_get(BatchGetRequest) -> BatchGetResponse,
                [7 BatchGet] Read (keys[]) (pairs in pairs and error) large;
            KvBatchRollback: kv_batch_rollback(BatchRollbackRequest) -> BatchRollbackResponse,
                [8 BatchRollback] Found (keys[]) key small;
            KvScanLock: kv_scan_lock(ScanLockRequest) -> ScanLockResponse,
                [9 ScanLock] Read (start_key) key large;
            KvResolveLock: kv_resolve_lock(ResolveLockRequest) -> ResolveLockResponse,
                [10 ResolveLock] Found (keys[]) key small;
            KvPessimisticLock: kv_pessimistic_lock(PessimisticLockRequest) -> PessimisticLockResponse,
                [23 PessimisticLock] Found (mutations[].key) keys large;
            KVPessimisticRollback: kv_pessimistic_rollback(PessimisticRollbackRequest) -> PessimisticRollbackResponse,
                [24 PessimisticRollback] Found (keys[]) keys small;
            KvCheckTxnStatus: kv_check_txn_status(CheckTxnStatusRequest) -> CheckTxnStatusResponse,
                [25 CheckTxnStatus] Found (primary_key) key small;
            KvTxnHeartBeat: kv_txn_heart_beat(TxnHeartBeatRequest) -> TxnHeartBeatResponse,
                [26 TxnHeartBeat] Found (primary_lock) key small;
            KvCheckSecondaryLocks: kv_check_secondary_locks(CheckSecondaryLocksRequest) -> CheckSecondaryLocksResponse,
                [33 CheckSecondaryLocks] Found (keys[]) key small;
            KvFlush: kv_flush(FlushRequest) -> FlushResponse,
                [37 Flush] Found (mutations[].key) keys small;
            KvBufferBatchGet: kv_buffer_batch_get(BufferBatchGetRequest) -> BufferBatchGetResponse,
                [38 BufferBatchGet] Read (keys[]) key large;
            KvDeleteRange: kv_delete_range(DeleteRangeRequest) -> DeleteRangeResponse,
                [12 DeleteRange] Same (start_key) text small;
            UnsafeDestroyRange: unsafe_destroy_range(UnsafeDestroyRangeRequest) -> UnsafeDestroyRangeResponse,
                [] Same (start_key) text small;
            MvccGetByKey: mvcc_get_by_key(MvccGetByKeyRequest) -> MvccGetByKeyResponse,
                [] Read (key) text large;
            MvccGetByStartTs: mvcc_get_by_start_ts(MvccGetByStartTsRequest) -> MvccGetByStartTsResponse,
                [] Read () text large;
        } }
    };
}
pub(super) use tikv_calls;

/// Calls of `tikvpb.Tikv` that are not implemented, and what a client that needs one should do.
pub(super) const UNBUILT: &[(&str, Instead)] = {
    use Instead::{Protocol, Transactions};
    &[
        ("KvImport", Transactions),
        ("KvGC", Transactions),
        ("KvPrepareFlashbackToVersion", Transactions),
        ("KvFlashbackToVersion", Transactions),
        ("Coprocessor", Transactions),
        ("CoprocessorStream", Transactions),
        ("BatchCoprocessor", Protocol),
        ("RegisterLockObserver", Protocol),
        ("CheckLockObserver", Protocol),
        ("RemoveLockObserver", Protocol),
        ("PhysicalScanLock", Protocol),
        ("ReadIndex", Protocol),
        ("CheckLeader", Protocol),
        ("GetLockWaitInfo", Protocol),
        ("GetLockWaitHistory", Protocol),
        ("Compact", Protocol),
        ("Raft", Protocol),
        ("BatchRaft", Protocol),
        ("Snapshot", Protocol),
        ("TabletSnapshot", Protocol),
    ]
};

/// What the client of a call that is not implemented should do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Instead {
    /// Do without the call, as clients of transactions can.
    Transactions,
    /// Do without the call; docs/protocol.md says more.
    Protocol,
}

/// A request of the key-value service, as the layers around its handler know it. The table implements this.
pub(super) trait Call: Keyed + Send + Sized + 'static {
    /// The reply to the request.
    type Reply: Reply;
    /// The method of the request.
    const METHOD: Method;
    /// The effect of repeating the request.
    const REPEAT: Repeat;

    /// Takes the context out of the request; the default if there is none. The handler receives it separately.
    fn take_context(&mut self) -> Context;
    /// Returns the request's key, or the first of its keys; may be empty.
    fn key(&self) -> Bytes;
    /// Returns whether `reply` is charged to the response quota.
    fn is_large(reply: &Self::Reply) -> bool;
}

/// The handler of one call of the key-value service.
pub(super) trait Handler<C: Call>: Sync {
    /// Carries out a request. The cluster and the API version of `context` are already checked, and the request's raw
    /// keys are in stored form; the store checks the rest.
    fn handle(&self, context: &Context, request: C) -> impl Future<Output = Result<C::Reply>> + Send;
}

macro_rules! enumerate {
    ($($name:ident,)+) => {
        /// A method that is counted in metrics.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs)] // named as in the protocol
        pub enum Method { $($name),+ }

        impl Method {
            /// All methods.
            pub const ALL: &'static [Method] = &[$(Method::$name),+];
            /// Returns the name of the method in the protocol.
            pub fn name(self) -> &'static str {
                match self { $(Method::$name => stringify!($name)),+ }
            }
        }
    };
}

/// Defines [`Method`]: the calls of the table and those of the other services.
macro_rules! methods {
    ($($service:ident { $($name:ident: $function:ident($Request:ident) -> $Reply:ident,
        [$($number:literal $cmd:ident)?] $repeat:ident $key:tt $failure:tt $large:tt;)+ })+) => {
        enumerate! {
            $($($name,)+)+
            // pdpb.PD
            GetMembers, Tso, GetRegion, GetPrevRegion, GetRegionByID, ScanRegions, GetStore, GetAllStores,
            UpdateGCSafePoint, GetGCSafePoint, QueryRegion, BatchScanRegions, GetGCState, ScatterRegion, GetOperator,
            SplitRegions, SplitAndScatterRegions, GetAllKeyspacesGCStates, UpdateServiceGCSafePoint,
            AdvanceTxnSafePoint, AdvanceGCSafePoint, SetGCBarrier, DeleteGCBarrier, SetGlobalGCBarrier,
            DeleteGlobalGCBarrier,
            // keyspacepb.Keyspace
            LoadKeyspace, LoadKeyspaceByID, LookupKeyspace, UpdateKeyspaceState, GetAllKeyspaces,
            // meta_storagepb.MetaStorage and etcd
            MetaStorageGet, EtcdRange, EtcdPut, EtcdMemberList,
            // armilla.pd.Cluster
            RegisterStore, StoreHeartbeat, Overview, TransferLeader, MovePeer, MergeRegions, RemoveStore, TakeStoreBack,
            AllocIds, ChangeSettings, ReplaceStore, ChangeRegions, ReportWaits, ChangeKeyspace, ListKeyspaces,
            PdHttp,
        }
    };
}
tikv_calls!(methods);

macro_rules! sections {
    ($($service:ident { $($name:ident: $function:ident($Request:ident) -> $Reply:ident,
        [$($number:literal $cmd:ident)?] $repeat:ident $key:tt $failure:tt $large:tt;)+ })+) => {
        impl Method {
            /// Returns whether the method is in the section `txn` of the table.
            pub(super) fn is_transactional(self) -> bool {
                match self {
                    $($(Method::$name => matches!(stringify!($service).as_bytes(), b"txn"),)+)+
                    _ => false,
                }
            }
        }
    };
}
tikv_calls!(sections);

macro_rules! first_key {
    ($request:ident ($list:ident[])) => {
        $request.$list.first().cloned().unwrap_or_default()
    };
    ($request:ident ($list:ident[].$key:ident)) => {
        $request.$list.first().map_or_else(Bytes::new, |item| item.$key.clone())
    };
    ($request:ident ($key:ident)) => {
        $request.$key.clone()
    };
    ($request:ident ()) => {
        Bytes::new()
    };
}

macro_rules! is_large {
    ($reply:ident small) => {
        false
    };
    ($reply:ident large) => {
        true
    };
    ($reply:ident ($field:ident)) => {
        counts($reply.$field.len())
    };
}

macro_rules! calls {
    ($($service:ident { $($name:ident: $function:ident($Request:ident) -> $Reply:ident,
        [$($number:literal $cmd:ident)?] $repeat:ident $key:tt $failure:tt $large:tt;)+ })+) => {
        $($(
            impl Call for kvrpcpb::$Request {
                type Reply = kvrpcpb::$Reply;
                const METHOD: Method = Method::$name;
                const REPEAT: Repeat = Repeat::$repeat;

                fn take_context(&mut self) -> Context {
                    self.context.take().unwrap_or_default()
                }
                fn key(&self) -> Bytes {
                    first_key!(self $key)
                }
                #[allow(unused_variables, reason = "for most replies the content does not matter")]
                fn is_large(reply: &Self::Reply) -> bool {
                    is_large!(reply $large)
                }
            }
            reply!(kvrpcpb::$Reply, $failure);
        )+)+
    };
}
tikv_calls!(calls);

macro_rules! refusals {
    ($($service:ident { $($name:ident: $function:ident($Request:ident) -> $Reply:ident,
        [$($number:literal $cmd:ident)?] $repeat:ident $key:tt $failure:tt $large:tt;)+ })+) => {
        /// Returns the encoded reply of `method` that reports `refusal`; `None` if no reply of the method can.
        pub(super) fn refused(method: &str, refusal: Refusal) -> Option<Vec<u8>> {
            match method {
                $($(stringify!($name) => {
                    Some(refusal.reply::<kvrpcpb::$Reply>(Repeat::$repeat).encode_to_vec())
                })+)+
                _ => None,
            }
        }

        /// Returns the response to the command with this number in a stream that reports `refusal`; `None` if the
        /// command is unknown.
        pub(super) fn refused_command(number: u32, refusal: Refusal) -> Option<Cmd> {
            match number {
                $($($($number => Some(Cmd::$cmd(refusal.reply::<kvrpcpb::$Reply>(Repeat::$repeat))),)?)+)+
                _ => None,
            }
        }
    };
}
tikv_calls!(refusals);

#[cfg(test)]
mod tests {
    //! Goal: every call of the protocol is in the table and works, and no other call is. Method: the table against the
    //! `.proto` files, and every row through the whole of tonic, as a unary call and in a stream.

    use std::collections::{BTreeMap, BTreeSet};
    use std::sync::Arc;

    use futures::{FutureExt, StreamExt, stream};
    use prometheus::Registry;
    use tonic::service::Routes;

    use super::*;
    use crate::proto::kvrpcpb::ApiVersion;
    use crate::proto::tikvpb::batch_commands_request::{self, request::Cmd as Command};
    use crate::proto::tikvpb::tikv_client::TikvClient;
    use crate::proto::tikvpb::tikv_server::Tikv;
    use crate::proto::tikvpb::{BatchCommandsRequest, NotTaken, batch_commands_response::response::Cmd as Answer};
    use crate::rt::clock::Instant;
    use crate::rt::sync::watch;
    use crate::service::health::HealthService;
    use crate::service::layer::deadline::Deadlines;
    use crate::service::layer::metrics::Metrics;
    use crate::service::layer::observe::Observer;
    use crate::service::layer::quota::MemoryQuota;
    use crate::service::layer::redact::Redact;
    use crate::service::layer::slots::Queries;
    use crate::service::one_region::{OneRegion, REGION, with_large_stack};
    use crate::service::raw::RawService;
    use crate::service::routes::{Gates, routes};
    use crate::service::tikv::TikvService;

    const TIKV: &str = include_str!("../../proto/proto/tikvpb.proto");
    const PD: &str = include_str!("../../proto/proto/pdpb.proto");
    const KEYSPACES: &str = include_str!("../../proto/proto/keyspacepb.proto");
    const CLUSTER: &str = include_str!("../../proto/proto/armilla_pd.proto");

    /// The largest future of a call. Most have half of this: several times the request and its context.
    const FUTURE_BYTES_MAX: usize = 10 << 10;

    /// Methods that are implemented without a row, by hand in `tikv.rs`: they are not about a region, and are not
    /// counted.
    const BY_HAND: &[&str] = &["GetStoreSafeTS", "GetHealthFeedback", "BroadcastTxnStatus", "BatchCommands"];

    /// Returns the names that follow `rpc ` in a `.proto` file.
    fn rpcs(proto: &str) -> BTreeSet<&str> {
        let names = proto.lines().filter_map(|line| line.trim().strip_prefix("rpc ")?.split_once('('));
        names.map(|(name, _)| name.trim()).collect()
    }

    /// Returns the number and the message of every command that a stream may have, by the command's name.
    fn commands(message: &str) -> BTreeMap<String, (u32, String)> {
        let start = TIKV.find(&format!("message {message} {{")).expect("it is in the protocol");
        let fields = TIKV[start..].lines().skip_while(|line| !line.contains("oneof cmd")).skip(1);
        let fields = fields.take_while(|line| !line.contains('}')).filter_map(|line| {
            let (declared, number) = line.trim().strip_suffix(';')?.split_once(" = ")?;
            let (message, name) = declared.split_once(' ')?;
            Some((plain(name), (number.parse().expect("a number"), plain(message))))
        });
        fields.collect()
    }

    /// Returns a name without its package, and without the differences between naming conventions.
    fn plain(name: &str) -> String {
        name.rsplit('.').next().unwrap_or(name).replace('_', "").to_lowercase()
    }

    /// A row of the table.
    struct Row {
        method: &'static str,
        request: &'static str,
        reply: &'static str,
        command: Option<(u32, &'static str)>,
    }

    macro_rules! rows {
        ($($service:ident { $($name:ident: $function:ident($Request:ident) -> $Reply:ident,
            [$($number:literal $cmd:ident)?] $repeat:ident $key:tt $failure:tt $large:tt;)+ })+) => {
            const ROWS: &[Row] = &[$($(Row {
                method: stringify!($name),
                request: stringify!($Request),
                reply: stringify!($Reply),
                command: [$(Some(($number, stringify!($cmd))),)? None][0],
            },)+)+];

            /// Calls every method of the table as a unary call, and in a stream if it may occur there. Returns how
            /// often each was called.
            fn call_all(routes: &Routes) -> BTreeMap<&'static str, u64> {
                let mut called = BTreeMap::new();
                $($(
                    let request = kvrpcpb::$Request { context: context(), ..Default::default() };
                    let alone = now(TikvClient::new(routes.clone()).$function(request.clone()));
                    let alone: kvrpcpb::$Reply = alone.expect(stringify!($name)).into_inner();
                    assert!(alone.failure().is_some_and(|why| why.contains("API version 2")), stringify!($name));
                    called.insert(stringify!($name), 1);
                    $(
                        let command = Command::$cmd(request.into());
                        let Some(Answer::$cmd(streamed)) = in_stream(routes, command) else { panic!(stringify!($cmd)) };
                        assert_eq!(streamed, alone, "the reply is the same in a stream as to a unary call");
                        let note = NotTaken { command: $number, region_id: REGION, bytes: 1 << 30 };
                        let Some(Answer::$cmd(refused)) = in_stream(routes, Command::NotTaken(note.into())) else {
                            panic!(stringify!($cmd))
                        };
                        assert!(refused.failure().is_some(), stringify!($cmd));
                        called.insert(stringify!($name), 2);
                    )?
                    let refused = super::refused(stringify!($name), Refusal::Busy { region: REGION });
                    let refused = kvrpcpb::$Reply::decode(&refused.expect("it has a reply")[..]).expect("its own");
                    assert!(refused.region_error.is_some_and(|error| error.server_is_busy.is_some()), stringify!($name));
                )+)+
                called
            }

            /// Returns the bytes of each method's future.
            fn sizes(service: &TikvService<OneRegion>) -> BTreeMap<&'static str, usize> {
                BTreeMap::from([$($((
                    stringify!($name),
                    size_of_val(&*service.$function(tonic::Request::new(kvrpcpb::$Request::default()))),
                ),)+)+])
            }
        };
    }
    tikv_calls!(rows);

    fn now<T>(answer: impl Future<Output = T>) -> T {
        answer.now_or_never().expect("nothing waits")
    }

    /// Returns a context of an API version that is not served: every call is refused in the place that its reply has
    /// for that.
    fn context() -> Option<Context> {
        Some(Context { region_id: REGION, api_version: ApiVersion::V2 as i32, ..Context::default() })
    }

    fn in_stream(routes: &Routes, command: Command) -> Option<Answer> {
        let requests = vec![batch_commands_request::Request { cmd: Some(command) }];
        let request = BatchCommandsRequest { requests, request_ids: vec![7] };
        let answers =
            now(TikvClient::new(routes.clone()).batch_commands(stream::iter([request]))).unwrap().into_inner();
        let mut answers = now(answers.collect::<Vec<_>>());
        assert_eq!(answers.len(), 1);
        let answer = answers.remove(0).unwrap();
        assert_eq!(answer.request_ids, [7]);
        answer.responses.into_iter().next().and_then(|response| response.cmd)
    }

    #[test]
    fn every_method_of_the_protocol_is_built_once_or_not_at_all() {
        let built: Vec<&str> = ROWS.iter().map(|row| row.method).chain(BY_HAND.iter().copied()).collect();
        let unbuilt: Vec<&str> = UNBUILT.iter().map(|(name, _)| *name).collect();
        let all: BTreeSet<&str> = built.iter().chain(&unbuilt).copied().collect();
        assert_eq!(all.len(), built.len() + unbuilt.len(), "each method is named once");
        for method in rpcs(TIKV) {
            assert!(built.contains(&method), "{method} is in tikvpb.proto: add a row to the table and a handler");
        }
        for method in built {
            assert!(rpcs(TIKV).contains(method), "{method} is in the table, but tikvpb.proto has no such method");
        }
        let counted = |method: &str| Method::ALL.iter().any(|known| known.name() == method);
        assert!(ROWS.iter().all(|row| counted(row.method)));
        for method in rpcs(PD).into_iter().chain(rpcs(KEYSPACES)).chain(rpcs(CLUSTER)) {
            // These two report what is known at startup, to every caller.
            assert!(counted(method) || ["GetClusterInfo", "Hello"].contains(&method), "{method} is not counted");
        }
    }

    #[test]
    fn commands_have_the_protocols_numbers_and_messages() {
        let (requests, replies) = (commands("BatchCommandsRequest"), commands("BatchCommandsResponse"));
        for row in ROWS {
            let Some((number, case)) = row.command else { continue };
            assert_eq!(requests.get(&plain(case)), Some(&(number, plain(row.request))), "{case}");
            assert_eq!(replies.get(&plain(case)), Some(&(number, plain(row.reply))), "{case}");
        }
        let in_table = |name: &str| ROWS.iter().any(|row| row.command.is_some_and(|(_, case)| plain(case) == name));
        for name in requests.keys() {
            let by_hand = ["gethealthfeedback", "broadcasttxnstatus", "nottaken", "empty"].contains(&name.as_str());
            assert!(in_table(name) || by_hand, "the command {name} is in tikvpb.proto, but in no row of the table");
        }
    }

    /// A future is copied when it is made and wherever it is passed on by value: large ones once cost a fifth of all
    /// the CPU time of a transaction.
    #[test]
    fn the_future_of_a_call_is_small() {
        let kv = OneRegion::new("", "");
        let gauge = |name: &str| prometheus::IntGauge::new(name, "of a test").unwrap();
        let (answers, queries) = (MemoryQuota::new(gauge("answers")), Queries::new(gauge("queries")));
        let raw = RawService::new(kv.clone(), crate::types::Api::V1, answers, queries);
        let sizes = sizes(&TikvService::for_test(kv, 7, raw));
        let large: Vec<_> = sizes.iter().filter(|(_, bytes)| **bytes > FUTURE_BYTES_MAX).collect();
        assert!(large.is_empty(), "{large:?} bytes; pin or box what they wait for");
    }

    #[test]
    fn every_row_answers_alone_and_in_a_stream_and_is_counted() {
        with_large_stack(|| {
            let metrics = Metrics::new(&Registry::new()).unwrap();
            let observer = Observer::by(metrics.clone(), || Instant(1), Redact::Show);
            let (_, serving) = watch::channel(true);
            let never = |_| futures::future::pending().boxed();
            let deadlines = Deadlines::by(|| Instant(1), never, metrics.deadlines_exceeded.clone());
            let hello = Arc::new(|_| Default::default());
            let (routes, gates): (_, Gates<OneRegion>) =
                routes(hello, HealthService::new(serving), observer, &deadlines);
            let kv = OneRegion::new("", "");
            let txn = crate::txn::Txn::new(kv.clone(), crate::txn::Options { refuse_future_timestamps: false });
            gates.open_store(kv, txn, (7, crate::types::Api::V1));
            let called = call_all(&routes);
            assert_eq!(called.len(), ROWS.len());
            for (name, times) in called {
                let method = Method::ALL.iter().find(|method| method.name() == name).expect("the method is counted");
                assert_eq!(metrics.count(*method), times, "{name}");
            }
        });
    }
}
