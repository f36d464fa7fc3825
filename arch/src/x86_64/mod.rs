//! # x86_64: what SSE 4.2 and AVX2 do better

pub(crate) mod avx2;
pub(crate) mod sse42;
