//! A real Firefox, headless, in a profile of its own, driven over Marionette: frames of
//! `<length>:<JSON>`, where a command is `[0, number, name, parameters]` and its answer
//! `[1, number, error, result]`.
//!
//! Absent here: the page, and anything of Postrider.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

/// Longest wait for the browser: it may have to share its processor with the rest of the suite.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest frame that is read.
const FRAME_BYTES_MAX: usize = 16 << 20;

/// What a fresh profile needs, beside the address of the push service. Notifications are allowed
/// and drawn by Firefox itself, since a machine without a desktop has nobody else to draw them; and
/// nothing is fetched from the network.
const PREFERENCES: &[(&str, &str)] = &[
    ("dom.push.testing.allowInsecureServerURL", "true"),
    // Marionette takes the push service away where a profile does not ask for it.
    ("dom.push.connection.enabled", "true"),
    ("permissions.default.desktop-notification", "1"),
    ("alerts.useSystemBackend", "false"),
    ("marionette.port", "0"),
    ("app.update.disabledForTesting", "true"),
    ("app.normandy.enabled", "false"),
    ("browser.newtabpage.enabled", "false"),
    ("browser.safebrowsing.update.enabled", "false"),
    ("browser.shell.checkDefaultBrowser", "false"),
    ("browser.startup.homepage_override.mstone", "\"ignore\""),
    ("browser.startup.page", "0"),
    ("browser.topsites.contile.enabled", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("extensions.getAddons.cache.enabled", "false"),
    ("extensions.systemAddon.update.enabled", "false"),
    ("media.gmp-manager.updateEnabled", "false"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("services.settings.server", "\"data:,\""),
    ("toolkit.telemetry.enabled", "false"),
    // A notification that is closed goes at once, without an animation.
    ("ui.prefersReducedMotion", "1"),
];

/// A running Firefox. It ends when it is dropped.
pub struct Firefox {
    _process: Child,
    _profile: tempfile::TempDir,
    socket: TcpStream,
    commands: u64,
}

impl Firefox {
    /// Starts a Firefox whose push service is at `push_url`.
    pub async fn start(push_url: &str) -> Firefox {
        let profile = tempfile::tempdir().expect("a directory");
        let mut preferences = format!("user_pref(\"dom.push.serverURL\", {push_url:?});\n");
        for (name, value) in PREFERENCES {
            preferences.push_str(&format!("user_pref({name:?}, {value});\n"));
        }
        std::fs::write(profile.path().join("user.js"), preferences).expect("it is written");
        let process = Command::new("firefox-esr")
            .args(["--headless", "--no-remote", "--marionette"])
            .args(["--remote-allow-system-access", "--profile"])
            .arg(profile.path())
            .env("HOME", profile.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("firefox-esr runs: install the Debian package");
        let port = port(profile.path()).await;
        let mut firefox = Firefox {
            _process: process,
            _profile: profile,
            socket: connect(port).await,
            commands: 0,
        };
        let hello = firefox.read().await;
        assert_eq!(hello["marionetteProtocol"], 3, "{hello}");
        let capabilities = json!({ "capabilities": {} });
        firefox.command("WebDriver:NewSession", capabilities).await;
        firefox
    }

    /// Opens a page and waits until it has loaded.
    pub async fn open(&mut self, url: &str) {
        self.command("WebDriver:Navigate", json!({ "url": url }))
            .await;
    }

    /// Runs the body of an async function in the page, with `input` as its only argument, and
    /// returns what it returns. What it throws is a failure here.
    pub async fn page(&mut self, script: &str, input: Value) -> Value {
        let script = format!(
            "const [input, done] = arguments;
             (async () => {{ {script} }})().then(
                 (value) => done([value ?? null]),
                 (error) => done(`${{error}}\n${{error.stack}}`),
             );"
        );
        let parameters = json!({
            "script": script, "args": [input], "newSandbox": true, "scriptTimeout": 60_000,
        });
        let answer = self
            .command("WebDriver:ExecuteAsyncScript", parameters)
            .await;
        match &answer["value"] {
            Value::Array(value) => value[0].clone(),
            error => panic!("the page: {error}"),
        }
    }

    /// Clicks on what is shown under this title, as a person would.
    pub async fn click(&mut self, title: &str) {
        self.touch(title, "alertBox").await;
    }

    /// Puts away what is shown under this title.
    pub async fn dismiss(&mut self, title: &str) {
        self.touch(title, "alert-close").await;
    }

    async fn touch(&mut self, title: &str, part: &str) {
        let script = format!(
            "const part = (alert, id) => alert.document.getElementById(id);
             const is_it = (alert) => part(alert, 'alertTitleLabel').value === {title:?};
             const shown = [...Services.wm.getEnumerator('alert:alert')].filter(is_it);
             shown.forEach((alert) => part(alert, {part:?}).click());
             return shown.length;"
        );
        assert_eq!(self.chrome(&script).await, 1, "{title} is shown once");
    }

    /// Runs the body of a function with the rights of the browser itself.
    async fn chrome(&mut self, script: &str) -> Value {
        self.command("Marionette:SetContext", json!({ "value": "chrome" }))
            .await;
        let parameters = json!({ "script": script, "args": [] });
        let answer = self.command("WebDriver:ExecuteScript", parameters).await;
        self.command("Marionette:SetContext", json!({ "value": "content" }))
            .await;
        answer["value"].clone()
    }

    async fn command(&mut self, name: &str, parameters: Value) -> Value {
        self.commands += 1;
        let frame = json!([0, self.commands, name, parameters]).to_string();
        let frame = format!("{}:{frame}", frame.len());
        self.socket
            .write_all(frame.as_bytes())
            .await
            .expect("it listens");
        let answer = self.read().await;
        assert_eq!(answer[1], self.commands, "{answer}");
        assert!(answer[2].is_null(), "{name}: {}", answer[2]);
        answer[3].clone()
    }

    async fn read(&mut self) -> Value {
        let socket = &mut self.socket;
        let frame = async {
            let mut length = 0;
            loop {
                match socket.read_u8().await? {
                    b':' => break,
                    digit => length = length * 10 + usize::from(digit - b'0'),
                }
            }
            assert!(length <= FRAME_BYTES_MAX, "a frame of {length} bytes");
            let mut frame = vec![0; length];
            socket.read_exact(&mut frame).await?;
            std::io::Result::Ok(frame)
        };
        let frame = tokio::time::timeout(PATIENCE, frame).await;
        let frame = frame.expect("an answer in time").expect("the browser runs");
        serde_json::from_slice(&frame).expect("JSON")
    }
}

/// Where it can be driven: it writes the port down once it listens.
async fn port(profile: &Path) -> u16 {
    let file = profile.join("MarionetteActivePort");
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let written = async {
        loop {
            look.tick().await;
            let text = std::fs::read_to_string(&file).unwrap_or_default();
            if let Ok(port) = text.trim().parse() {
                return port;
            }
        }
    };
    let port = tokio::time::timeout(PATIENCE, written).await;
    port.expect("the browser listens in time")
}

#[expect(
    clippy::disallowed_methods,
    reason = "the driver's own connection, on loopback"
)]
async fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).await;
    stream.expect("the browser listens")
}
