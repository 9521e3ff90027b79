//! Other software acts on the host at the same time: firewalls, containers, network managers, restarts; neither harms the other.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tests_harness::wait;

use super::kinds::services;
use super::shell::main_pid;
use super::trial::{AGENT, Before, Measure, NGINX, PING_LOSS, PING6_MS, REDIS, Trial, UNDONE, injection, rounds, stop, undone};
use super::{Case, Extent, Figures};
use crate::site::{LASTS, Site};

pub(super) const CASES: [Case; 6] = [
    Case {
        name: "flush",
        what: "all rules of the host are flushed during faults",
        extent: Extent::Long,
        run: flush,
    },
    Case {
        name: "containers",
        what: "containers behind a bridge and address translation are left alone",
        extent: Extent::Long,
        run: containers,
    },
    Case {
        name: "firewalld",
        what: "firewalld is started and reloaded during faults",
        extent: Extent::Long,
        run: firewalld,
    },
    Case {
        name: "link",
        what: "the interface goes down and comes back during faults",
        extent: Extent::Long,
        run: link,
    },
    Case {
        name: "restarts",
        what: "units are started anew while they are under faults",
        extent: Extent::Long,
        run: restarts,
    },
    Case {
        name: "networkd",
        what: "systemd-networkd has the interface and is started anew during faults",
        extent: Extent::Long,
        run: networkd,
    },
];

const V4_CUT: [&str; 3] = ["network.partition", "protocol=icmp", "to=db4"];
const V6_DELAY: [&str; 4] = ["network.delay", "delay=200ms", "protocol=icmp", "to=db6"];
const LATE_MS: f64 = 150.0;

fn sh(site: &Site, line: &str) -> Result<String> {
    site.machine().sh(line)?.ok()
}

/// Expects IPv4 to be cut off and IPv6 to be delayed, as the two faults above do.
fn expect_both(site: &Site, v6_before: f64) -> Result<()> {
    let lost = PING_LOSS.take(site)?;
    ensure!(lost > 90.0, "{lost} % of the echoes are lost during a partition");
    let late = PING6_MS.take(site)? - v6_before;
    ensure!(late > LATE_MS, "echoes are {late:.1} ms late during a delay");
    Ok(())
}

/// Delays the packets of nginx's unit, which a worker holds; returns the run's id.
fn slow_nginx(site: &Site) -> Result<String> {
    let fault = [
        "network.delay",
        "delay=300ms",
        "local_ports=80",
        "protocol=tcp",
        "unit=nginx",
        "to=db",
    ];
    site.attack(&fault, LASTS)
}

fn flush(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let (before, v6) = (Before::look(site)?, PING6_MS.take(site)?);
    let by_rules = site.attack(&V4_CUT, LASTS)?;
    let by_worker = slow_nginx(site)?;
    let by_netem = site.attack(&V6_DELAY, LASTS)?;
    expect_both(site, v6)?;
    sh(site, "nft flush ruleset")?;
    let begin = Instant::now();
    for (name, run) in [("partition", &by_rules), ("delay of a unit", &by_worker)] {
        let ended = || Ok(injection(site, run)?["state"] == "undone");
        wait::until(format_args!("the {name} ends without its rules"), UNDONE, ended)?;
        figures.add(format!("{name}: ended after its rules were flushed"), begin.elapsed(), UNDONE);
        figures.add(format!("{name}: undone by the agent"), undone(site, run)?, AGENT);
        let cause = injection(site, run)?["ended_by"].take();
        ensure!(cause == "ended_early", "the {name} was ended by {cause}");
    }
    let late = PING6_MS.take(site)? - v6;
    ensure!(late > LATE_MS, "a delay that has no rules does not act any more: {late:.1} ms");
    stop(site, figures, "a delay without rules", &by_netem)?;
    before.expect(site)
}

/// As a container engine does it: a bridge, a namespace, translated ports, a forward chain that drops by default; and a table of the site's own.
const CONTAINERS: &str = "set -e; ip netns add box; ip link add box0 type bridge; ip address add 172.30.0.1/24 dev box0; ip link set box0 up; \
    ip link add box1 type veth peer name eth0 netns box; ip link set box1 master box0 up; ip -n box address add 172.30.0.2/24 dev eth0; \
    ip -n box link set eth0 up; ip -n box link set lo up; ip -n box route add default via 172.30.0.1; sysctl -qw net.ipv4.ip_forward=1; \
    iptables -t nat -A PREROUTING -p tcp --dport 8080 -j DNAT --to-destination 172.30.0.2:80; \
    iptables -t nat -A POSTROUTING -s 172.30.0.0/24 ! -o box0 -j MASQUERADE; iptables -P FORWARD DROP; \
    iptables -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; iptables -A FORWARD -d 172.30.0.2 -p tcp --dport 80 -j ACCEPT; \
    iptables -A FORWARD -s 172.30.0.0/24 -j ACCEPT; nft add table inet site; \
    nft add chain inet site input '{ type filter hook input priority 0; }'; nft add rule inet site input tcp dport 81 counter drop; \
    systemd-run --quiet --unit fracas-test-box --property NetworkNamespacePath=/run/netns/box python3 -m http.server 80 --directory /srv";
const NO_CONTAINERS: &str = "set -e; systemctl stop fracas-test-box; nft delete table inet site; nft delete table ip nat; nft delete table ip filter; \
    sysctl -qw net.ipv4.ip_forward=0; ip link delete box1; ip link delete box0; ip netns delete box";
/// Through the host to a container.
const CONTAINER: Measure = Measure::Exchange {
    port: 8080,
    request: "GET / HTTP/1.0\\r\\n\\r\\n",
};
/// Milliseconds from the host to the container.
const BOX_MS: Measure =
    Measure::Host("ping -U -c 5 -i 0.3 -W 3 172.30.0.2 | sed -n 's/.*time=\\([0-9.]*\\).*/\\1/p' | sort -n | sed -n 3p");

fn containers(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let bare = Before::look(site)?;
    sh(site, CONTAINERS)?;
    wait::until("the container answers", UNDONE, || Ok(CONTAINER.take(site)? < 1_000.0))?;
    let trials = [
        Trial::new("network.partition protocol=icmp to=db4", PING_LOSS, 90.0).sparing(CONTAINER, 500.0),
        Trial::new("network.delay delay=300ms local_ports=80 protocol=tcp to=db", NGINX, 250.0)
            .sparing(CONTAINER, 200.0)
            .by_netem(),
        Trial::new("network.delay delay=200ms protocol=icmp to=172.30.0.2", BOX_MS, LATE_MS)
            .sparing(CONTAINER, 500.0)
            .by_netem(),
        // Where a host forwards, what comes in is no business of netem.
        Trial::new("network.delay delay=200ms direction=in protocol=icmp to=db6", PING6_MS, LATE_MS),
    ];
    rounds(site, figures, &[&trials])?;
    ensure!(CONTAINER.take(site)? < 1_000.0, "the container does not answer any more");
    sh(site, NO_CONTAINERS)?;
    bare.expect(site)
}

fn firewalld(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    const START: &str =
        "systemctl start firewalld && until firewall-cmd --quiet --state; do sleep 0.2; done; nft list tables | grep -q firewalld";
    site.ready()?;
    // What its first start loads and writes for good is no business of a fault.
    sh(site, START)?;
    sh(site, "systemctl stop firewalld")?;
    let (before, v6) = (Before::look(site)?, PING6_MS.take(site)?);
    let runs = [site.attack(&V4_CUT, LASTS)?, site.attack(&V6_DELAY, LASTS)?];
    expect_both(site, v6)?;
    sh(site, START)?;
    expect_both(site, v6).context("firewalld was started")?;
    sh(site, "firewall-cmd --reload")?;
    expect_both(site, v6).context("firewalld was reloaded")?;
    for (name, run) in ["partition", "delay"].into_iter().zip(&runs) {
        stop(site, figures, &format!("beside firewalld: {name}"), run)?;
    }
    sh(site, "ping -4 -c 1 -W 3 db")?;
    sh(site, "systemctl stop firewalld")?;
    before.expect(site)
}

fn link(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let (before, v6) = (Before::look(site)?, PING6_MS.take(site)?);
    let runs = [site.attack(&V4_CUT, LASTS)?, site.attack(&V6_DELAY, LASTS)?];
    expect_both(site, v6)?;
    sh(site, "ip link set eth0 down; sleep 3; sh /usr/local/lib/fracas-test/network.sh")?;
    expect_both(site, v6).context("the interface is up again")?;
    for (name, run) in ["partition", "delay"].into_iter().zip(&runs) {
        stop(site, figures, &format!("after the interface was down: {name}"), run)?;
    }
    sh(site, "ping -4 -c 1 -W 3 db")?;
    before.expect(site)
}

fn restarts(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    services(site)?;
    let (before, without) = (Before::look(site)?, NGINX.take(site)?);
    let delay = slow_nginx(site)?;
    let late = || Ok(NGINX.take(site)? - without > 250.0);
    wait::until("nginx answers late", UNDONE, late)?;
    sh(site, "systemctl restart nginx")?;
    let followed = wait::until("nginx answers late after its restart", UNDONE, late)?;
    figures.note("a unit that was started anew is delayed again", followed);
    stop(site, figures, "a unit that was started anew: delay", &delay)?;
    frozen(site, figures)?;
    before.expect(site)?;
    let cut = site.attack(
        &[
            "network.partition",
            "local_ports=6379",
            "protocol=tcp",
            "unit=redis-server",
            "to=db",
        ],
        LASTS,
    )?;
    sh(
        site,
        "systemctl kill --signal KILL redis-server; until redis-cli ping; do sleep 0.2; done",
    )?;
    wait::until("redis is cut off after its restart", UNDONE, || Ok(REDIS.take(site)? > 1_500.0))?;
    stop(site, figures, "a unit that was killed: partition", &cut)?;
    before.expect(site)
}

/// A frozen unit that is restarted: systemd kills what does not end, and the end of the fault lets go of what comes after it.
fn frozen(site: &Site, figures: &mut Figures<'_>) -> Result<()> {
    let pid = main_pid("nginx");
    let old = sh(site, &pid)?;
    let run = site.attack(&["process.pause", "unit=nginx"], LASTS)?;
    sh(site, "systemctl restart --no-block nginx")?;
    wait::until("the frozen nginx is gone", UNDONE * 3, || Ok(sh(site, &pid)? != old))?;
    if injection(site, &run)?["state"] == "holding" {
        site.fracas(&["stop", &run, "--reason", "measured"])?;
    }
    figures.add("a frozen unit that was restarted: undone by the agent", undone(site, &run)?, AGENT);
    let answers = wait::until("nginx answers", UNDONE, || Ok(NGINX.take(site)? < 1_000.0))?;
    figures.note("a frozen unit that was restarted: answers", answers);
    Ok(())
}

/// Gives the interface to systemd-networkd, with the addresses that it has already.
const NETWORKD: &str = "set -e; { printf '[Match]\\nName=eth0\\n[Network]\\nIPv6AcceptRA=no\\nLinkLocalAddressing=ipv6\\n'; \
    ip -json address show dev eth0 scope global | python3 -c 'import json, sys\nfor one in json.load(sys.stdin)[0][\"addr_info\"]:\n if one: print(\"Address=%s/%d\" % (one[\"local\"], one[\"prefixlen\"]))'; \
    } >/etc/systemd/network/10-eth0.network; systemctl start systemd-networkd; until networkctl status eth0 | grep -q 'routable (configured)'; do sleep 0.2; done";
/// systemd-networkd sets the knob on each link that it takes, and leaves it.
const NO_NETWORKD: &str = "set -e; systemctl stop systemd-networkd.socket systemd-networkd; rm /etc/systemd/network/10-eth0.network; \
    sysctl -qw net.ipv4.conf.eth0.promote_secondaries=0; ip address flush dev eth0 scope global; sh /usr/local/lib/fracas-test/network.sh";

fn networkd(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let bare = Before::look(site)?;
    sh(site, NETWORKD)?;
    let (before, v6) = (Before::look(site)?, PING6_MS.take(site)?);
    let runs = [site.attack(&V4_CUT, LASTS)?, site.attack(&V6_DELAY, LASTS)?];
    expect_both(site, v6)?;
    sh(
        site,
        "systemctl restart systemd-networkd; until networkctl status eth0 | grep -q 'routable (configured)'; do sleep 0.2; done",
    )?;
    let links = sh(site, "networkctl list --no-legend --no-pager")?;
    let ours: Vec<&str> = links.lines().filter(|line| line.contains(" fracas")).collect();
    ensure!(
        ours.len() == 1 && ours[0].contains("unmanaged"),
        "systemd-networkd does not leave our link alone: {links}"
    );
    expect_both(site, v6).context("systemd-networkd was started anew")?;
    for (name, run) in ["partition", "delay"].into_iter().zip(&runs) {
        stop(site, figures, &format!("beside systemd-networkd: {name}"), run)?;
    }
    before.expect(site)?;
    sh(site, NO_NETWORKD)?;
    bare.expect(site)
}
