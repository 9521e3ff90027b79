//! The harness held to its word: hosts that are apart, and nothing left of them, however the runner ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tests_harness::protocol::Ended;
use tests_harness::{Cmd, Fleet, Then, packages, programs, report, wait};

const SOON: Duration = Duration::from_secs(10);

/// Why there is nothing to test here, told.
fn skipped() -> bool {
    let reason = Fleet::impossible();
    if let Some(reason) = &reason {
        report::skip(reason);
    }
    reason.is_some()
}

#[test]
fn hosts_hear_each_other_in_both_families_and_know_who_they_are() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let fleet = Fleet::create("pair", &["web", "cache"])?;
    let (web, cache) = (fleet.host("web"), fleet.host("cache"));
    let helper = programs::find("fracas-test-host")?.display().to_string();
    let echo = Cmd::new(&helper).args(["echo", "0.0.0.0:7000", "[::]:7001"]);
    cache.start("echo", &echo)?;
    wait::until("the echo listens", SOON, || {
        Ok(fs::read_to_string(cache.log("echo"))?.contains("listening"))
    })?;
    for address in [format!("{}:7000", cache.v4()), format!("[{}]:7001", cache.v6())] {
        let said = web.exec(Cmd::new(&helper).args(["chat", &address, "10", "3"]))?.ok()?;
        ensure!(
            said.lines().count() == 3 && said.lines().all(|line| line.ends_with(" ok")),
            "{address}: {said}"
        );
    }
    let line = "hostname; cat /etc/machine-id /proc/sys/kernel/random/boot_id; getent hosts cache; ls /proc | grep -c '^[0-9]'";
    let told = [web, cache].map(|host| host.exec(Cmd::sh(line)).and_then(|output| output.ok()));
    let [web_told, cache_told] = told;
    let (web_told, cache_told) = (web_told?, cache_told?);
    let (web_lines, cache_lines): (Vec<&str>, Vec<&str>) = (web_told.lines().collect(), cache_told.lines().collect());
    ensure!(web_lines[0] == "web" && cache_lines[0] == "cache");
    ensure!(
        web_lines[1] != cache_lines[1] && web_lines[2] != cache_lines[2],
        "{web_told} {cache_told}"
    );
    ensure!(web_lines[3].contains("fd77::") && web_lines[4].parse::<u32>()? < 12, "{web_told}");
    Ok(())
}

#[test]
fn a_host_cannot_change_the_machine_and_has_folders_of_its_own() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let fleet = Fleet::create("apart", &["one"])?;
    let one = fleet.host("one");
    let line = "touch /usr/x /etc/ssl/x /var/lib/dpkg/x /root/x 2>&1; touch /etc/fracas/a /var/lib/fracas/b /run/fracas/c && echo written";
    let said = one.exec(Cmd::sh(line))?.stdout;
    ensure!(
        said.matches("Read-only file system").count() == 4 && said.ends_with("written\n"),
        "{said}"
    );
    ensure!(one.path("/run/fracas/c").exists() && !Path::new("/run/fracas/c").exists());
    one.write("/etc/fracas/agent.toml", "x")?;
    ensure!(one.exec(Cmd::sh("cat /etc/fracas/agent.toml"))?.ok()? == "x");
    Ok(())
}

#[test]
fn groups_made_at_the_root_of_a_host_are_below_its_own_group() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let fleet = Fleet::create("groups", &["one"])?;
    let one = fleet.host("one");
    let line = "for m in $(grep -- '- cgroup' /proc/self/mountinfo | cut -d' ' -f5); do mkdir $m/fracas-probe; done; cat /proc/self/cgroup";
    let own = one.exec(Cmd::sh(line))?.ok()?;
    ensure!(own.lines().all(|line| line.ends_with(":/session")), "{own}");
    let machine = fs::read_to_string("/proc/self/mountinfo")?;
    let mounts = machine
        .lines()
        .filter(|line| line.contains("- cgroup"))
        .filter_map(|line| line.split(' ').nth(4));
    for mount in mounts {
        ensure!(!Path::new(mount).join("fracas-probe").exists(), "{mount}");
    }
    let seen = one.snapshot()?;
    ensure!(seen.0["groups"].keys().any(|group| group.ends_with("/fracas-probe")));
    Ok(())
}

#[test]
fn programs_end_as_they_end_and_late_ones_are_killed() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let fleet = Fleet::create("exec", &["one"])?;
    let one = fleet.host("one");
    let output = one.exec(Cmd::sh("cat; echo oops >&2; exit 3").stdin("in\n"))?;
    ensure!(
        output.code() == Some(3) && output.stdout == "in\n" && output.stderr == "oops\n",
        "{output:?}"
    );
    ensure!(one.exec(Cmd::sh("kill -9 $$"))?.end == Ended::Signal(9));
    ensure!(one.exec(Cmd::new("/no/such/program"))?.code() == Some(127));
    let start = Instant::now();
    let late = one.exec(Cmd::new("sleep").arg("60").limit(Duration::from_millis(300)));
    ensure!(late.is_err() && start.elapsed() < SOON);
    wait::until("the late program is gone", SOON, || Ok(one.processes_named("sleep")?.is_empty()))?;
    Ok(())
}

#[test]
fn services_are_kept_killed_and_stopped() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let fleet = Fleet::create("services", &["one"])?;
    let one = fleet.host("one");
    one.start("sleeper", &Cmd::sh("echo up; sleep 1000 & wait"))?;
    wait::until("both processes run", SOON, || Ok(one.pids("sleeper")?.len() == 2))?;
    let first = one.service("sleeper")?.pid.context("it runs")?;
    one.kill9("sleeper", Then::StartsAgain)?;
    wait::until("it runs again", SOON, || {
        Ok(one.service("sleeper")?.pid.is_some_and(|pid| pid != first))
    })?;
    ensure!(one.service("sleeper")?.last_end == Some(Ended::Signal(9)));
    let log = || Ok(fs::read_to_string(one.log("sleeper"))?.matches("up\n").count() == 2);
    wait::until("the log is kept over starts", SOON, log)?;
    one.kill9("sleeper", Then::StaysDown)?;
    wait::until("it is down", SOON, || Ok(one.service("sleeper")?.pid.is_none()))?;
    one.start("sleeper", &Cmd::new("sleep").arg("1000"))?;
    one.stop("sleeper")?;
    ensure!(one.service("sleeper")?.last_end == Some(Ended::Signal(15)));
    Ok(())
}

#[test]
fn the_footprint_is_steady_and_sees_each_sort_of_residue() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let fleet = Fleet::create("looks", &["one"])?;
    let one = fleet.host("one");
    one.start("sleeper", &Cmd::new("sleep").arg("1000"))?;
    wait::until("it sleeps", SOON, || Ok(one.processes_named("sleep")?.len() == 1))?;
    // The kernel makes the older tables at their first use, and keeps them.
    one.exec(Cmd::sh("iptables-legacy -L"))?.ok()?;
    let before = one.snapshot()?;
    ensure!(
        before.differences(&one.snapshot()?).is_empty(),
        "{:?}",
        before.differences(&one.snapshot()?)
    );
    for (section, harm, cure) in [
        (
            "nft",
            "nft 'add table inet left; add chain inet left c; add rule inet left c counter drop'",
            "nft delete table inet left",
        ),
        (
            "iptables",
            "iptables-legacy -A OUTPUT -d 192.0.2.1 -j DROP",
            "iptables-legacy -D OUTPUT -d 192.0.2.1 -j DROP",
        ),
        ("links", "ip link add left0 type veth peer name left1", "ip link del left0"),
        ("links", "ip link set eth0 mtu 1400", "ip link set eth0 mtu 1500"),
        ("routes", "ip route add 10.99.0.0/16 via 10.77.0.1", "ip route del 10.99.0.0/16"),
        ("qdiscs", "tc qdisc add dev eth0 clsact", "tc qdisc del dev eth0 clsact"),
        (
            "sysctls",
            "echo 1 > /proc/sys/net/ipv4/ip_forward",
            "echo 0 > /proc/sys/net/ipv4/ip_forward",
        ),
        ("mounts", "mkdir -p /run/m && mount -t tmpfs left /run/m", "umount /run/m"),
        ("processes", "kill -STOP $(pidof sleep)", "kill -CONT $(pidof sleep)"),
        ("files", "touch /run/fracas/left", "rm /run/fracas/left"),
        (
            "groups",
            "mkdir $(grep -m1 ' /sys/fs/cgroup.* - cgroup' /proc/self/mountinfo | cut -d' ' -f5)/left",
            "rmdir /sys/fs/cgroup/*/left /sys/fs/cgroup/left 2>/dev/null; true",
        ),
    ] {
        one.exec(Cmd::sh(harm))?.ok()?;
        let seen = before.differences(&one.snapshot()?);
        ensure!(seen.iter().any(|difference| difference.section == section), "{harm}: {seen:?}");
        one.exec(Cmd::sh(cure))?.ok()?;
        let mut left = Vec::new();
        let cured = wait::until(cure, SOON, || {
            left = before.differences(&one.snapshot()?);
            Ok(left.is_empty())
        });
        cured.with_context(|| format!("{left:?}"))?;
    }
    Ok(())
}

/// tc prints a class of htb as words, also where it is asked for JSON.
#[test]
fn the_footprint_sees_classes_that_tc_prints_in_words() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let fleet = Fleet::create("words", &["one", "two"])?;
    let (one, two) = (fleet.host("one"), fleet.host("two"));
    let make = "tc qdisc replace dev eth0 root handle 1: htb && tc class add dev eth0 parent 1: classid 1:10 htb rate 900mbit";
    one.exec(Cmd::sh(make))?.ok()?;
    let before = one.snapshot()?;
    // What no class claims is counted in the options of the queue.
    let send = format!("echo > /dev/udp/{}/9", two.v4());
    one.exec(Cmd::new("bash").args(["-c", &send]))?.ok()?;
    let seen = before.differences(&one.snapshot()?);
    ensure!(seen.is_empty(), "{seen:?}");
    one.exec(Cmd::sh("tc class change dev eth0 parent 1: classid 1:10 htb rate 800mbit"))?
        .ok()?;
    let seen = before.differences(&one.snapshot()?);
    ensure!(seen.iter().any(|difference| difference.section == "qdiscs"), "{seen:?}");
    Ok(())
}

/// Not a test: the runner that the next test kills. It tells its hosts' pids and then waits for its end.
#[test]
fn runner_to_be_killed() -> Result<()> {
    if std::env::var_os("FRACAS_RUNNER_TO_BE_KILLED").is_none() {
        return Ok(());
    }
    let fleet = Fleet::create("doomed", &["one", "two"])?;
    for host in fleet.hosts() {
        host.start("sleeper", &Cmd::sh("trap '' TERM HUP INT; sleep 1000 & setsid sleep 1000 & wait"))?;
    }
    eprintln!("up {} {}", fleet.host("one").init_pid(), fleet.host("two").init_pid());
    std::thread::sleep(Duration::from_secs(60));
    Ok(())
}

#[test]
fn nothing_is_left_when_the_runner_is_killed() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let before = machine()?;
    let mut runner = Command::new(std::env::current_exe()?)
        .args(["--exact", "runner_to_be_killed", "--nocapture"])
        .env("FRACAS_RUNNER_TO_BE_KILLED", "yes")
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let id = runner.id();
    let up = BufReader::new(runner.stderr.take().context("it speaks")?)
        .lines()
        .map_while(Result::ok)
        .find(|line| line.starts_with("up "));
    let inits: Vec<u32> = up
        .context("the runner made no fleet")?
        .split(' ')
        .skip(1)
        .map(str::parse)
        .collect::<Result<_, _>>()?;
    let ours = format!("fracas-test.{id}.");
    ensure!(groups_of(&ours)? > 0, "the fleet has no groups");
    let namespaces = inits
        .iter()
        .map(|pid| fs::read_link(format!("/proc/{pid}/ns/net")).map(|link| link.display().to_string()));
    let namespaces: Vec<String> = namespaces.collect::<std::io::Result<_>>()?;
    runner.kill()?;
    runner.wait()?;
    wait::until("the hosts are gone", SOON, || {
        Ok(inits.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists()))
    })?;
    wait::until("their groups are gone", SOON, || Ok(groups_of(&ours)? == 0))?;
    wait::until("their namespaces are held by nobody", SOON, || {
        Ok(!namespaces.iter().any(|namespace| held(namespace)))
    })?;
    ensure!(before == machine()?, "the machine's links or mounts changed");
    Ok(())
}

/// The machine's own links and mounts.
fn machine() -> Result<(String, String)> {
    let links = fs::read_dir("/sys/class/net")?
        .flatten()
        .map(|link| link.file_name().to_string_lossy().into_owned());
    let mut links: Vec<String> = links.collect();
    links.sort();
    Ok((links.join(" "), fs::read_to_string("/proc/self/mounts")?))
}

fn groups_of(prefix: &str) -> Result<usize> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let mounts = mounts
        .lines()
        .filter(|line| line.contains("- cgroup"))
        .filter_map(|line| line.split(' ').nth(4));
    let names = mounts.flat_map(|mount| fs::read_dir(mount).into_iter().flatten().flatten());
    Ok(names
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .count())
}

fn held(namespace: &str) -> bool {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| fs::read_link(process.path().join("ns/net")).ok())
        .any(|net| net.display().to_string() == namespace)
}

/// Two looks that both failed would be equal.
#[test]
fn a_look_whose_tool_fails_is_no_footprint() -> Result<()> {
    if skipped() {
        return Ok(());
    }
    let fleet = Fleet::create("blind", &["one"])?;
    let one = fleet.host("one");
    one.snapshot()?;
    let helper = programs::find("fracas-test-host")?;
    for tool in ["nft", "tc", "ip"] {
        one.write(&format!("/run/tmp/bin/{tool}"), "#!/bin/sh\nexit 1\n")?;
        one.exec(Cmd::sh(format!("chmod +x /run/tmp/bin/{tool}")))?.ok()?;
        let path = format!("/run/tmp/bin:{}", packages::path());
        let looked = one.exec(Cmd::new(helper.to_string_lossy()).arg("footprint").env("PATH", &path))?;
        ensure!(!looked.success(), "a failing {tool} gave a footprint: {looked:?}");
        one.exec(Cmd::sh(format!("rm /run/tmp/bin/{tool}")))?.ok()?;
    }
    Ok(())
}
