//! Which version this is: Armilla's own, and the version of TiKV that clients may take it for.

/// The version of TiKV and PD that stores and members report in `Store.version` and `Member.binary_version`.
///
/// TiKV's clients and tools choose their requests by it, so it names the protocol that is spoken here and not this program:
///
/// - client-java parses it as three numbers and prints a stack trace for anything else ("" or "8.5.0+x"); below 6.1.0 it
///   refuses API V2, below 4.0.0 it resolves locks without async commit;
/// - TiKV's backup tools of 8.x want 8.2 or newer, and refuse 9.x as too new;
/// - PD takes the minimum over all stores for the cluster's version and enables features by it.
///
/// A plain number without a leading `v` and without a suffix, as TiKV itself reports it. What really runs is in
/// [`BUILD`], which `Store.git_hash` and `Member.git_hash` carry.
pub const TIKV_VERSION: &str = "8.5.0";

/// The version of the cluster's protocol that this build knows: what may be in replicated commands and records.
///
/// The placement driver keeps the version of the cluster, the least that any of its nodes knows, and nothing newer is proposed: an
/// older node would skip it where others apply it. A new command, or a new field that changes what a command does, raises this.
///
/// | version | what is new |
/// |---|---|
/// | 1 | the first |
/// | 2 | `PdCommand.store_started`: the placement driver remembers the runs of stores |
pub const PROTOCOL: u32 = 2;

/// Armilla's own version, as `Store.git_hash` and `Member.git_hash` carry it.
pub const BUILD: &str = concat!("armilla-", env!("CARGO_PKG_VERSION"));

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what client-java and PD's tools parse. Method: their rule, three numbers and nothing else.
    #[test]
    fn the_version_is_three_numbers() {
        let numbers: Vec<u32> = TIKV_VERSION.split('.').map(|part| part.parse().expect("a number")).collect();
        assert_eq!(numbers.len(), 3, "{TIKV_VERSION}");
        assert!(numbers[0] == 8 && numbers[1] >= 2, "{TIKV_VERSION}: see what the constant's documentation lists");
    }
}
