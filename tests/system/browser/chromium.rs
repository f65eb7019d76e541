//! Chromium, controlled by its DevTools protocol.
//!
//! The protocol uses two pipes (`--remote-debugging-pipe`) and JSON messages, each ended by a zero byte. So no port is
//! opened, and no client library is needed.

#![expect(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

/// The time-out for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Chromium's arguments: they disable everything of its own that uses the network.
const FLAGS: &str = "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --disable-quic --disable-extensions --disable-dev-shm-usage --hide-scrollbars \
    --remote-debugging-pipe";

pub struct Chromium {
    browser: Child,
    commands: File,
    messages: Receiver<Value>,
    session: String,
    last_id: u64,
    /// Events that arrived while an answer was awaited.
    events: Vec<Value>,
    _profile: TempDir,
}

impl Chromium {
    /// Starts chromium. `None`, with a message, if it is not installed; a failure if everything is required.
    pub fn start() -> Option<Chromium> {
        let program = crate::support::program(&["chromium", "chromium-browser", "google-chrome"])?;
        let profile = tempfile::tempdir().unwrap();
        let pipes = ["commands", "messages"].map(|name| profile.path().join(name));
        assert!(Command::new("mkfifo").args(&pipes).status().unwrap().success());
        let script = r#"exec "$0" $1 --user-data-dir="$2/profile" about:blank 3<"$2/commands" 4>"$2/messages""#;
        let browser = Command::new("sh")
            .args(["-c", script, program, FLAGS])
            .arg(profile.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = OpenOptions::new().write(true).open(&pipes[0]).unwrap();
        let answers = BufReader::new(File::open(&pipes[1]).unwrap());
        let (send, messages) = channel();
        thread::spawn(move || {
            for message in answers.split(0).map_while(Result::ok) {
                let message = serde_json::from_slice(&message).unwrap();
                if send.send(message).is_err() {
                    break;
                }
            }
        });
        let mut chromium = Chromium {
            browser,
            commands,
            messages,
            session: String::new(),
            last_id: 0,
            events: Vec::new(),
            _profile: profile,
        };
        let target = chromium.call("Target.createTarget", json!({"url": "about:blank"}));
        let attached = chromium.call(
            "Target.attachToTarget",
            json!({"targetId": target["targetId"], "flatten": true}),
        );
        chromium.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page", "Runtime", "Log", "Network"] {
            chromium.call(&format!("{domain}.enable"), json!({}));
        }
        Some(chromium)
    }

    fn receive(&mut self) -> Value {
        self.messages.recv_timeout(PATIENCE).expect("chromium answers")
    }

    /// Calls a method and waits for its result.
    pub fn call(&mut self, method: &str, params: Value) -> Value {
        self.last_id += 1;
        let mut message = json!({"id": self.last_id, "method": method, "params": params});
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let mut bytes = serde_json::to_vec(&message).unwrap();
        bytes.push(0);
        self.commands.write_all(&bytes).unwrap();
        loop {
            let mut answer = self.receive();
            if answer["id"] == self.last_id {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].take();
            }
            self.events.push(answer);
        }
    }

    /// Opens a page on a screen that is `width` pixels wide; returns its log messages and its requests, without its own.
    pub fn open(&mut self, page: &Path, width: u32, is_dark: bool) -> Vec<String> {
        self.call(
            "Emulation.setDeviceMetricsOverride",
            json!({"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}),
        );
        let scheme = if is_dark { "dark" } else { "light" };
        self.call(
            "Emulation.setEmulatedMedia",
            json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]}),
        );
        self.events.clear();
        let url = url(page);
        self.call("Page.navigate", json!({"url": url}));
        self.incidents(&url)
    }

    /// Waits until the page has reloaded itself; returns the same.
    pub fn wait_for_reload(&mut self, page: &Path) -> Vec<String> {
        self.incidents(&url(page))
    }

    /// Waits until the page at `url` is loaded.
    fn incidents(&mut self, url: &str) -> Vec<String> {
        while !self.events.iter().any(|event| event["method"] == "Page.loadEventFired") {
            let event = self.receive();
            self.events.push(event);
        }
        // Pending events have arrived before this answer.
        self.evaluate("new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))");
        let mut incidents = Vec::new();
        for event in self.events.drain(..) {
            let params = &event["params"];
            match event["method"].as_str().unwrap_or_default() {
                "Runtime.consoleAPICalled" | "Runtime.exceptionThrown" | "Log.entryAdded" => {
                    incidents.push(event.to_string());
                }
                "Network.requestWillBeSent" if params["request"]["url"] != url => {
                    incidents.push(event.to_string());
                }
                _ => {}
            }
        }
        incidents
    }

    /// The value of a JavaScript expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let mut result = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        );
        assert!(result["exceptionDetails"].is_null(), "{expression}: {result}");
        result["result"]["value"].take()
    }

    /// Moves the pointer there.
    pub fn point_at(&mut self, x: f64, y: f64) {
        self.call(
            "Input.dispatchMouseEvent",
            json!({"type": "mouseMoved", "x": x, "y": y}),
        );
    }

    /// Saves a picture of the whole page, if the environment names a directory for it.
    pub fn picture(&mut self, name: &str) {
        let Some(directory) = std::env::var_os("ZIM_TEST_PICTURES") else {
            return;
        };
        let picture = self.call(
            "Page.captureScreenshot",
            json!({"format": "png", "captureBeyondViewport": true}),
        );
        let base64 = Path::new(&directory).join(format!("{name}.base64"));
        fs::write(&base64, picture["data"].as_str().unwrap()).unwrap();
        let png = File::create(Path::new(&directory).join(format!("{name}.png"))).unwrap();
        assert!(
            Command::new("base64")
                .arg("-d")
                .arg(&base64)
                .stdout(png)
                .status()
                .unwrap()
                .success()
        );
        fs::remove_file(base64).unwrap();
    }
}

fn url(page: &Path) -> String {
    format!("file://{}", page.canonicalize().unwrap().display())
}

impl Drop for Chromium {
    fn drop(&mut self) {
        self.session.clear();
        let _ = self.commands.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        for _ in 0..500 {
            if self.browser.try_wait().is_ok_and(|status| status.is_some()) {
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.browser.kill().ok();
        self.browser.wait().ok();
    }
}
