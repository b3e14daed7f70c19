//! A hash that is the same on every machine and in every version: FNV-1a, of 64 bits.

/// The hash of what it was given.
#[derive(Debug, Clone, Copy)]
pub struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    /// With these bytes, too.
    #[must_use]
    pub fn with(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    /// The number. Its low bits alone tell little apart, so that all are mixed into them.
    pub fn number(self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    /// It as text.
    pub fn text(self) -> String {
        format!("{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::Fnv;

    #[test]
    fn it_is_the_one_that_others_know() {
        assert_eq!(Fnv::default().text(), "cbf29ce484222325");
        assert_eq!(Fnv::default().with(b"foobar").text(), "85944171f73967e8");
        let in_two = Fnv::default().with(b"foo").with(b"bar");
        assert_eq!(in_two.text(), "85944171f73967e8");
    }
}
