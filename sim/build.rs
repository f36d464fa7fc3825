//! getrandom 0.3 and 0.4 look the symbol `getrandom` up at run time: exports madsim's deterministic one from the binary, so that they find it.
fn main() {
    println!("cargo:rustc-link-arg-bins=-Wl,--export-dynamic-symbol=getrandom");
    println!("cargo:rerun-if-changed=build.rs");
}
