//! Compiles the `.proto` files with protox: no protoc on the machine.
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "metapb",
        "deadlock",
        "errorpb",
        "kvrpcpb",
        "pdpb",
        "tikvpb",
        "meta_storagepb",
        "keyspacepb",
        "etcdserverpb",
        "health",
        "armilla_raft",
        "armilla_pd",
    ]
    .map(|name| format!("proto/{name}.proto"));
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(&files, ["proto"])?;
    tonic_prost_build::configure()
        .build_transport(false)
        .bytes(".")
        .btree_map(".")
        // What repeats in a message must be small in memory: two bytes on the wire make one of each.
        .boxed(".kvrpcpb.KvPair.error")
        .boxed(".tikvpb.BatchCommandsRequest.Request.cmd")
        .compile_fds(descriptors)?;
    Ok(())
}
