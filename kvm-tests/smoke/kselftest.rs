//! The contract of a KVM selftest: how it says that it passed, was skipped or failed.
//!
//! The layouts are upstream's (tools/testing/selftests/kvm/lib/assert.c, and the kernel's Documentation/dev-tools/ktap.rst),
//! so that what reads upstream's output reads this.

use std::fmt::Debug;
use std::io;
use std::process::ExitCode;

/// What a selftest comes to: `Ok` is a pass.
pub(crate) type Result<T = ()> = std::result::Result<T, Stop>;

/// Why a selftest ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It cannot be run here, for this reason.
    Skip(String),
    /// An assertion did not hold.
    Fail(Failure),
    /// Sub-tests failed, and have been reported.
    Subtests,
}

/// An assertion that did not hold.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The source file, relative to the workspace.
    pub(crate) file: &'static str,
    /// The line in it.
    pub(crate) line: u32,
    /// The expression that did not hold, or the name of the system call that failed.
    pub(crate) expression: String,
    /// The `errno` of the system call; 0 where it was no system call that failed.
    pub(crate) errno: i32,
    /// What it means.
    pub(crate) message: String,
}

/// Prints what ended the selftest, and gives the exit code that says the same.
pub(crate) fn exit_code(result: Result) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Stop::Skip(reason)) => {
            println!("1..0 # SKIP {reason}");
            ExitCode::from(4)
        }
        Err(Stop::Fail(failure)) => {
            failure.print();
            ExitCode::from(254)
        }
        Err(Stop::Subtests) => ExitCode::FAILURE,
    }
}

/// Ends the selftest as skipped.
pub(crate) fn skip<T>(reason: impl Into<String>) -> Result<T> {
    Err(Stop::Skip(reason.into()))
}

/// The kernel's text for `errno`, as strerror(3) has it.
pub(crate) fn error_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error")
        .next()
        .unwrap_or_default()
        .to_owned()
}

impl Failure {
    fn print(&self) {
        let Self {
            file,
            line,
            expression,
            errno,
            message,
        } = self;
        let (pid, tid) = (rustix::process::getpid(), rustix::thread::gettid());
        eprintln!("==== Test Assertion Failure ====");
        eprintln!("  {file}:{line}: {expression}");
        eprintln!(
            "  pid={pid} tid={tid} errno={errno} - {}",
            error_text(*errno)
        );
        eprintln!("  {message}");
    }
}

/// Turns a failed system call into a failed assertion.
pub(crate) trait OrFail<T> {
    /// Fails at the caller's line, naming the `call`.
    fn or_fail(self, call: &str) -> Result<T>;
}

impl<T> OrFail<T> for std::result::Result<T, kvm_ioctls::Error> {
    #[track_caller]
    fn or_fail(self, call: &str) -> Result<T> {
        let place = std::panic::Location::caller();
        self.map_err(|error| {
            Stop::Fail(Failure {
                file: place.file(),
                line: place.line(),
                expression: call.to_owned(),
                errno: error.errno(),
                message: format!("{call} failed: {}", error_text(error.errno())),
            })
        })
    }
}

/// Fails the selftest unless the condition holds; the rest is the message, as for `format!`.
macro_rules! check {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::smoke::kselftest::Stop::Fail($crate::smoke::kselftest::Failure {
                file: file!(),
                line: line!(),
                expression: stringify!($condition).to_owned(),
                errno: 0,
                message: format!($($message)+),
            }));
        }
    };
}

/// Fails the selftest unless both values are equal, and shows them with their numbers in hexadecimal.
macro_rules! check_eq {
    ($left:expr, $right:expr, $($message:tt)+) => {{
        let (left, right) = (&$left, &$right);
        if left != right {
            return Err($crate::smoke::kselftest::Stop::Fail($crate::smoke::kselftest::Failure {
                file: file!(),
                line: line!(),
                expression: concat!(stringify!($left), " == ", stringify!($right)).to_owned(),
                errno: 0,
                message: $crate::smoke::kselftest::unequal(&format!($($message)+), left, right),
            }));
        }
    }};
}

pub(crate) use {check, check_eq};

/// The message of a failed [`check_eq`].
pub(crate) fn unequal(message: &str, left: &dyn Debug, right: &dyn Debug) -> String {
    format!("{message}\n  left:  {left:x?}\n  right: {right:x?}\n  (numbers in hexadecimal)")
}

/// The sub-tests of a selftest, reported in KTAP as they end.
pub(crate) struct Subtests {
    number: usize,
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl Subtests {
    /// Announces `count` sub-tests.
    pub(crate) fn plan(count: usize) -> Self {
        println!("TAP version 13\n1..{count}");
        Self {
            number: 0,
            passed: 0,
            failed: 0,
            skipped: 0,
        }
    }

    /// Reports one; a failed assertion goes to stderr, as outside of sub-tests.
    pub(crate) fn report(&mut self, name: &str, result: Result) {
        self.number += 1;
        let number = self.number;
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("ok {number} {name}");
            }
            Err(Stop::Skip(reason)) => {
                self.skipped += 1;
                println!("ok {number} {name} # SKIP {reason}");
            }
            Err(stop) => {
                self.failed += 1;
                println!("not ok {number} {name}");
                if let Stop::Fail(failure) = stop {
                    failure.print();
                }
            }
        }
    }

    /// Prints the totals, and fails the selftest if any sub-test failed.
    pub(crate) fn finish(self) -> Result {
        let Self {
            number: _,
            passed,
            failed,
            skipped,
        } = self;
        println!("# Totals: pass:{passed} fail:{failed} xfail:0 xpass:0 skip:{skipped} error:0");
        if failed == 0 {
            Ok(())
        } else {
            Err(Stop::Subtests)
        }
    }
}
