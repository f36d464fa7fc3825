//! # aarch64: what NEON and the CRC instructions do better

pub(crate) mod neon;
