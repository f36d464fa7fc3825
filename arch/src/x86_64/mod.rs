//! # x86_64: the forms for SSE 4.2 and AVX2

pub(crate) mod avx2;
pub(crate) mod sse42;
