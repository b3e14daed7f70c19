//! Chromium without a window, by its command line.

use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::json;

/// A place for pages, pictures and a browser's profile.
pub(crate) struct Browser {
    directory: PathBuf,
    /// What is gone with it: its profiles.
    scratch: tempfile::TempDir,
}

/// How wide a window is that one should look at a page in, in pixels.
pub(crate) const WIDTHS: [u32; 2] = [1400, 400];

/// Tells, as the title of its page, of the page in its frame: how wide that is, and which cells have more than two lines.
const MEASURE: &str = "
onload = () => {
  const page = document.querySelector('iframe').contentDocument;
  const lines = (cell) => {
    const style = page.defaultView.getComputedStyle(cell);
    const padding = parseFloat(style.paddingTop) + parseFloat(style.paddingBottom) + 1;
    return Math.round((cell.getBoundingClientRect().height - padding) / parseFloat(style.lineHeight));
  };
  const cells = [...page.querySelectorAll('td, th[scope=row]')];
  const tall = cells.filter((cell) => lines(cell) > 2).map((cell) => cell.textContent);
  const width = page.documentElement.clientWidth;
  document.title = JSON.stringify({width, page: page.documentElement.scrollWidth, cells: cells.length, tall});
};";

/// Whether pages may run scripts.
#[derive(Clone, Copy)]
pub(crate) enum Scripts {
    On,
    Off,
}

/// Which colours the user prefers.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Scheme {
    Light,
    Dark,
}

/// What came of opening a page.
pub(crate) struct Shown {
    /// The document as the browser understood it.
    pub(crate) dom: String,
    /// What it wrote to its console.
    pub(crate) complaints: Vec<String>,
    /// What it wanted to fetch, besides the page.
    pub(crate) requests: Vec<String>,
}

impl Browser {
    /// One whose files are kept under `name`.
    pub(crate) fn new(name: &str) -> Self {
        let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join("html")
            .join(name);
        std::fs::create_dir_all(&directory).unwrap();
        Self {
            directory,
            scratch: tempfile::tempdir().unwrap(),
        }
    }

    /// Opens `page`.
    pub(crate) fn open(&self, page: &str, scripts: Scripts) -> Shown {
        self.open_at(page, scripts, "")
    }

    /// Opens `page` at a fragment (`#…`).
    pub(crate) fn open_at(&self, page: &str, scripts: Scripts, fragment: &str) -> Shown {
        let log = self.scratch.path().join("net-log.json");
        let log_option = format!("--log-net-log={}", log.display());
        let output = self.run(
            page,
            scripts,
            fragment,
            &["--dump-dom", "--enable-logging=stderr", &log_option],
        );
        let dom = String::from_utf8(output.stdout).unwrap();
        assert!(
            dom.contains("</html>"),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let log = std::fs::read(log).unwrap();
        Shown {
            dom,
            complaints: String::from_utf8_lossy(&output.stderr)
                .lines()
                .filter(|line| line.contains("CONSOLE"))
                .map(str::to_owned)
                .collect(),
            requests: requests(&serde_json::from_slice(&log).unwrap()),
        }
    }

    /// What there is to know of how `page` is laid out in so many pixels.
    pub(crate) fn measure(&self, page: &str, width: u32) -> serde_json::Value {
        // A window is never as narrow as a frame can be.
        let escaped = page.replace('&', "&amp;").replace('"', "&quot;");
        let escaped = escaped.replace("Content-Security-Policy", "x");
        let frame = format!(
            "<iframe style=\"border:0;height:3000px;width:{width}px\" srcdoc=\"{escaped}\"></iframe>"
        );
        let outer = format!(
            "<!DOCTYPE html><html><head><script>{MEASURE}</script></head><body>{frame}</body></html>"
        );
        let dom = self.open(&outer, Scripts::On).dom;
        let title = dom
            .split("<title>")
            .nth(1)
            .and_then(|rest| rest.split("</title>").next());
        serde_json::from_str(&title.unwrap().replace("&amp;", "&")).unwrap()
    }

    /// Takes a picture of the top of `page`, as PNG.
    pub(crate) fn picture(&self, page: &str, scheme: Scheme, width: u32) {
        let (name, number) = match scheme {
            Scheme::Light => ("light", 1),
            Scheme::Dark => ("dark", 0),
        };
        let file = self.directory.join(format!("{name}-{width}.png"));
        let file_option = format!("--screenshot={}", file.display());
        let colours = format!("--blink-settings=preferredColorScheme={number}");
        let size = format!("--window-size={width},2400");
        self.run(
            page,
            Scripts::Off,
            "",
            &[&file_option, &colours, &size, "--hide-scrollbars"],
        );
        assert!(file.metadata().unwrap().len() > 10_000);
    }

    fn run(&self, page: &str, scripts: Scripts, fragment: &str, options: &[&str]) -> Output {
        let path = self.directory.join("report.html");
        std::fs::write(&path, page).unwrap();
        let profile = self.profile(scripts);
        let output = Command::new("timeout")
            .args([
                "120",
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
            ])
            .args([
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
            ])
            .args([
                "--disable-sync",
                "--disable-default-apps",
                "--disable-extensions",
            ])
            // Nobody outside is to hear of a test.
            .arg("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
            .arg(format!("--user-data-dir={}", profile.display()))
            .args(options)
            .arg(format!("file://{}{fragment}", path.display()))
            .output()
            .expect("run chromium");
        assert!(
            output.status.success(),
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        output
    }

    /// A profile that allows scripts or not. (The setting of Blink would also stop those by which Chromium itself
    /// tells of a page.)
    fn profile(&self, scripts: Scripts) -> PathBuf {
        let (name, setting) = match scripts {
            Scripts::On => ("with-scripts", 1),
            Scripts::Off => ("without-scripts", 2),
        };
        let profile = self.scratch.path().join(name);
        std::fs::create_dir_all(profile.join("Default")).unwrap();
        let preferences =
            json!({"profile": {"default_content_setting_values": {"javascript": setting}}});
        std::fs::write(profile.join("Default/Preferences"), preferences.to_string()).unwrap();
        profile
    }
}

/// The URLs that pages wanted, in a log of the browser's network (`--log-net-log`).
fn requests(log: &serde_json::Value) -> Vec<String> {
    let events = log["events"].as_array().expect("the log has events").iter();
    let requests = events.filter_map(|event| {
        let (initiator, url) = (
            event["params"]["initiator"].as_str()?,
            event["params"]["url"].as_str()?,
        );
        // The browser itself would like to fetch this and that: then no page is the origin.
        (initiator != "not an origin" && !url.starts_with("file:")).then(|| url.to_owned())
    });
    requests.collect()
}
