//! What the keeper's tests run: a keeper, a runner, or a selftest that behaves as its first argument says. The last
//! argument is a mark by which a test finds the processes that it has started; all of them have it.

#![expect(clippy::unwrap_used, reason = "this is only run by and for tests")]
#![expect(clippy::zombie_processes, reason = "leaving them is what it is for")]

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use harness::supervise::keeper::{self, Keeper, Task};
use rustix::process::{
    Resource, Rlimit, Signal, Uid, getpid, getrlimit, getuid, kill_process, set_child_subreaper,
    setrlimit, setsid,
};
use rustix::thread::set_thread_res_uid;
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;

/// The user `nobody`, who may kill no process of root.
const NOBODY: u32 = 65534;

fn main() -> ExitCode {
    if keeper::is_keeper(env::args_os()) {
        return be_keeper();
    }
    let args: Vec<String> = env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args[..] {
        ["exit", code, _] => return ExitCode::from(code.parse::<u8>().unwrap()),
        ["abort", _] => std::process::abort(),
        // The first one ends in a handler of Rust's runtime, which looks for stack overflows.
        ["segv", _] => loop {
            kill_process(getpid(), Signal::SEGV).unwrap();
        },
        ["hang", _] => hang(),
        ["spin", _] => spin(),
        ["ignore_term", _] => {
            let _caught = Signals::new([SIGTERM]).unwrap();
            print("ready");
            hang();
        }
        ["exit_on_term", _] => {
            let mut caught = Signals::new([SIGTERM]).unwrap();
            print("ready");
            caught.wait().next();
        }
        ["tree", mark] => {
            plant(mark);
            print("ready");
            hang();
        }
        ["tree_and_exit", mark] => plant(mark),
        ["in_own_session", mark] => {
            setsid().unwrap();
            spawn(Command::new(me()).args(["hang", mark]));
        }
        ["bomb", mark] => bomb(mark),
        ["spawner", mark] => loop {
            // Where it fails, another try may not, as soon as one of them is killed.
            drop(Command::new(me()).args(["spawner", mark]).spawn());
        },
        ["flood", bytes, _] => flood(bytes.parse().unwrap()),
        ["flood_and_hang", bytes, _] => {
            flood(bytes.parse().unwrap());
            hang();
        }
        ["zombies", count, mark] => {
            for _ in 0..count.parse().unwrap() {
                spawn(Command::new(me()).args(["exit", "0", mark]));
            }
        }
        ["child_until_end_of_file", mark] => {
            spawn(
                Command::new(me())
                    .args(["until_end_of_file", mark])
                    .stdin(Stdio::piped()),
            );
        }
        ["until_end_of_file", _] => drop(io::read_to_string(io::stdin())),
        ["child_killed", mark] => spawn(Command::new(me()).args(["hang", mark]))
            .kill()
            .unwrap(),
        ["child_of_root", mark] => {
            // Set-user-ID alone would leave the real user, who may kill us.
            set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).unwrap();
            spawn(Command::new(me()).args(["hang", mark]));
        }
        ["adopt", ref args @ ..] => {
            set_child_subreaper(Some(getpid())).unwrap();
            let runner = spawn(Command::new(me()).args(args).stdin(Stdio::null()));
            print(&runner.id().to_string());
            drop(io::read_to_string(io::stdin()));
        }
        ["on_terminal", terminal, ref args @ ..] => {
            // The first terminal that the leader of a session opens becomes its controlling one.
            setsid().unwrap();
            let open = || {
                fs::File::options()
                    .read(true)
                    .write(true)
                    .open(terminal)
                    .unwrap()
            };
            let mut command = Command::new(args[0]);
            command
                .args(&args[1..])
                .stdin(open())
                .stdout(open())
                .stderr(open());
            panic!("{}", command.exec());
        }
        ["run", directory, ref args @ ..] => run(Path::new(directory), args),
        _ => panic!("unknown arguments: {args:?}"),
    }
    ExitCode::SUCCESS
}

fn be_keeper() -> ExitCode {
    let me = env::current_exe().unwrap();
    if me.ends_with("unprivileged") && getuid().is_root() {
        panic!(
            "{}",
            Command::new(me)
                .args(env::args_os().skip(1))
                .uid(NOBODY)
                .gid(NOBODY)
                .exec()
        );
    }
    keeper::main()
}

fn me() -> PathBuf {
    env::current_exe().unwrap()
}

fn spawn(command: &mut Command) -> Child {
    command.spawn().unwrap()
}

fn print(line: &str) {
    println!("{line}");
    io::stdout().flush().unwrap();
}

fn hang() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

fn spin() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

/// Starts three processes that escape in different ways, the last being a daemon, and the first without an environment.
fn plant(mark: &str) {
    spawn(
        Command::new(me())
            .args(["spin", mark])
            .process_group(0)
            .env_clear(),
    );
    spawn(Command::new(me()).args(["hang", mark]));
    spawn(Command::new(me()).args(["in_own_session", mark]))
        .wait()
        .unwrap();
}

/// A fork bomb with a limit on the number of processes.
fn bomb(mark: &str) {
    // All processes are counted, as those of this user are not known. Root is exempt from this limit.
    let limit = Some(fs::read_dir("/proc").unwrap().count() as u64 + 50);
    setrlimit(
        Resource::Nproc,
        Rlimit {
            current: limit,
            maximum: getrlimit(Resource::Nproc).maximum,
        },
    )
    .unwrap();
    let mut spawner = Command::new(me());
    spawner.args(["spawner", mark]).current_dir("/");
    if getuid().is_root() {
        spawner.uid(NOBODY).gid(NOBODY);
    }
    panic!("{}", spawner.exec());
}

/// Writes that many bytes, in numbered lines of 16 bytes each.
fn flood(bytes: usize) {
    let mut stdout = io::stdout().lock();
    let mut chunk = Vec::new();
    for line in 0..bytes / 16 {
        writeln!(chunk, "line {line:010}").unwrap();
        if chunk.len() >= 1 << 16 {
            stdout.write_all(&chunk).unwrap();
            chunk.clear();
        }
    }
    stdout.write_all(&chunk).unwrap();
}

/// Is a runner, and prints what became of a task.
fn run(directory: &Path, args: &[&str]) {
    let task = Task {
        program: me(),
        args: args.iter().map(OsString::from).collect(),
        directory: directory.to_owned(),
        stdout: directory.join("stdout"),
        stderr: directory.join("stderr"),
        timeout: None,
        grace: Duration::from_secs(1),
        output_cap: 64 << 10,
        removes_shared_memory: false,
    };
    let ended = Keeper::start().unwrap().run(&task, |_| ()).unwrap();
    println!("{}", serde_json::to_string(&ended).unwrap());
}
