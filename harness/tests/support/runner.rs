//! The real program, as the root package's `main.rs` has it, with small embedded files of its own.

use std::process::ExitCode;

use harness::Embedded;

static EMBEDDED: Embedded = Embedded {
    selftests: &[
        ("embedded_test", || ExitCode::SUCCESS),
        ("embedded_skip_test", skip),
    ],
    suites: &[(
        "suites/shipped.toml",
        "[[test]]\nname = \"here\"\nselftest = \"pass_test\"\nargs = [\"{ncpus}\"]\n\
         [[test]]\nname = \"gone\"\nselftest = \"of_another_kernel_test\"\n",
    )],
    environments: &[],
    built_selftests: None,
    local: None,
};

fn skip() -> ExitCode {
    println!("1..0 # SKIP not in this fixture");
    ExitCode::from(4)
}

fn main() -> ExitCode {
    harness::program(&EMBEDDED)
}
