//! The Ansible role on a machine, by ssh: it installs and enrols, changes nothing the second time, refuses wrong rules, upgrades and removes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tests_harness::python::{ANSIBLE_CORE, Installed, PythonTools};
use tests_harness::{Cmd, Output, programs, wait};

use super::held::expect_no_process;
use super::higher::{HIGHER, higher_version};
use super::{Case, Extent, Figures};
use crate::site::{BALLAST, HOST, Site};

pub(super) const CASES: [Case; 1] = [Case {
    name: "ansible",
    what: "the Ansible role installs, enrols, changes nothing again, upgrades and removes an agent",
    extent: Extent::Long,
    run,
}];

const TOOLS: PythonTools = PythonTools {
    name: "ansible",
    packages: &[ANSIBLE_CORE],
};
/// A playbook by ssh to an emulated machine.
const PLAYBOOK: Duration = Duration::from_secs(600);
/// A fault that a playbook has to end: it lasts longer than any playbook may take. The rules of the host allow it.
const LASTS: &str = "15m";
const MAX_DURATION: &str = "17m";
const SOON: Duration = Duration::from_secs(60);
/// What the role puts on a host, and a purge takes away.
const PLACES: &str = "/usr/bin/fracas-agent /etc/fracas/agent.toml /var/lib/fracas/agent /run/fracas-agent /var/cache/fracas-agent";

fn run(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    // The machine has its controller, and the role begins with nothing.
    site.purge()?;
    wait::until("the host can be removed", SOON, || {
        Ok(site
            .fracas(&["hosts", "remove", HOST, "--reason", "made anew by Ansible"])?
            .success())
    })?;
    let node = Node::new(site)?;
    let rules = json!({ "faults": { "max_duration": MAX_DURATION }, "limits": [{ "faults": "cpu.*", "parameter": "percent", "max": 90 }] });

    let looked = node.play(site, "install.yml", &["--check"], &json!({ "fracas_agent_config": rules }))?;
    looked.passed()?;
    expect_absent(site).context("a run with --check has changed the host")?;

    let installed = node.play(site, "install.yml", &[], &json!({ "fracas_agent_config": rules }))?;
    figures.note("the role installs and enrols the agent", installed.took);
    ensure!(installed.passed()? > 0, "nothing was changed: {}", installed.output.stdout);
    ensure!(
        installed
            .output
            .stdout
            .contains("kinds of fault that the host allows can be injected"),
        "the doctor's findings are not shown: {}",
        installed.output.stdout
    );
    site.connected_and_clean_within(SOON)?;
    let written = site.machine().sh("cat /etc/fracas/agent.toml")?.ok()?;
    ensure!(
        written.contains(&format!("max_duration = \"{MAX_DURATION}\"")) && written.contains("[[limits]]"),
        "{written}"
    );

    let again = node.play(site, "install.yml", &[], &json!({ "fracas_agent_config": rules }))?;
    figures.note("the role changes nothing the second time", again.took);
    ensure!(again.passed()? == 0, "the second run has changed the host: {}", again.output.stdout);

    expect_refusals(site, &node, &written)?;
    upgrade(site, &node, figures)?;
    expect_refused_removal(site, &node)?;
    let removed = node.play(site, "remove.yml", &[], &json!({ "fracas_agent_purge": true }))?;
    figures.note("the role removes the agent, and the host from the fleet", removed.took);
    removed.passed()?;
    expect_absent(site)?;
    ensure!(!site.fracas(&["hosts", "show", HOST])?.success(), "the host is still in the fleet");
    let again = node.play(site, "remove.yml", &[], &json!({ "fracas_agent_purge": true }))?;
    ensure!(
        again.passed()? == 0,
        "the second removal has changed something: {}",
        again.output.stdout
    );
    site.agent_was_purged();
    Ok(())
}

/// Of wrong rules, and of a host for which there is no package; neither changes anything.
fn expect_refusals(site: &Site, node: &Node, rules: &str) -> Result<()> {
    let wrong = node.play(
        site,
        "install.yml",
        &[],
        &json!({ "fracas_agent_config": { "faults": { "alow": [] } } }),
    )?;
    ensure!(
        !wrong.output.success() && wrong.output.stdout.contains("unknown field `alow`"),
        "wrong rules were not refused: {}",
        wrong.output.stdout
    );
    ensure!(
        site.machine().sh("cat /etc/fracas/agent.toml")?.ok()? == rules,
        "wrong rules were put in place"
    );
    site.machine().sh("systemctl is-active fracas-agent")?.ok()?;

    let elsewhere = node.play(site, "install.yml", &[], &json!({ "fracas_agent_installer": "pacman" }))?;
    ensure!(
        !elsewhere.output.success() && elsewhere.output.stdout.contains("packages by pacman"),
        "a host without a package was not refused: {}",
        elsewhere.output.stdout
    );
    Ok(())
}

/// To a higher version, while a fault acts: it is aborted, and the host is open and clean afterwards.
fn upgrade(site: &Site, node: &Node, figures: &mut Figures<'_>) -> Result<()> {
    let newer = node.newer()?;
    let run = site.attack(&BALLAST, LASTS)?;
    let variables = json!({ "fracas_agent_package_deb": newer, "fracas_agent_drain_seconds": 0 });
    let upgraded = node.play(site, "upgrade.yml", &[], &variables)?;
    figures.note("the role upgrades the agent during a filled volume", upgraded.took);
    ensure!(upgraded.passed()? > 0, "nothing was changed: {}", upgraded.output.stdout);
    let version = site.machine().sh("dpkg-query -W -f '${Version}' fracas-agent")?.ok()?;
    ensure!(version.ends_with(HIGHER), "the installed version is {version}");
    ensure!(
        site.is_connected_and_clean()?,
        "the host is not connected and clean after the upgrade"
    );
    expect_availability(site, "open").context("after the upgrade")?;
    let run = site.finished(&run)?;
    ensure!(
        run["injections"][0]["ended_by"] == "ended_early",
        "the upgrade did not end the fault: {run:#}"
    );
    let again = node.play(site, "upgrade.yml", &[], &variables)?;
    ensure!(
        again.passed()? == 0,
        "the second upgrade has changed the host: {}",
        again.output.stdout
    );
    Ok(())
}

fn expect_availability(site: &Site, expected: &str) -> Result<()> {
    let shown: Value = serde_json::from_str(&site.fracas(&["hosts", "show", HOST, "-o", "json"])?.ok()?)?;
    ensure!(shown["availability"] == expected, "the host is not {expected}: {shown:#}");
    Ok(())
}

/// A removal that finds a fault which it cannot undo says so, the agent stays and runs, and no experiment comes to the host.
fn expect_refused_removal(site: &Site, node: &Node) -> Result<()> {
    site.attack(&BALLAST, LASTS)?;
    site.machine().sh("chattr +i /var/tmp/.fracas-*")?.ok()?;
    let variables = json!({ "fracas_agent_purge": true, "fracas_agent_drain_seconds": 0 });
    let refused = node.play(site, "remove.yml", &[], &variables)?;
    ensure!(
        !refused.output.success() && refused.output.stdout.contains("the removal is refused"),
        "the removal was not refused: {}",
        refused.output.stdout
    );
    site.machine()
        .sh("systemctl is-active fracas-agent && test -e /var/lib/fracas/agent/identity/cert.pem")?
        .ok()?;
    expect_availability(site, "cordoned").context("after the refused removal")?;
    site.machine().sh("chattr -i /var/tmp/.fracas-*")?.ok()?;
    site.connected_and_clean_within(SOON)?;
    Ok(())
}

/// Nothing of an agent is there: no file, no package in any state, no process.
fn expect_absent(site: &Site) -> Result<()> {
    let found = site.machine().sh(&format!("ls -d {PLACES} 2>/dev/null"))?;
    ensure!(found.stdout.is_empty(), "there is {}", found.stdout.trim().replace('\n', ", "));
    let package = site
        .machine()
        .sh("dpkg-query -W -f '${db:Status-Status}' fracas-agent 2>/dev/null")?
        .stdout;
    ensure!(
        package.is_empty() || package == "not-installed",
        "the package is in the state {package}"
    );
    expect_no_process(site)
}

/// The machine that runs Ansible: the neighbour, with a folder of its own.
struct Node {
    folder: PathBuf,
    deb: PathBuf,
    tools: Installed,
    /// Variables that every playbook is given.
    variables: Value,
}

/// One run of a playbook.
struct Played {
    output: Output,
    took: Duration,
}

impl Node {
    /// With a key to the machine, a context of its controller, and a join token.
    fn new(site: &Site) -> Result<Self> {
        let folder = site.folder().join("ansible");
        fs::create_dir_all(&folder)?;
        let node = Self {
            deb: deb_of(site, "fracas-agent")?,
            tools: TOOLS.ensure()?,
            variables: Value::Null,
            folder,
        };
        node.open_the_machine(site)?;
        node.unpack_the_command_line(site)?;
        node.make_context(site)?;
        let token = ["tokens", "create", "--label", "env=staging", "--label", "role=web", "-o", "json"];
        let token: Value = serde_json::from_str(&site.fracas(&token)?.ok()?)?;
        Ok(Self {
            variables: json!({
                "fracas_agent_controller": format!("{HOST}:7400"),
                "fracas_agent_join_token": token["token"],
                "fracas_agent_package_deb": node.deb,
                "fracas_agent_context": "site",
            }),
            ..node
        })
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o600))?)
    }

    /// The one of the package, which is the machine's own.
    fn unpack_the_command_line(&self, site: &Site) -> Result<()> {
        let status = Command::new("dpkg-deb")
            .arg("--extract")
            .arg(deb_of(site, "fracas")?)
            .arg(self.path("cli"))
            .status();
        ensure!(
            status.context("start dpkg-deb")?.success(),
            "the package of the command line could not be unpacked"
        );
        Ok(())
    }

    fn open_the_machine(&self, site: &Site) -> Result<()> {
        let key = self.path("key");
        let made = Command::new("ssh-keygen")
            .args(["-q", "-t", "ed25519", "-N", "", "-f", &key])
            .status();
        ensure!(
            made.context("start ssh-keygen (Debian package openssh-client)")?.success(),
            "ssh-keygen has failed"
        );
        let machine = site.machine();
        machine.sh("mkdir -p -m 0700 /root/.ssh && systemctl start ssh")?.ok()?;
        machine.put("/root/.ssh/authorized_keys", fs::read(format!("{key}.pub"))?)?;
        let address = machine.v4();
        // The controller's certificate is for the machine's name.
        site.neighbour()
            .exec(Cmd::sh(format!(
                "grep -q ' {HOST}$' /etc/hosts || echo '{address} {HOST}' >>/etc/hosts"
            )))?
            .ok()?;
        let options = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR";
        self.write(
            "inventory",
            &format!(
                "[fracas_agents]\n{HOST} ansible_host={address} ansible_user=root ansible_ssh_private_key_file={key} \
                 ansible_python_interpreter=/usr/bin/python3 ansible_ssh_common_args='{options}'\n"
            ),
        )
    }

    fn make_context(&self, site: &Site) -> Result<()> {
        let operator = ["operators", "create", "ansible", "--role", "administrator", "-o", "json"];
        let operator: Value = serde_json::from_str(&site.fracas(&operator)?.ok()?)?;
        self.write("token", operator["token"].as_str().context("an operator has a token")?)?;
        self.write("ca.pem", &site.fracas(&["authority", "show", "--pem"])?.ok()?)?;
        let (server, ca, token) = (format!("{HOST}:7443"), self.path("ca.pem"), self.path("token"));
        let add = [
            "contexts",
            "add",
            "site",
            "--server",
            &server,
            "--ca-file",
            &ca,
            "--token-file",
            &token,
        ];
        let fracas = self.on(Cmd::new(self.path("cli/usr/bin/fracas")).args(add));
        site.neighbour().exec(fracas)?.ok().map(drop)
    }

    /// With what Ansible and `fracas` need in their environment.
    fn on(&self, cmd: Cmd) -> Cmd {
        let home = self.folder.display().to_string();
        let cmd = self.tools.environment().into_iter().fold(cmd, |cmd, (name, value)| {
            let value = if name == "PATH" {
                format!("{}:{value}", self.path("cli/usr/bin"))
            } else {
                value
            };
            cmd.env(name, value)
        });
        cmd.env("HOME", &home)
            .env("TMPDIR", &home)
            .env("LC_ALL", "C.UTF-8")
            .env("FRACAS_CONFIG", self.path("contexts.yaml"))
            .env("ANSIBLE_HOME", self.path("home"))
            .env("ANSIBLE_LOCAL_TEMP", self.path("tmp"))
            .env("ANSIBLE_SSH_CONTROL_PATH_DIR", self.path("cp"))
            .env("ANSIBLE_PIPELINING", "1")
            .env("ANSIBLE_NOCOLOR", "1")
    }

    /// Runs a playbook, whatever comes of it.
    fn play(&self, site: &Site, playbook: &str, flags: &[&str], variables: &Value) -> Result<Played> {
        let mut all = self.variables.clone();
        let (Some(all_of), Some(more)) = (all.as_object_mut(), variables.as_object()) else {
            anyhow::bail!("variables are an object");
        };
        all_of.extend(more.clone());
        self.write("variables.json", &all.to_string())?;
        let ansible = programs::repository().canonicalize()?.join("deploy/ansible");
        let cmd = Cmd::new(self.tools.program("ansible-playbook").to_string_lossy())
            .args(["-i", &self.path("inventory"), "-e", &format!("@{}", self.path("variables.json"))])
            .args(flags)
            .arg(playbook)
            .cwd(ansible)
            .limit(PLAYBOOK);
        let begin = Instant::now();
        let output = site.neighbour().exec(self.on(cmd))?;
        let took = begin.elapsed();
        let log = site.logs().join(format!("ansible-{playbook}.log"));
        fs::write(&log, format!("{}{}", output.stdout, output.stderr))?;
        let token = self.variables["fracas_agent_join_token"].as_str().context("there is a token")?;
        ensure!(
            !output.stdout.contains(token) && !output.stderr.contains(token),
            "the join token is in the output, see {}",
            log.display()
        );
        Ok(Played { output, took })
    }

    /// The package under a higher version.
    fn newer(&self) -> Result<PathBuf> {
        let deb = self.path("newer.deb");
        let installed = self.deb.display().to_string();
        let version = format!("$(dpkg-deb --field {installed} Version)");
        let line = higher_version(&installed, &version, &self.path("newer"), ":", &deb);
        let status = Command::new("sh").args(["-c", &line]).status()?;
        ensure!(status.success(), "the package could not be made again under a higher version");
        Ok(deb.into())
    }
}

fn deb_of(site: &Site, package: &str) -> Result<PathBuf> {
    let folder = site.debs().context("the machine was given no debs")?;
    let files = fs::read_dir(folder)?.flatten().map(|entry| entry.path());
    let mut ours = files.filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with(&format!("{package}_")) && name.ends_with(".deb")
    });
    ours.next().with_context(|| format!("no deb of {package} in {}", folder.display()))
}

impl Played {
    /// How much it changed; an error where a task has failed.
    fn passed(&self) -> Result<u32> {
        ensure!(
            self.output.success(),
            "{}: {}{}",
            self.output.command,
            self.output.stdout,
            self.output.stderr
        );
        changed(&self.output.stdout)
    }
}

/// From the recap's line of the host.
fn changed(stdout: &str) -> Result<u32> {
    let recap = stdout.split_once("PLAY RECAP").map_or("", |(_, recap)| recap);
    let count = recap.split_whitespace().find_map(|word| word.strip_prefix("changed="));
    count.context("the recap counts changes")?.parse().context("read the recap")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_counted_by_the_recap() -> Result<()> {
        let text = "TASK [changed=9]\nPLAY RECAP ****\nweb : ok=12   changed=3    unreachable=0    failed=0\n";
        assert_eq!(changed(text)?, 3);
        assert!(changed("web : ok=12 changed=3").is_err());
        Ok(())
    }
}
