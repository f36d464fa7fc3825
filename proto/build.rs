//! Compiles the `.proto` files with protox: no protoc on the machine.

/// Generates tonic's clients and servers, whose unary calls share one codec of bytes (`src/unary.rs`).
///
/// tonic's own code calls its transport with each method's types, and Rust compiles the whole of that transport again for
/// each of them.
struct Services(Box<dyn prost_build::ServiceGenerator>);

impl prost_build::ServiceGenerator for Services {
    fn generate(&mut self, service: prost_build::Service, out: &mut String) {
        let unary =
            service.methods.iter().filter(|method| !method.client_streaming && !method.server_streaming).count();
        let mut text = String::new();
        self.0.generate(service, &mut text);
        for (call, shared) in [
            ("self.inner.unary(req, path, codec).await", "crate::unary::call(&mut self.inner, req, path).await"),
            ("grpc.unary(method, req).await", "grpc.unary(crate::unary::Method::new(method), req).await"),
        ] {
            assert_eq!(text.matches(call).count(), unary, "tonic-prost-build generates another text than {call}");
            text = share(&text, call, shared);
        }
        out.push_str(&text);
    }

    fn finalize(&mut self, out: &mut String) {
        self.0.finalize(out);
    }

    fn finalize_package(&mut self, package: &str, out: &mut String) {
        self.0.finalize_package(package, out);
    }
}

/// Replaces each `call` in `text` by `shared`, and the codec that was made for it by the shared one.
fn share(text: &str, call: &str, shared: &str) -> String {
    const CODEC: &str = "tonic_prost::ProstCodec::default()";
    let mut made = String::new();
    let mut rest = text;
    while let Some((part, next)) = rest.split_once(call) {
        let (before, after) = part.rsplit_once(CODEC).expect("a codec is made for each call");
        made.extend([before, "crate::unary::Shared", after, shared]);
        rest = next;
    }
    made.push_str(rest);
    made
}

/// Replies that may have an error of a key.
const WITH_KEY_ERROR: &[&str] = &[
    "BufferBatchGetResponse",
    "GetResponse",
    "BatchGetResponse",
    "ScanResponse",
    "TxnHeartBeatResponse",
    "CheckTxnStatusResponse",
    "CheckSecondaryLocksResponse",
    "CommitResponse",
    "CleanupResponse",
    "BatchRollbackResponse",
    "ScanLockResponse",
    "ResolveLockResponse",
];

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
    let services = tonic_prost_build::configure().build_transport(false).service_generator();
    let mut config = prost_build::Config::new();
    for reply in WITH_KEY_ERROR {
        config.boxed(format!(".kvrpcpb.{reply}.error"));
    }
    config
        .service_generator(Box::new(Services(services)))
        .bytes(["."])
        .btree_map(["."])
        // What repeats in a message must be small in memory: two bytes on the wire make one of each.
        .boxed(".kvrpcpb.KvPair.error")
        // Errors are large and rare; a reply is moved often.
        .boxed("region_error")
        .boxed(".tikvpb.BatchCommandsRequest.Request.cmd")
        .compile_fds(descriptors)?;
    Ok(())
}
