//! One page in the browser: go there, read it, type and click, take its picture; whatever it complained of is kept.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use serde_json::{Value, json};
use tests_harness::wait;

use crate::devtools::Browser;

const SHOWN_WITHIN: Duration = Duration::from_secs(20);

pub struct Page<'a> {
    browser: &'a mut Browser,
    session: String,
    complaints: Vec<String>,
}

impl<'a> Page<'a> {
    pub(crate) fn new(browser: &'a mut Browser, session: String) -> Self {
        Self {
            browser,
            session,
            complaints: Vec::new(),
        }
    }

    pub fn go(&mut self, url: &str) -> Result<()> {
        let gone = self.call("Page.navigate", json!({ "url": url }))?;
        if let Some(error) = gone["errorText"].as_str() {
            bail!("{url}: {error}");
        }
        self.until("the page is loaded", "document.readyState === 'complete'")
    }

    /// The value of an expression on the page.
    pub fn ask(&mut self, expression: &str) -> Result<Value> {
        let answer = self.call(
            "Runtime.evaluate",
            json!({"expression": expression, "returnByValue": true, "awaitPromise": true}),
        )?;
        if let Some(thrown) = answer.get("exceptionDetails") {
            bail!("{expression}: {thrown}");
        }
        Ok(answer["result"]["value"].clone())
    }

    /// All that can be read.
    pub fn text(&mut self) -> Result<String> {
        Ok(self.ask("document.body.innerText")?.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until an expression is true.
    pub fn until(&mut self, what: &str, expression: &str) -> Result<()> {
        let mut last = None;
        let looked = || {
            let answer = self.ask(expression);
            let holds = answer.as_ref().is_ok_and(|value| *value == true);
            last = Some(answer);
            Ok(holds)
        };
        let waited = wait::until(what, SHOWN_WITHIN, looked).map(drop);
        waited.with_context(|| format!("at last {expression} was {last:?}"))
    }

    /// Waits until this can be read.
    pub fn shows(&mut self, words: &str) -> Result<()> {
        let expression = format!("document.body.innerText.includes({})", json!(words));
        match self.until(&format!("the page shows {words:?}"), &expression) {
            Ok(()) => Ok(()),
            Err(error) => Err(error).context(self.text().unwrap_or_default()),
        }
    }

    /// Puts text into the field that matches.
    pub fn fill(&mut self, field: &str, text: &str) -> Result<()> {
        self.ask(&format!("document.querySelector({}).focus()", json!(field)))?;
        self.call("Input.insertText", json!({ "text": text })).map(drop)
    }

    /// Presses the mouse on the middle of what matches.
    pub fn click(&mut self, what: &str) -> Result<()> {
        let middle = format!(
            "(() => {{ const e = document.querySelector({}); e.scrollIntoView({{block: 'center'}}); const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]; }})()",
            json!(what)
        );
        let place = self.ask(&middle).with_context(|| format!("nothing to click at {what}"))?;
        for kind in ["mousePressed", "mouseReleased"] {
            let press = json!({"type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1});
            self.call("Input.dispatchMouseEvent", press)?;
        }
        Ok(())
    }

    /// Light or dark, as the reader's machine would say.
    pub fn prefer(&mut self, scheme: &str) -> Result<()> {
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.call("Emulation.setEmulatedMedia", features).map(drop)
    }

    /// The whole page as a PNG.
    pub fn picture(&mut self, file: &Path) -> Result<()> {
        let shot = self.call("Page.captureScreenshot", json!({"format": "png", "captureBeyondViewport": true}))?;
        let bytes = base64::engine::general_purpose::STANDARD.decode(shot["data"].as_str().context("a picture has data")?)?;
        std::fs::write(file, bytes).with_context(|| format!("write {}", file.display()))
    }

    /// Errors of scripts and what the content policy stopped, since the page was opened.
    pub fn complaints(&mut self) -> Result<Vec<String>> {
        self.ask("1")?;
        Ok(self.complaints.clone())
    }

    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        let (browser, complaints) = (&mut *self.browser, &mut self.complaints);
        browser.call_hearing(Some(&self.session), method, params, |said| {
            let what = match said["method"].as_str() {
                Some("Runtime.exceptionThrown") => &said["params"]["exceptionDetails"],
                Some("Log.entryAdded") if said["params"]["entry"]["level"] == "error" => &said["params"]["entry"],
                _ => return,
            };
            complaints.push(what.to_string());
        })
    }
}
