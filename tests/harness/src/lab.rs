//! A whole small installation on a fleet: one controller, and agents that enrolled with tokens; it attacks nothing by itself.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{Cmd, Output};
use crate::fleet::{Fleet, FleetPlan};
use crate::host::{Host, tail};
use crate::{programs, wait};

/// The host of the controller; operators type there, and no agent runs on it.
pub const CONTROL: &str = "control";
/// The names under which the fleet's supervisors know our services.
pub const CONTROLLER: &str = "controller";
pub const AGENT: &str = "agent";
const UP: Duration = Duration::from_secs(30);
/// The longest a command of the operator may take, runs included.
const LONGEST: Duration = Duration::from_secs(600);
const SETTINGS: &str = "/etc/fracas/controller.toml";
const SHIPPED_RULES: &str = include_str!("../../../deploy/agent.toml");

/// Which hosts carry agents, with which labels, and in which environment.
#[derive(Debug, Clone)]
pub struct LabPlan {
    name: String,
    environment: String,
    hosts: Vec<(String, Vec<(String, String)>)>,
    rules: String,
    settings: Option<String>,
    /// What follows `fracas-agent run`.
    agent_arguments: Vec<String>,
    writable: Vec<PathBuf>,
    logs: Option<PathBuf>,
}

impl LabPlan {
    pub fn new(name: &str, environment: &str) -> Self {
        Self {
            name: name.to_owned(),
            environment: environment.to_owned(),
            hosts: Vec::new(),
            rules: SHIPPED_RULES.to_owned(),
            settings: None,
            agent_arguments: Vec::new(),
            writable: Vec::new(),
            logs: None,
        }
    }

    /// A host whose only label besides its environment is `role`. A label `env` of its own goes before the plan's.
    pub fn host(self, name: &str, role: &str) -> Self {
        self.host_with(name, &[("role", role)])
    }

    pub fn host_with(mut self, name: &str, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        self.hosts.push((name.to_owned(), labels));
        self
    }

    /// Every agent's agent.toml, instead of the shipped one.
    pub fn rules(mut self, toml: &str) -> Self {
        self.rules = toml.to_owned();
        self
    }

    /// The controller.toml, to which the lab adds the declaration of its environment.
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings = Some(toml.to_owned());
        self
    }

    /// What every agent is started with besides `run`, such as a shorter watchdog.
    pub fn agent_arguments(mut self, arguments: &[&str]) -> Self {
        self.agent_arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        self
    }

    pub fn writable(mut self, folder: impl Into<PathBuf>) -> Self {
        self.writable.push(folder.into());
        self
    }

    pub fn logs(mut self, folder: impl Into<PathBuf>) -> Self {
        self.logs = Some(folder.into());
        self
    }

    /// Makes the hosts; nothing runs on them yet.
    pub fn create(self) -> Result<Lab> {
        let names = [CONTROL].into_iter().chain(self.hosts.iter().map(|(name, _)| name.as_str()));
        let mut fleet = FleetPlan::new(&self.name, names);
        fleet = self.writable.iter().fold(fleet, FleetPlan::writable);
        if let Some(logs) = &self.logs {
            fleet = fleet.logs(logs);
        }
        Ok(Lab {
            fleet: fleet.create()?,
            plan: self,
        })
    }

    fn labels(&self, name: &str) -> BTreeMap<String, String> {
        let of_host = self.hosts.iter().filter(|(host, _)| host == name).flat_map(|(_, labels)| labels);
        let environment = ("env".to_owned(), self.environment.clone());
        [environment].into_iter().chain(of_host.cloned()).collect()
    }

    /// The settings, with the lab's environment declared where they declare none.
    fn controller_toml(&self) -> String {
        let settings = self.settings.clone().unwrap_or_default();
        if settings.contains("[environment.") {
            return settings;
        }
        let production = self.environment == "production";
        format!("{settings}\n[environment.{}]\nproduction = {production}\n", self.environment)
    }

    /// As [`Self::create`], with the controller and every agent up and connected.
    pub fn start(self) -> Result<Lab> {
        let lab = self.create()?;
        lab.start_controller()?;
        let hosts: Vec<String> = lab.agents().map(str::to_owned).collect();
        hosts.iter().try_for_each(|host| lab.join(host))?;
        lab.all_connected()?;
        Ok(lab)
    }
}

pub struct Lab {
    fleet: Fleet,
    plan: LabPlan,
}

impl Lab {
    pub fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    pub fn host(&self, name: &str) -> &Host {
        self.fleet.host(name)
    }

    /// The names of the hosts that carry agents.
    pub fn agents(&self) -> impl Iterator<Item = &str> {
        self.plan.hosts.iter().map(|(name, _)| name.as_str())
    }

    pub fn start_controller(&self) -> Result<()> {
        self.start_controller_with(&[])
    }

    /// With further arguments on its command line.
    pub fn start_controller_with(&self, arguments: &[&str]) -> Result<()> {
        let control = self.host(CONTROL);
        let mut cmd = Cmd::new(programs::find("fracas-controller")?.to_string_lossy());
        control.write(SETTINGS, self.plan.controller_toml())?;
        cmd = cmd.args(["--config", SETTINGS]);
        let folders = ["--state-dir", "/var/lib/fracas/controller", "--run-dir", "/run/fracas"];
        let doors = ["--agents-address", "[::]:7400", "--operators-address", "[::]:7443"];
        control.start(CONTROLLER, &cmd.args(folders).args(doors).args(arguments))?;
        self.controller_up()
    }

    /// Waits until operators are answered.
    pub fn controller_up(&self) -> Result<()> {
        let answers = wait::until("the controller answers", UP, || Ok(self.fracas(&["status"])?.success()));
        answers.map(drop).with_context(|| self.said(CONTROL, CONTROLLER))
    }

    /// Enrols a host with a token of its own and starts its agent.
    pub fn join(&self, name: &str) -> Result<()> {
        let token = self.token(name)?;
        let host = self.host(name);
        host.write("/etc/fracas/agent.toml", with_users(&self.plan.rules))?;
        let agent = programs::find("fracas-agent")?.to_string_lossy().into_owned();
        let enrol = Cmd::new(&agent).args(["enrol", "--controller", "control:7400", "--token-file", "-"]);
        host.exec(enrol.stdin(format!("{token}\n")))?.ok()?;
        self.start_agent(name)
    }

    pub fn start_agent(&self, name: &str) -> Result<()> {
        let agent = programs::find("fracas-agent")?;
        let cmd = Cmd::new(agent.to_string_lossy()).arg("run").args(&self.plan.agent_arguments);
        self.host(name).start(AGENT, &cmd).map(drop)
    }

    /// A join token good for one host, with the labels that this host is to have.
    pub fn token(&self, name: &str) -> Result<String> {
        let mut line = vec![
            "tokens".to_owned(),
            "create".into(),
            "--uses".into(),
            "1".into(),
            "--ttl".into(),
            "10m".into(),
        ];
        for (key, value) in self.plan.labels(name) {
            line.extend(["--label".to_owned(), format!("{key}={value}")]);
        }
        let answer = self.json(&line.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(answer["token"]
            .as_str()
            .context("the answer of `tokens create` holds no token")?
            .to_owned())
    }

    /// Waits until every agent has its session.
    pub fn all_connected(&self) -> Result<()> {
        let wanted = self.plan.hosts.len();
        let connected = || Ok(self.json(&["status"])?["hosts_connected"].as_u64() == u64::try_from(wanted).ok());
        let waited = wait::until(format_args!("{wanted} agents connect"), UP, connected);
        waited.map(drop).with_context(|| {
            let logs: Vec<String> = self.agents().map(|name| self.said(name, AGENT)).collect();
            format!("{}\n{}", self.said(CONTROL, CONTROLLER), logs.join("\n"))
        })
    }

    /// The operator's command, not yet run.
    pub fn command(&self, arguments: &[&str]) -> Result<Cmd> {
        Ok(Cmd::new(programs::find("fracas")?.to_string_lossy())
            .args(arguments)
            .env("NO_COLOR", "1"))
    }

    /// Runs `fracas ARGUMENTS` on the controller's host, whatever it answers.
    pub fn fracas(&self, arguments: &[&str]) -> Result<Output> {
        self.host(CONTROL)
            .exec(self.command(arguments)?.env("NO_COLOR", "1").limit(LONGEST))
    }

    /// Runs `fracas ARGUMENTS -o json` and reads the document it prints.
    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.fracas(&[arguments, &["-o", "json"]].concat())?.ok()?;
        serde_json::from_str(&text).with_context(|| format!("read the answer of fracas {}", arguments.join(" ")))
    }

    /// Kills an agent's first process and its guardian at once; the supervisor starts the agent again or not.
    pub fn kill_agent_and_guardian(&self, name: &str, then: crate::Then) -> Result<()> {
        let host = self.host(name);
        let processes = host.processes_named("fracas-agent")?;
        if processes.is_empty() {
            bail!("no agent runs on {name}");
        }
        for process in processes
            .iter()
            .filter(|process| process.command.iter().any(|word| word == "guardian"))
        {
            host.signal(process.pid, nix::libc::SIGKILL)?;
        }
        host.kill9(AGENT, then)
    }

    fn said(&self, host: &str, service: &str) -> String {
        let log = self.host(host).log(service);
        format!("{}:\n{}", log.display(), tail(&log, 20))
    }
}

/// The shipped agent.toml, as [`with_users`] makes it fit the suites' machine.
pub fn shipped_rules() -> String {
    with_users(SHIPPED_RULES)
}

/// The same rules for users that every Debian has, each for one purpose here: those of packages are not on the suites' machine.
fn with_users(rules: &str) -> String {
    let (session, workers) = ("session = \"nobody\"", "workers = \"daemon\"");
    match rules.contains("[users]") {
        true => rules
            .replace("session = \"fracas\"", session)
            .replace("workers = \"fracas-load\"", workers),
        false => format!("{rules}\n[users]\n{session}\n{workers}\n"),
    }
}
