//! A place behind a real sshd, on this host: with a login shell that prints a banner, and killed in the middle.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::statuses;
use crate::support::{Fixture, Ran, Status, processes, wait_until};

/// A server of ours, which ends with this.
struct Server {
    child: Child,
    /// How one gets there.
    place: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Server {
    /// A server with its own configuration, keys and port below `directory`.
    fn start(directory: &Path) -> Self {
        let path = |name: &str| directory.join(name).display().to_string();
        for key in ["host", "user"] {
            let mut keygen = Command::new("ssh-keygen");
            keygen.args(["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
            assert!(keygen.status().unwrap().success());
        }
        fs::write(path("banner"), "This machine is for tests alone.\n").unwrap();
        // What a login shell may print, on the standard output as well.
        fs::write(
            path("shell"),
            "#!/bin/sh\necho \"Welcome, $(id -un)\"\nexec sh -c \"$SSH_ORIGINAL_COMMAND\"\n",
        )
        .unwrap();
        fs::set_permissions(path("shell"), fs::Permissions::from_mode(0o755)).unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let (host, keys, shell) = (path("host"), path("user.pub"), path("shell"));
        let configuration = format!(
            "Port {port}\nListenAddress 127.0.0.1\nHostKey {host}\nAuthorizedKeysFile {keys}\nForceCommand {shell}\n\
             Banner {}\nStrictModes no\nUsePAM no\nPidFile none\nPasswordAuthentication no\nPermitRootLogin yes\n\
             PermitUserEnvironment no\nAcceptEnv KVM_TESTS_ROOT\n",
            path("banner")
        );
        fs::write(path("config"), configuration).unwrap();
        fs::create_dir_all("/run/sshd").unwrap();
        let mut sshd = Command::new("/usr/sbin/sshd");
        sshd.args(["-D", "-e", "-f", &path("config")])
            .stderr(Stdio::null());
        let child = sshd.spawn().unwrap();
        wait_until(|| TcpStream::connect(("127.0.0.1", port)).is_ok());
        let place = format!(
            "ssh -F none -i {} -p {port} -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null \
             -o SendEnv=KVM_TESTS_ROOT 127.0.0.1 {{}}",
            path("user")
        );
        Self { child, place }
    }
}

#[test]
#[ignore = "needs openssh-server, and to be root"]
fn a_run_through_ssh_survives_its_banner() {
    let fixture = Fixture::new()
        .selftest("fail_test", "echo out; exit 1")
        .selftest("good_test", "exit 0")
        .file("ssh/made", "");
    let server = Server::start(&fixture.path().join("ssh"));
    let ran = fixture.run(&["--place", &server.place]);
    assert_eq!(ran.code, Some(101), "{}{}", ran.stdout, ran.stderr);
    let statuses: Vec<_> = statuses(&fixture).into_values().collect();
    assert_eq!(statuses, [Status::Failed, Status::Passed]);
    let console = fs::read_to_string(fixture.results().join("places/place.console.log")).unwrap();
    assert!(
        console.contains("Welcome, ") && console.contains("for tests alone"),
        "{console}"
    );
    let output = fixture.results().join("fail_test/default/command.stdout");
    assert_eq!(fs::read_to_string(output).unwrap(), "out\n");
}

#[test]
#[ignore = "needs openssh-server, and to be root"]
fn a_connection_that_is_cut_costs_a_place_and_no_result() {
    let mark = format!("cut{}", std::process::id());
    let suite = format!(
        "[[test]]\nname = \"a\"\ncommand = \"true\"\n[[test]]\nname = \"b\"\ncommand = \"[ -e ../cut ] || sh -c 'sleep 1000; : {mark}'\"\n\
         [[test]]\nname = \"c\"\ncommand = \"true\"\n"
    );
    let fixture = Fixture::new()
        .selftest("a_test", "exit 0")
        .file("suite.toml", &suite)
        .file("ssh/made", "");
    let server = Server::start(&fixture.path().join("ssh"));
    let how = ["--test-threads", "1", "--place", &server.place];
    let child = fixture.start(&[&["--config", "suite.toml", "suite::"], &how[..]].concat());
    wait_until(|| !processes(&mark).is_empty());
    fs::write(fixture.path().join("cut"), "").unwrap();
    // The process of sshd that serves this connection; the server itself goes on.
    let ours = i32::try_from(server.child.id()).unwrap();
    for pid in descendants(ours) {
        if fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|comm| comm.starts_with("sshd"))
        {
            kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).ok();
        }
    }
    let ran = Ran::of(child.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stderr
            .contains("PLACE DIED: place, while this ran: suite::b: exit code 255"),
        "{}",
        ran.stderr
    );
    let passed = statuses(&fixture)
        .into_values()
        .filter(|status| *status == Status::Passed);
    assert_eq!(passed.count(), 3);
    // Nobody wanted its results any more.
    wait_until(|| processes(&mark).is_empty());
}

/// The processes below one.
fn descendants(pid: i32) -> Vec<i32> {
    let children =
        fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let children: Vec<i32> = children
        .split(' ')
        .filter_map(|pid| pid.parse().ok())
        .collect();
    children
        .iter()
        .flat_map(|pid| [vec![*pid], descendants(*pid)].concat())
        .collect()
}
