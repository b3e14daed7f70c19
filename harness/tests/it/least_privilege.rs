//! What the real program may and may not do: with the results, without root, and with what stands in a configuration.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;

use crate::support::{Fixture, Ran, Status, events, lines_with};

#[test]
fn links_that_a_case_puts_into_the_results_are_not_followed_and_nothing_is_lost() {
    let fixture = Fixture::new().file("victim/file", "precious");
    let victim = fixture.path().join("victim").display().to_string();
    // One of each kind: where output was, where it will be, the directory of a suite, and the files of the run.
    let attack = format!(
        "cd ../run || exit 9
        mv a_test/default a_test/was; ln -s {victim} a_test/default
        mkdir c_test; ln -s {victim} c_test/default
        ln -s {victim} d_test
        for name in run.json $(echo journal/*) junit.xml results.ktap report.html; do
            ln -sf {victim}/file $name; ln -sf {victim}/file $name.unfinished
        done"
    );
    let own_output = "../run/e_test/default/command.stdout";
    let own_output = format!("rm {own_output}; ln -s {victim}/file {own_output}");
    let fixture = fixture
        .selftest("a_test", "echo of a")
        .selftest("b_test", &attack)
        .selftest("c_test", "echo of c")
        .selftest("d_test", "echo of d")
        .selftest("e_test", &own_output);
    let ran = fixture.run(&["--test-threads", "1"]);

    let in_victim: Vec<_> = fs::read_dir(&victim)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(in_victim, ["file"]);
    assert_eq!(
        fs::read_to_string(fixture.path().join("victim/file")).unwrap(),
        "precious"
    );
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    let said = ".jsonl was removed or replaced while the run went on";
    assert_eq!(lines_with(&ran.stderr, said).len(), 1, "{}", ran.stderr);
    for name in ["run.json", "junit.xml", "results.ktap", "report.html"] {
        assert!(
            fixture
                .results()
                .join(name)
                .symlink_metadata()
                .unwrap()
                .is_file(),
            "{name}"
        );
    }
    for (name, expected) in [
        ("a", Status::Passed),
        ("b", Status::Passed),
        ("c", Status::NoRun),
    ] {
        assert_eq!(
            fixture.verdict(&format!("{name}_test::default")).0,
            expected,
            "{name}"
        );
    }
    for (name, expected) in [
        ("c", Status::NoRun),
        ("d", Status::NoRun),
        ("e", Status::Failed),
    ] {
        let (status, reason) = fixture.verdict(&format!("{name}_test::default"));
        assert!(
            status == expected && reason.contains("a symbolic link has been put in its place"),
            "{reason}"
        );
    }
}

#[test]
fn a_results_directory_that_becomes_a_link_is_not_followed() {
    let fixture = Fixture::new().file("victim/file", "precious");
    let victim = fixture.path().join("victim").display().to_string();
    let attack = format!("mv ../run ../run.was; ln -s {victim} ../run");
    let fixture = fixture
        .selftest("a_test", &attack)
        .selftest("b_test", "echo of b");
    let ran = fixture.run(&["--test-threads", "1"]);
    let in_victim: Vec<_> = fs::read_dir(&victim)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(in_victim, ["file"]);
    assert_eq!(ran.code, Some(101), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("cannot write the reports"),
        "{}",
        ran.stderr
    );
    assert_eq!(
        lines_with(&ran.stdout, "test b_test::default ... FAILED").len(),
        1,
        "{}",
        ran.stdout
    );
    let events = events(&fixture.path().join("run.was"));
    let finished = events.iter().filter(|(name, _)| name == "finished");
    assert_eq!(finished.count(), 2);
}

#[test]
fn a_pipe_for_an_output_holds_up_nobody() {
    let fixture = Fixture::new().selftest(
        "a_test",
        "out=../run/a_test/default/command.stdout; rm $out; mkfifo $out; exit 1",
    );
    assert_eq!(fixture.run(&[]).code, Some(101));
    let outcome = fixture.outcome("a_test::default");
    let (status, reason) = (outcome.status, outcome.reason.unwrap());
    assert!(
        status == Status::Failed && reason.contains("it is no regular file"),
        "{reason}"
    );
}

#[test]
fn nobody_else_may_write_to_the_results_whatever_the_umask() {
    let fixture = Fixture::new().selftest("a_test", "echo fine").file(
        "suite.toml",
        "setup = \"true\"\n[[test]]\nname = \"a\"\nselftest = \"a_test\"\n",
    );
    let program = fixture.command(&[
        "--selftests",
        "selftests",
        "--config",
        "suite.toml",
        "--output",
        "new/deep/run",
        "--logfile",
        "new.log",
    ]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "umask 0; exec \"$@\"", "sh"])
        .arg(program.get_program())
        .args(program.get_args());
    command
        .current_dir(fixture.path())
        .env("KVM_TESTS_ROOT", fixture.path().join("root"));
    let ran = Ran::of(command.output().unwrap());
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let mut seen = Vec::new();
    for made in ["new", "new.log", "kvm-tests-results"] {
        visit(&fixture.path().join(made), &mut |path| {
            let mode = path.symlink_metadata().unwrap().mode();
            assert_eq!(mode & 0o022, 0, "{}: {mode:o}", path.display());
            seen.push(path.file_name().unwrap().to_str().unwrap().to_owned());
        });
    }
    for name in [
        "run.json",
        "report.html",
        "command.stdout",
        "suite_setup.stderr",
        "durations.jsonl",
    ] {
        assert!(
            seen.iter().any(|seen| seen == name),
            "{name} is not in {seen:?}"
        );
    }
}

fn visit(path: &Path, meet: &mut impl FnMut(&Path)) {
    meet(path);
    if path.symlink_metadata().unwrap().is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            visit(&entry.unwrap().path(), meet);
        }
    }
}

/// Runs the program as nobody where we are root, else as who we are.
fn run_unprivileged(fixture: &Fixture, arguments: &[&str]) -> Ran {
    let program = fixture.command(&[&["--selftests", "selftests"], arguments].concat());
    if !rustix::process::geteuid().is_root() {
        return Ran::of(
            fixture
                .command(&[&["--selftests", "selftests"], arguments].concat())
                .output()
                .unwrap(),
        );
    }
    // The build directory may be out of reach for nobody.
    let copy = fixture.path().join("kvm-tests");
    assert!(
        Command::new("install")
            .arg(program.get_program())
            .arg(&copy)
            .status()
            .unwrap()
            .success()
    );
    for path in [fixture.path(), &fixture.path().join("root")] {
        std::os::unix::fs::chown(path, Some(65534), Some(65534)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"])
        .arg(copy);
    command.args(program.get_args()).current_dir(fixture.path());
    command.env("KVM_TESTS_ROOT", fixture.path().join("root"));
    Ran::of(command.output().unwrap())
}

#[test]
fn without_root_it_runs_and_says_what_it_cannot_do() {
    // The supervisor comes down as soon as it runs again; where it does not, this ends with the timeout. By cat, since a
    // shell's own `read` takes a byte at a time, and so a part of what was there before with a part of what is now.
    let scores = "own=$(cat /proc/$$/oom_score_adj); supervisor=$own\n\
        while [ $supervisor -ge $own ]; do supervisor=$(cat /proc/$PPID/oom_score_adj); done; echo $own; echo $supervisor";
    let fixture = Fixture::new()
        .selftest("a_test", scores)
        .selftest("b_test", scores);
    let sysfs = "root/sys/module/kvm/parameters/halt_poll_ns";
    let fixture = fixture
        .file(sysfs, "200000\n")
        .file("root/proc/sys/kernel/ostype", "Linux\n");
    fs::set_permissions(
        fixture.path().join("root/dev/kvm"),
        fs::Permissions::from_mode(0o666),
    )
    .unwrap();

    let ran = run_unprivileged(
        &fixture,
        &["--output", "run", "--test-threads", "1", "--timeout", "20"],
    );
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert_eq!(
        lines_with(&ran.stderr, "not root     environments cannot be applied").len(),
        1,
        "{}",
        ran.stderr
    );
    let own: i32 = fs::read_to_string("/proc/self/oom_score_adj")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // The second one shows that the supervisor has come down again without being root.
    for name in ["a_test", "b_test"] {
        let scores =
            fs::read_to_string(fixture.results().join(name).join("default/command.stdout"))
                .unwrap();
        assert_eq!(scores, format!("{}\n{own}\n", (own + 500).min(1000)));
    }

    let ran = run_unprivileged(
        &fixture,
        &["--output", "run2", "--param", "kvm.halt_poll_ns=0"],
    );
    assert_eq!(ran.code, Some(101), "{}", ran.stdout);
    assert!(
        ran.stdout.contains("2 NO_RUN") && ran.stdout.contains("Permission denied"),
        "{}",
        ran.stdout
    );

    fs::set_permissions(
        fixture.path().join("root/dev/kvm"),
        fs::Permissions::from_mode(0o600),
    )
    .unwrap();
    if rustix::process::geteuid().is_root() {
        let ran = run_unprivileged(&fixture, &["--output", "run3"]);
        let remedy = "/dev/kvm may not be opened by this user: run as root, or join the group kvm";
        assert!(ran.stderr.contains(remedy), "{}", ran.stderr);
    }
}

#[test]
fn nothing_of_a_configuration_reaches_a_shell_but_shell_commands() {
    let hostile = [
        "$(touch pwned)",
        "`touch pwned`",
        "; touch pwned",
        "| touch pwned",
        "&& touch pwned",
        "> pwned",
        "' ; touch pwned ; '",
        "\" ; touch pwned ; \"",
        "\n touch pwned\n",
        "-c",
        "",
        "*",
        "~",
        "é\u{202e}",
    ];
    let quoted: Vec<_> = hostile
        .iter()
        .map(|text| serde_json::to_string(text).unwrap())
        .collect();
    let suite = format!(
        "[[test]]\nname = \"args\"\nselftest = \"echo_test\"\nargs = [{0}]\n\
         [[test]]\nname = \"swept\"\nselftest = \"echo_test\"\nargs = [\"{{value}}\"]\n\
         matrix = {{ value = [\"$(touch pwned)\", \"; touch pwned\"] }}\n",
        quoted.join(", ")
    );
    // A directory and a selftest whose names are commands themselves.
    let script = "#!/bin/sh\nprintf '%s\\0' \"$@\"\n";
    let fixture = Fixture::new()
        .executable("a;touch pwned;$(touch pwned)/echo_test", script)
        .executable("a;touch pwned;$(touch pwned)/x;touch pwned", script)
        .file("suite.toml", &suite);
    let mut command = fixture.command(&[
        "--selftests",
        "a;touch pwned;$(touch pwned)",
        "--config",
        "suite.toml",
    ]);
    let ran = Ran::of(command.args(["--output", "run"]).output().unwrap());
    let record = fixture.record();
    let args = record
        .outcomes
        .iter()
        .find(|outcome| outcome.name == "suite::args");
    let args = args.unwrap_or_else(|| panic!("{}{}", ran.stdout, ran.stderr));
    assert_eq!(args.status, Status::Passed, "{:?}", args.reason);
    let expected: Vec<u8> = hostile
        .iter()
        .flat_map(|text| [text.as_bytes(), b"\0"].concat())
        .collect();
    let printed = fs::read(fixture.results().join("suite/args/command.stdout")).unwrap();
    assert_eq!(
        String::from_utf8_lossy(&printed),
        String::from_utf8_lossy(&expected)
    );

    // What is said to repeat it by hand is for a shell, and is the same there.
    let by_hand = Command::new("sh")
        .args(["-c", &args.reproduce])
        .current_dir(fixture.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&by_hand.stdout),
        String::from_utf8_lossy(&expected),
        "{}",
        args.reproduce
    );
    assert_eq!(
        record
            .outcomes
            .iter()
            .filter(|outcome| outcome.name.starts_with("suite::"))
            .count(),
        3
    );
    visit(fixture.path(), &mut |path| {
        assert!(!path.ends_with("pwned"), "{}", path.display())
    });

    let ran = fixture.run(&[
        "--environment",
        "$(touch pwned)",
        "--set",
        "tdp=$(touch pwned)",
    ]);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
    visit(fixture.path(), &mut |path| {
        assert!(!path.ends_with("pwned"), "{}", path.display())
    });
}
