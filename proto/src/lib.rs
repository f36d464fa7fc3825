//! The wire. Generated from `proto/proto/*.proto`: the part of TiKV's protocol that Armilla serves
//! (`metapb`, `errorpb`, `deadlock`, `kvrpcpb`, `pdpb`, `tikvpb`, `meta_storagepb`, `keyspacepb`), the part of etcd's
//! that its clients use (`etcdserverpb`), the standard gRPC health service, and Armilla's own packages.
//!
//! In come bytes, out go typed messages. No logic lives here, and a field number never changes its meaning. All unary
//! calls share one codec ([`unary`]).
#![allow(missing_docs, clippy::all, clippy::undocumented_unsafe_blocks)]

pub mod unary;

/// Keys, regions, stores and peers.
pub mod metapb {
    tonic::include_proto!("metapb");
}
/// Region errors.
pub mod errorpb {
    tonic::include_proto!("errorpb");
}
/// Who waits for whom, in a deadlock.
pub mod deadlock {
    tonic::include_proto!("deadlock");
}
/// Requests and replies of the key-value service.
pub mod kvrpcpb {
    tonic::include_proto!("kvrpcpb");
}
/// The placement driver's service.
pub mod pdpb {
    tonic::include_proto!("pdpb");
}
/// The key-value service.
pub mod tikvpb {
    tonic::include_proto!("tikvpb");
}
/// The keys that the placement driver keeps for others.
pub mod meta_storagepb {
    tonic::include_proto!("meta_storagepb");
}
/// Keyspaces, as the placement driver knows them.
pub mod keyspacepb {
    tonic::include_proto!("keyspacepb");
}
/// The part of etcd's service that clients use on the placement driver's port.
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}
/// gRPC health checking.
pub mod health {
    tonic::include_proto!("grpc.health.v1");
}
/// Armilla's own packages.
pub mod armilla {
    /// Node to node: raft messages, snapshots, replicated commands.
    pub mod raft {
        tonic::include_proto!("armilla.raft");
    }
    /// Nodes and the placement driver.
    pub mod pd {
        tonic::include_proto!("armilla.pd");
    }
}
