//! # aarch64: the forms for NEON and the CRC instructions

pub(crate) mod neon;
