//! An authority that gives way to the next under a real controller and a real agent: each phase over a session that is up, over a new one, and
//! over the controller's death in between; and who is left behind.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use proto_model::exit;
use serde_json::Value;
use tests_harness::{programs, report, wait};
use tests_it::{Controller, Said, impossible};

/// How long an agent may take to come, to store what it is sent, or to come back.
const WITHIN: Duration = Duration::from_secs(60);

/// `fracas-agent` with folders of its own. It gets no fault.
struct Agent {
    name: &'static str,
    folder: PathBuf,
    process: Option<Child>,
}

impl Agent {
    fn enrolled(controller: &Controller, name: &'static str) -> Result<Self> {
        let folder = controller.folder().join(name);
        std::fs::create_dir(&folder)?;
        let agent = Self {
            name,
            folder,
            process: None,
        };
        agent.enrol(controller)?;
        Ok(agent)
    }

    fn enrol(&self, controller: &Controller) -> Result<()> {
        let made = controller.fracas(&["tokens", "create", "--label", "env=staging", "-o", "json"])?;
        let token = json(&made)?["token"].as_str().context("a token")?.to_owned();
        std::fs::write(self.folder.join("agent.toml"), tests_harness::shipped_rules())?;
        let mut enrol = self.program()?;
        let enrol = enrol.args(["enrol", "--controller", &controller.address("agents")?, "--name", self.name]);
        let output = enrol.env("FRACAS_JOIN_TOKEN", token).output().context("run fracas-agent enrol")?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        let log = std::fs::File::create(self.folder.join("agent.log"))?;
        let process = self.program()?.arg("run").stdout(Stdio::null()).stderr(log).spawn();
        self.process = Some(process.context("start fracas-agent")?);
        Ok(())
    }

    fn program(&self) -> Result<Command> {
        let mut program = Command::new(programs::find("fracas-agent")?);
        program.arg("--config").arg(self.folder.join("agent.toml"));
        program.arg("--state-dir").arg(self.folder.join("state"));
        program.arg("--run-dir").arg(self.folder.join("run"));
        // An agent removes groups of ours that it does not know, and other tests may hold some.
        program.args(["--group-root", "/authority-test"]).stdin(Stdio::null());
        Ok(program)
    }

    /// How many authorities it trusts, by its own file.
    fn trusts(&self) -> Result<usize> {
        let bundle = std::fs::read_to_string(self.folder.join("state/identity/authority.pem"))?;
        Ok(bundle.matches("BEGIN CERTIFICATE").count())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It holds nothing; its guardian sees it go and ends.
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn json(said: &Said) -> Result<Value> {
    serde_json::from_str(&said.out).with_context(|| format!("{said:?}"))
}

fn shown(controller: &Controller) -> Result<Value> {
    json(&controller.fracas(&["authority", "show", "-o", "json"])?)
}

fn fingerprint(shown: &Value, at: usize) -> String {
    shown["authorities"][at]["fingerprint"].as_str().unwrap_or_default().to_owned()
}

fn rotate(controller: &Controller, args: &[&str]) -> Result<Said> {
    controller.fracas(&[&["authority", "rotate"], args].concat())
}

fn expect(said: &Said, code: u8, words: &[&str]) {
    assert_eq!(said.code, i32::from(code), "{said:?}");
    for word in words {
        assert!(said.err.contains(word) || said.out.contains(word), "{word:?} is not in {said:?}");
    }
}

/// Kills the controller as a crash would, and starts its successor where agents look for it.
fn crashed(controller: Controller, folder: &Path) -> Result<Controller> {
    let address = controller.address("agents")?;
    controller.kill()?;
    Controller::start_at(folder, &address)
}

fn connected(controller: &Controller, host: &str) -> Result<bool> {
    let said = controller.fracas(&["hosts", "show", host, "-o", "json"])?;
    Ok(said.code == 0 && json(&said)?["connection"] == "connected")
}

fn until_connected(controller: &Controller, host: &str) -> Result<()> {
    wait::until(format!("{host} is connected"), WITHIN, || connected(controller, host)).map(drop)
}

/// Until so many hosts trust the authority at this place, and so many have their certificates of it.
fn until_counts(controller: &Controller, at: usize, trusting: u64, certified: u64) -> Result<()> {
    let what = format!("{trusting} hosts trust the authority at {at}, {certified} have its certificates");
    wait::until(what, WITHIN, || {
        let one = &shown(controller)?["authorities"][at];
        Ok(one["hosts_trusting"] == trusting && one["hosts_certified"] == certified)
    })
    .map(drop)
}

fn issue(folder: &Path, name: &str, out: &str) -> Result<()> {
    let mut program = Command::new(programs::find("fracas-controller")?);
    let program = program
        .arg("--state-dir")
        .arg(folder.join("state"))
        .arg("--config")
        .arg(folder.join("controller.toml"));
    let status = program
        .args(["--issue-operator", name, "--role", "viewer", "--out"])
        .arg(folder.join(out));
    let status = status.stdout(Stdio::null()).status().context("issue an operator's certificate")?;
    assert!(status.success());
    Ok(())
}

/// Who missed a rotation is not let in by what it has.
fn returns_by_a_new_token_alone(controller: &Controller, away: &mut Agent) -> Result<()> {
    away.start()?;
    let log = away.folder.join("agent.log");
    wait::until("the one that was away tries", WITHIN, || {
        Ok(std::fs::read_to_string(&log)?.contains("no session"))
    })?;
    assert!(!connected(controller, "away")?);
    away.enrol(controller)?;
    until_connected(controller, "away")?;
    Ok(())
}

#[test]
fn an_authority_gives_way_to_the_next_and_only_who_is_named_is_left_behind() -> Result<()> {
    if let Some(why) = impossible() {
        report::skip(&why);
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let controller = Controller::start(folder.path())?;
    issue(folder.path(), "ann", "ann-1")?;
    let mut web = Agent::enrolled(&controller, "web")?;
    let mut away = Agent::enrolled(&controller, "away")?;
    web.start()?;
    until_connected(&controller, "web")?;
    until_counts(&controller, 0, 1, 2)?;
    let first = fingerprint(&shown(&controller)?, 0);
    expect(
        &rotate(&controller, &["switch"])?,
        exit::ERROR,
        &["no rotation is going", "prepare"],
    );

    // Prepared over a session that is up, and durable at once.
    expect(&rotate(&controller, &["prepare"])?, exit::OK, &["prepared"]);
    let controller = crashed(controller, folder.path())?;
    expect(&rotate(&controller, &["prepare"])?, exit::OK, &["already"]);
    until_connected(&controller, "web")?;
    until_counts(&controller, 1, 1, 0)?;
    assert_eq!((web.trusts()?, away.trusts()?), (2, 1));
    let next = fingerprint(&shown(&controller)?, 1);
    expect(&rotate(&controller, &["finish"])?, exit::ERROR, &["not in force yet", "switch"]);

    // Who was away is named, and nothing happens until somebody names it too.
    expect(
        &rotate(&controller, &["switch"])?,
        exit::ERROR,
        &["shut out 1", "away", "--abandon away"],
    );
    expect(&rotate(&controller, &["switch", "--abandon", "web"])?, exit::ERROR, &["away"]);
    assert_eq!(fingerprint(&shown(&controller)?, 0), first);
    expect(&rotate(&controller, &["switch", "--abandon", "away"])?, exit::OK, &["switched"]);
    expect(&rotate(&controller, &["switch"])?, exit::OK, &["already"]);
    expect(&rotate(&controller, &["cancel"])?, exit::ERROR, &["finish"]);
    assert_eq!(fingerprint(&shown(&controller)?, 0), next);
    until_counts(&controller, 0, 1, 1)?;
    let controller = crashed(controller, folder.path())?;
    until_connected(&controller, "web")?;

    // An operator whose only certificate is an old one is named as a host is.
    let refused = rotate(&controller, &["finish", "--abandon", "away"])?;
    expect(&refused, exit::ERROR, &["shut out 1", "operator/ann"]);
    issue(folder.path(), "ann", "ann-2")?;
    expect(&rotate(&controller, &["finish", "--abandon", "away"])?, exit::OK, &["settled"]);
    let controller = crashed(controller, folder.path())?;
    expect(&rotate(&controller, &["finish"])?, exit::OK, &["already"]);
    until_connected(&controller, "web")?;
    wait::until("web trusts the new authority alone", WITHIN, || Ok(web.trusts()? == 1))?;
    let now = shown(&controller)?;
    assert_eq!((fingerprint(&now, 0), now["authorities"].as_array().map(Vec::len)), (next, Some(1)));

    returns_by_a_new_token_alone(&controller, &mut away)?;
    let audit = controller.fracas(&["audit", "list", "-o", "json"])?;
    assert!(
        audit.out.contains("Authority/Rotate") && audit.out.contains("shut out: away"),
        "{audit:?}"
    );
    Ok(())
}
