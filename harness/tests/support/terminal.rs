//! A terminal to run the real program on.

#![allow(dead_code, reason = "each test file uses its own part")]
#![expect(
    clippy::unwrap_used,
    reason = "a terminal that cannot be made fails its test"
)]

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A terminal of 200 columns, and the session on it.
pub(crate) struct Terminal {
    keyboard: File,
    /// The terminal itself stays open: what is on it can be read when the program is gone.
    terminal: File,
    screen: Arc<Mutex<Vec<u8>>>,
    child: Child,
    reader: Option<JoinHandle<()>>,
}

impl Terminal {
    /// Runs `command` in a session of its own, on a new terminal.
    pub(crate) fn run(command: &Command) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path)
            .unwrap();
        tcsetwinsize(
            &master,
            Winsize {
                ws_row: 50,
                ws_col: 200,
                ws_xpixel: 0,
                ws_ypixel: 0,
            },
        )
        .unwrap();

        // What makes the standard input the session's terminal is unsafe in Rust between fork and exec.
        let mut session = Command::new("setsid");
        session
            .arg("--ctty")
            .arg(command.get_program())
            .args(command.get_args());
        session
            .current_dir(command.get_current_dir().unwrap())
            .env_clear()
            .env("TERM", "xterm");
        session.envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
        let end = || terminal.try_clone().unwrap();
        let child = session
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();

        let keyboard = File::from(master);
        let screen = Arc::new(Mutex::new(Vec::new()));
        let reader = thread::spawn({
            let (mut output, screen) = (keyboard.try_clone().unwrap(), Arc::clone(&screen));
            move || {
                let mut bytes = [0; 4096];
                // It ends with an error, when nobody has the terminal open any more.
                while let Ok(length @ 1..) = output.read(&mut bytes) {
                    screen.lock().unwrap().extend_from_slice(&bytes[..length]);
                }
            }
        });
        Self {
            keyboard,
            terminal,
            screen,
            child,
            reader: Some(reader),
        }
    }

    /// The ID of the session's first process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// Types `text`.
    pub(crate) fn write(&mut self, text: &str) {
        self.keyboard.write_all(text.as_bytes()).unwrap();
    }

    /// Everything that was printed, escape sequences and all, with newlines as the program wrote them.
    pub(crate) fn printed(&self) -> String {
        String::from_utf8_lossy(&self.screen.lock().unwrap()).replace("\r\n", "\n")
    }

    /// How the terminal is set.
    pub(crate) fn settings(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }

    /// Waits until `text` has been printed after the first `seen` bytes; returns how much has been printed then.
    pub(crate) fn wait_for(&self, seen: usize, text: &str) -> usize {
        let begin = Instant::now();
        loop {
            let printed = self.printed();
            if printed.get(seen..).is_some_and(|new| new.contains(text)) {
                return printed.len();
            }
            let lines: Vec<_> = printed.lines().rev().take(5).collect();
            assert!(
                begin.elapsed() < PATIENCE,
                "waited in vain for {text:?}; the last lines: {lines:#?}"
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for the end; returns the exit status, and everything that was printed.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let status = self.child.wait().unwrap();
        let Self {
            terminal,
            screen,
            reader,
            ..
        } = self;
        drop(terminal);
        reader.unwrap().join().unwrap();
        let printed = String::from_utf8_lossy(&screen.lock().unwrap()).into_owned();
        (status.code(), printed)
    }
}
