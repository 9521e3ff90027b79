//! Chromium's own protocol over a pipe: one JSON message per zero byte; no port is opened, and every wait has a limit.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests_harness::{Host, packages};

use crate::page::Page;

/// How long one answer may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Messages that may wait to be read.
const WAITING: usize = 1_024;
const WINDOW: &str = "--window-size=1280,1000";

/// A browser that stands on one host's network and nowhere else; it is ended when this is dropped.
pub struct Browser {
    process: Child,
    orders: ChildStdin,
    said: Receiver<Value>,
    last_id: u64,
    _profile: TempDir,
}

impl Browser {
    /// Starts one in this host's network.
    pub fn start(host: &Host) -> Result<Self> {
        let profile = tempfile::tempdir().context("make the browser's folder")?;
        let program = packages::tool("chromium-headless-shell")?;
        // The protocol speaks on file descriptors 3 and 4.
        let line = format!(
            "exec nsenter --net=/proc/{}/ns/net -- {} --no-sandbox --remote-debugging-pipe --disable-gpu \
             --ignore-certificate-errors --hide-scrollbars --force-color-profile=srgb {WINDOW} --user-data-dir={} \
             3<&0 4>&1 </dev/null >/dev/null 2>&1",
            host.init_pid(),
            program.display(),
            profile.path().display(),
        );
        let mut process = Command::new("sh")
            .args(["-c", &line])
            .env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start chromium")?;
        let (orders, answers) = process.stdin.take().zip(process.stdout.take()).context("chromium's pipes")?;
        let (sender, said) = mpsc::sync_channel(WAITING);
        std::thread::spawn(move || {
            for message in BufReader::new(answers).split(0).map_while(Result::ok) {
                let Ok(message) = serde_json::from_slice(&message) else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            process,
            orders,
            said,
            last_id: 0,
            _profile: profile,
        })
    }

    /// A page of its own, with nothing on it yet.
    pub fn open(&mut self) -> Result<Page<'_>> {
        let target = self.call(None, "Target.createTarget", json!({"url": "about:blank"}))?;
        let target = target["targetId"].as_str().context("a target has an id")?.to_owned();
        let attached = self.call(None, "Target.attachToTarget", json!({"targetId": target, "flatten": true}))?;
        let session = attached["sessionId"].as_str().context("a session has an id")?.to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable", "Network.enable"] {
            self.call(Some(&session), domain, json!({}))?;
        }
        Ok(Page::new(self, session))
    }

    /// Sends one order and waits for its answer; what else is said meanwhile goes to `heard`.
    pub(crate) fn call_hearing(
        &mut self,
        session: Option<&str>,
        method: &str,
        params: Value,
        mut heard: impl FnMut(Value),
    ) -> Result<Value> {
        self.last_id += 1;
        let id = self.last_id;
        let mut order = json!({"id": id, "method": method, "params": params});
        if let Some(session) = session {
            order["sessionId"] = session.into();
        }
        let mut bytes = serde_json::to_vec(&order)?;
        bytes.push(0);
        self.orders.write_all(&bytes).with_context(|| format!("tell chromium {method}"))?;
        let until = Instant::now() + ANSWER_WITHIN;
        loop {
            let message = match self.said.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => bail!("chromium did not answer {method} within {ANSWER_WITHIN:?}"),
                Err(RecvTimeoutError::Disconnected) => bail!("chromium ended before it answered {method}"),
            };
            if message["id"] != id {
                heard(message);
                continue;
            }
            if let Some(error) = message.get("error") {
                bail!("chromium refused {method}: {error}");
            }
            return Ok(message["result"].clone());
        }
    }

    fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Result<Value> {
        self.call_hearing(session, method, params, drop)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its children end with it; it may have ended already.
        let _ = self.call(None, "Browser.close", json!({}));
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
