//! Every kind of fault in its variants on control groups v2 and netem, with nginx, redis and PostgreSQL as what is attacked.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use tests_harness::wait;

use super::shell::main_pid;
use super::trial::{
    Before, Measure, NGINX, PING_LOSS, PING_MS, PING6_LOSS, PING6_MS, POSTGRES, REDIS, Slowest, Trial, UNDONE, injection, rounds, together,
};
use super::{Case, Extent, Figures};
use crate::site::{LASTS, Site};

pub(super) const CASES: [Case; 6] = [
    Case {
        name: "loads",
        what: "variants of load faults act together, and are undone",
        extent: Extent::Long,
        run: loads,
    },
    Case {
        name: "processes",
        what: "whole units are frozen and killed",
        extent: Extent::Long,
        run: processes,
    },
    Case {
        name: "partitions",
        what: "each direction, ports and units are cut off",
        extent: Extent::Long,
        run: partitions,
    },
    Case {
        name: "delays",
        what: "each direction, ports and units are delayed",
        extent: Extent::Long,
        run: delays,
    },
    Case {
        name: "losses",
        what: "each direction, ports and units lose packets",
        extent: Extent::Long,
        run: losses,
    },
    Case {
        name: "queues",
        what: "packets are delayed beside root queues of several kinds",
        extent: Extent::Long,
        run: queues,
    },
];

/// Makes the services reachable for the neighbour, and prints the unit of PostgreSQL.
const SERVICES: &str = "set -e; sed -i 's/^bind .*/bind * -::*/; s/^protected-mode .*/protected-mode no/' /etc/redis/redis.conf; \
    sed -i \"s/^#*listen_addresses .*/listen_addresses = '*'/\" /etc/postgresql/*/main/postgresql.conf; \
    unit=postgresql@$(ls /etc/postgresql)-main; systemctl restart redis-server nginx $unit; echo $unit";

/// Percent of one processor that is not idle.
const BUSY: Measure = Measure::Host(
    "a=$(grep '^cpu1 ' /proc/stat); sleep 3; b=$(grep '^cpu1 ' /proc/stat); echo \"$a $b\" | awk '{ \
     for (i = 2; i <= 9; i++) { x += $i; y += $(i + 11) } print 100 - 100 * ($16 - $5) / (y - x) }'",
);
/// MiB of memory that cannot be swapped out.
const LOCKED: Measure = Measure::Host("awk '/^Mlocked:/ { print $2 / 1024 }' /proc/meminfo");
/// Percent of the root's volume that is used.
const USED: Measure = Measure::Host("df --output=pcent /var/tmp | tail -n 1 | tr -d %");
const FROZEN: Measure = Measure::Host("sed -n 's/^frozen //p' /sys/fs/cgroup/system.slice/nginx.service/cgroup.events");
/// Seconds without an answer.
const REDIS_SILENT: Measure = Measure::Host("if timeout 3 redis-cli ping >/dev/null; then echo 0; else echo 3; fi");
const POSTGRES_SILENT: Measure = Measure::Host(
    "if timeout 5 setpriv --reuid postgres --clear-groups psql -Atc 'select 1' postgres >/dev/null; then echo 0; else echo 5; fi",
);
/// 1 when the host may not send to this port of the neighbour, and 0 when it may.
const FORBIDDEN: Measure = Measure::Host(
    "python3 -c 'import socket\ntry: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b\"x\", (\"db4\", 9999)); print(0)\nexcept PermissionError: print(1)'",
);
/// The same of another port.
const OTHER_FORBIDDEN: Measure = Measure::Host(
    "python3 -c 'import socket\ntry: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b\"x\", (\"db4\", 9998)); print(0)\nexcept PermissionError: print(1)'",
);

/// Prepares what is attacked, and returns the unit of PostgreSQL.
pub(super) fn services(site: &mut Site) -> Result<String> {
    site.ready()?;
    let unit = site.machine().sh(SERVICES)?.ok()?.trim().to_owned();
    for (name, measure) in [("nginx", NGINX), ("redis", REDIS), ("PostgreSQL", POSTGRES)] {
        let answers = || Ok(measure.take(site)? < 1_000.0);
        wait::until(format_args!("{name} answers the neighbour"), UNDONE, answers)?;
    }
    Ok(unit)
}

fn loads(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let trials = [
        Trial::new("cpu.burn percent=70 pin=1", BUSY, 25.0),
        Trial::new("memory.hog amount=96MiB lock=true rate=32MiB", LOCKED, 90.0),
        Trial::new("disk.fill rate=200MiB used=50 path=/var/tmp", USED, 10.0),
    ];
    rounds(site, figures, &[&trials])
}

fn processes(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let postgres = services(site)?;
    let trials = [
        Trial::new("process.pause unit=nginx", NGINX, 1_500.0).and(FROZEN, 1.0),
        Trial::new("process.pause group=/system.slice/redis-server.service", REDIS_SILENT, 3.0),
        Trial::new(format!("process.pause unit={postgres}"), POSTGRES_SILENT, 5.0),
    ];
    rounds(site, figures, &[&trials])?;
    // systemd starts redis again each time; the others stay away until they are started.
    killed(site, figures, "redis-server", 3)?;
    for unit in ["nginx", &postgres] {
        killed(site, figures, unit, 1)?;
        site.machine().sh(&format!("systemctl restart {unit}"))?.ok()?;
    }
    Ok(())
}

/// Kills the processes of a unit until its main process has changed this often. The run ends as one that cannot be undone.
fn killed(site: &Site, figures: &mut Figures<'_>, unit: &str, times: usize) -> Result<()> {
    let before = Before::look(site)?;
    let main = || -> Result<String> { site.machine().sh(&main_pid(unit))?.ok() };
    let mut seen = vec![main()?];
    ensure!(seen[0].trim() != "0", "{unit} does not run");
    let unit_words = format!("unit={unit}");
    let begin = Instant::now();
    let fault = ["process.kill", &unit_words, "signal=KILL", "every=4s", "--confirm-irreversible"];
    let run = site.attack(&fault, LASTS)?;
    let gone = || {
        let pid = main()?;
        if seen.last() != Some(&pid) {
            seen.push(pid);
        }
        Ok(seen.len() > times)
    };
    wait::until(format_args!("{times} main processes of {unit} are gone"), UNDONE, gone)?;
    figures.note(format!("process.kill unit={unit}: {times} times"), begin.elapsed());
    let begin = Instant::now();
    site.fracas(&["stop", &run, "--reason", "measured"])?.ok()?;
    figures.add(format!("process.kill unit={unit}: a stop is answered"), begin.elapsed(), UNDONE);
    let state = injection(site, &run)?["state"].take();
    ensure!(state == "spent", "what cannot be undone is {state} after its end");
    before.expect(site)
}

fn partitions(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let postgres = services(site)?;
    let by_port = [
        Trial::new("network.partition direction=out protocol=icmp to=db", Measure::NotArrived, 90.0),
        Trial::new("network.partition local_ports=6379 protocol=tcp to=db", REDIS, 1_500.0).sparing(NGINX, 1_000.0),
        Trial::new(
            "network.partition action=reject local_ports=5432 protocol=tcp to=db",
            POSTGRES,
            1_500.0,
        ),
        Trial::new("network.partition direction=out ports=9999 protocol=udp to=db", FORBIDDEN, 1.0).sparing(OTHER_FORBIDDEN, 1.0),
    ];
    let by_unit = [
        Trial::new("network.partition direction=in protocol=icmp to=db", PING_LOSS, 90.0).sparing(Measure::NotArrived, 50.0),
        Trial::new(
            "network.partition direction=out local_ports=80 protocol=tcp unit=nginx to=db",
            NGINX,
            1_500.0,
        )
        .sparing(REDIS, 1_000.0),
        Trial::new(
            format!("network.partition local_ports=5432 protocol=tcp unit={postgres} to=db"),
            POSTGRES,
            1_500.0,
        ),
    ];
    let reset = [Trial::new("network.partition action=reset unit=redis-server to=db", REDIS, 1_500.0).sparing(POSTGRES, 1_000.0)];
    rounds(site, figures, &[&by_port, &by_unit, &reset])
}

fn delays(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let postgres = services(site)?;
    let out = [
        Trial::new("network.delay delay=200ms protocol=icmp to=db", PING_MS, 150.0).by_netem(),
        Trial::new("network.delay delay=300ms local_ports=80 protocol=tcp to=db", NGINX, 250.0)
            .sparing(REDIS, 200.0)
            .by_netem(),
        Trial::new(
            format!("network.delay delay=300ms local_ports=5432 protocol=tcp unit={postgres} to=db"),
            POSTGRES,
            250.0,
        ),
    ];
    let others = [
        Trial::new("network.delay delay=200ms direction=in protocol=icmp to=db4", PING_MS, 150.0).by_netem(),
        Trial::new(
            "network.delay delay=150ms direction=both jitter=10ms protocol=icmp to=db6",
            PING6_MS,
            220.0,
        )
        .by_netem(),
        Trial::new(
            "network.delay delay=300ms local_ports=80 protocol=tcp unit=nginx to=db",
            NGINX,
            250.0,
        ),
        Trial::new(
            "network.delay delay=300ms local_ports=6379 protocol=tcp unit=redis-server to=db",
            REDIS,
            250.0,
        )
        .sparing(POSTGRES, 200.0),
    ];
    rounds(site, figures, &[&out, &others])
}

fn losses(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    let postgres = services(site)?;
    let single = [
        Trial::new("network.loss percent=50 protocol=icmp to=db4", PING_LOSS, 20.0),
        Trial::new("network.loss percent=100 local_ports=80 protocol=tcp to=db", NGINX, 1_500.0).sparing(POSTGRES, 1_000.0),
        Trial::new(
            "network.loss percent=100 local_ports=6379 protocol=tcp unit=redis-server to=db",
            REDIS,
            1_500.0,
        ),
    ];
    let bursts = [
        Trial::new(
            "network.loss correlation=50 direction=both percent=60 protocol=icmp to=db4",
            PING_LOSS,
            30.0,
        )
        .by_netem(),
        Trial::new("network.loss direction=in p=40 r=20 protocol=icmp to=db6", PING6_LOSS, 25.0).by_netem(),
        Trial::new(
            format!("network.loss correlation=10 percent=90 local_ports=5432 protocol=tcp unit={postgres} to=db"),
            POSTGRES,
            150.0,
        )
        .sparing(REDIS, 1_000.0),
    ];
    rounds(site, figures, &[&single, &bursts])
}

/// What is done to the host before, the fault, its measure, and what undoes the first.
struct Root {
    name: &'static str,
    before: &'static str,
    fault: &'static str,
    measure: Measure,
    after: &'static str,
}

const ROOTS: [Root; 3] = [
    Root {
        name: "fq_codel",
        before: "tc qdisc replace dev eth0 root handle 8: fq_codel limit 2000 target 7ms noecn",
        fault: "network.delay delay=200ms protocol=icmp to=db",
        measure: PING_MS,
        after: "tc qdisc delete dev eth0 root",
    },
    Root {
        name: "htb",
        before: "tc qdisc replace dev eth0 root handle 1: htb default 10 && tc class add dev eth0 parent 1: classid 1:10 htb rate 900mbit && \
                 tc class add dev eth0 parent 1: classid 1:20 htb rate 100mbit && tc qdisc add dev eth0 parent 1:10 handle 10: fq_codel && \
                 tc filter add dev eth0 parent 1: protocol ip prio 5 u32 match ip dport 9 0xffff flowid 1:20",
        fault: "network.delay delay=200ms direction=both protocol=icmp to=db",
        measure: PING_MS,
        after: "tc qdisc delete dev eth0 root",
    },
    Root {
        name: "mq",
        before: "ip netns add box && ip link add mq0 numtxqueues 2 numrxqueues 2 type veth peer name mq1 numtxqueues 2 numrxqueues 2 netns box && \
                 ip address add 10.77.0.1/24 dev mq0 && ip link set mq0 addrgenmode none up && ip -n box address add 10.77.0.2/24 dev mq1 && ip -n box link set mq1 up && \
                 tc qdisc replace dev mq0 root handle 9: mq",
        fault: "network.delay delay=200ms protocol=icmp to=10.77.0.2",
        measure: Measure::Host("ping -U -c 5 -i 0.3 -W 3 10.77.0.2 | sed -n 's/.*time=\\([0-9.]*\\).*/\\1/p' | sort -n | sed -n 3p"),
        after: "ip link delete mq0 && ip netns delete box",
    },
];

fn queues(site: &mut Site, figures: &mut Figures<'_>) -> Result<()> {
    site.ready()?;
    let (before, mut slowest) = (Before::look(site)?, Slowest::default());
    for root in &ROOTS {
        site.machine().sh(root.before)?.ok()?;
        let shown = site.machine().sh("tc qdisc show")?.ok()?;
        ensure!(
            shown.lines().any(|line| line.contains(root.name) && line.contains(" root ")),
            "the root is not {}: {shown}",
            root.name
        );
        let trial = Trial::new(root.fault, root.measure, 150.0).by_netem();
        together(site, figures, &mut slowest, &[trial]).context(root.name)?;
        site.machine().sh(root.after)?.ok()?;
    }
    slowest.record(figures);
    before.expect(site)
}
