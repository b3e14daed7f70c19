//! Which splats do not count: patterns from the configuration.

/// Patterns; a splat with a line that one of them fits is ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored(Vec<String>);

impl Ignored {
    /// Those that fit what contains one of `patterns`, in which a `*` stands for anything.
    pub fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    /// These and those of `other`.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().chain(&other.0).cloned().collect())
    }

    /// Whether one of them fits a line.
    pub fn fits(&self, lines: &[String]) -> bool {
        self.0
            .iter()
            .any(|pattern| lines.iter().any(|line| contains(line, pattern)))
    }
}

/// Whether `line` contains the parts of `pattern` between its `*`, one after another.
fn contains(line: &str, pattern: &str) -> bool {
    let mut rest = line;
    pattern.split('*').all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_fits_what_contains_it() {
        let line = "WARNING: CPU: 1 PID: 2 at arch/x86/kvm/mmu.c:12 zap+0x1/0x2 [kvm]";
        for (pattern, fits) in [
            ("zap+", true),
            ("[kvm]", true),
            ("WARNING*zap", true),
            ("zap*WARNING", false),
            ("kvm/x86.c", false),
        ] {
            assert_eq!(contains(line, pattern), fits, "{pattern}");
        }
        let ignored =
            Ignored::new(vec!["nothing".to_owned()]).and(&Ignored::new(vec!["zap".to_owned()]));
        assert!(ignored.fits(&["first".to_owned(), line.to_owned()]));
        assert!(
            !ignored.fits(&["first".to_owned()]) && !Ignored::default().fits(&[line.to_owned()])
        );
    }
}
