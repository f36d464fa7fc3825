//! The load of a region: what requests read from it and wrote to it.

/// Numbers of requests, of the keys that they read or wrote, and of the bytes. Either of all time or per second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Requests that read.
    pub reads: u64,
    /// Keys that they read.
    pub read_keys: u64,
    /// Bytes of the keys and values that they read.
    pub read_bytes: u64,
    /// Requests that write: commands that were proposed.
    pub writes: u64,
    /// Keys that they wrote.
    pub written_keys: u64,
    /// Bytes of these commands.
    pub written_bytes: u64,
}

impl Load {
    /// Applies `combine` to each number of both.
    fn zip(self, other: Load, combine: impl Fn(u64, u64) -> u64) -> Load {
        Load {
            reads: combine(self.reads, other.reads),
            read_keys: combine(self.read_keys, other.read_keys),
            read_bytes: combine(self.read_bytes, other.read_bytes),
            writes: combine(self.writes, other.writes),
            written_keys: combine(self.written_keys, other.written_keys),
            written_bytes: combine(self.written_bytes, other.written_bytes),
        }
    }

    /// Returns what was added to `before`.
    pub fn since(self, before: Load) -> Load {
        self.zip(before, u64::saturating_sub)
    }

    /// Returns the sum of both.
    pub fn plus(self, other: Load) -> Load {
        self.zip(other, u64::saturating_add)
    }

    /// Returns the load per second, of one that came about in `ms` milliseconds.
    pub fn per_second(self, ms: u64) -> Load {
        let ms = u128::from(ms.max(1));
        self.zip(self, |number, _| u64::try_from(u128::from(number) * 1000 / ms).unwrap_or(u64::MAX))
    }

    /// Returns the number of requests.
    pub fn queries(self) -> u64 {
        self.reads.saturating_add(self.writes)
    }

    /// Returns the bytes that were read and written.
    pub fn bytes(self) -> u64 {
        self.read_bytes.saturating_add(self.written_bytes)
    }

    /// Returns whether there was none.
    pub fn is_none(self) -> bool {
        self == Load::default()
    }
}

#[cfg(test)]
mod tests {
    //! Goal: each number is treated alike, and nothing overflows. Method: by hand.
    use super::*;

    #[test]
    fn rates_and_differences() {
        let load =
            Load { reads: 10, read_keys: 20, read_bytes: 3000, writes: 5, written_keys: 7, written_bytes: u64::MAX };
        assert_eq!(load.since(load), Load::default());
        assert!(load.since(load).is_none() && !load.is_none());
        assert_eq!((load.queries(), load.bytes()), (15, u64::MAX));
        let rate = load.per_second(500);
        assert_eq!((rate.reads, rate.read_keys, rate.read_bytes, rate.writes), (20, 40, 6000, 10));
        assert_eq!((rate.written_keys, rate.written_bytes), (14, u64::MAX));
        assert_eq!(load.per_second(0).reads, 10_000);
        assert_eq!(load.plus(load).written_bytes, u64::MAX);
    }
}
