//! How exact delays and losses are, and how fast they come and go: seen by sockets of our own, beside nft doing the same.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;
use tests_harness::{Cmd, Host, Lab};

use crate::bench::Figure;
use crate::measure::{finished, millis};
use crate::traffic::{held, inside, median};

const CONNECTS: usize = 41;
/// For a spread more are needed than for a median; nobody accepts them, so that they must fit a queue.
const SPREAD_CONNECTS: usize = 100;
const SOON: Duration = Duration::from_secs(5);
const DATAGRAMS: usize = 10_000;
/// One time is off by a point by luck alone now and then: its deviation is 0.4 points.
const LOSS_TIMES: usize = 5;
/// As many as a socket's buffer surely holds, and the pause in which they are read.
const BATCH: usize = 50;
const PAUSE: Duration = Duration::from_millis(2);
/// Nothing comes any more.
const SILENCE: Duration = Duration::from_millis(500);
const TIMES: usize = 15;
const CUTS: usize = 11;
/// Between two datagrams of a stream: how exactly its end is seen.
const BEAT: Duration = Duration::from_micros(200);

/// From host one to host three, with and without a fault.
pub fn exactness(lab: &Lab) -> Result<Vec<Figure>> {
    eprintln!("measuring a delay of 100 ms, its jitter, and a loss of 20 % over {DATAGRAMS} packets");
    let usual = median(connects(lab, CONNECTS)?);
    let delay = held(lab, &["network.delay", "to=host:three", "delay=100ms"])?;
    let delayed = median(connects(lab, CONNECTS)?) - usual;
    over(lab, &delay)?;
    let jitter = held(lab, &["network.delay", "to=host:three", "delay=100ms", "jitter=20ms"])?;
    let width = half_width(&connects(lab, SPREAD_CONNECTS)?);
    over(lab, &jitter)?;
    let loss = held(lab, &["network.loss", "to=host:three", "percent=20"])?;
    let lost = median((0..LOSS_TIMES).map(|_| lost_of(lab)).collect::<Result<_>>()?);
    over(lab, &loss)?;
    Ok(vec![
        Figure::new(
            format!("network.delay of 100 ms, median of {CONNECTS} connections"),
            format!("{delayed:.1} ms"),
            format!("without: {usual:.2} ms"),
            "within 1 ms + 2 %",
        ),
        Figure::new("its jitter of 20 ms, half the width", format!("{width:.1} ms"), "", "as asked"),
        Figure::new(
            format!("network.loss of 20 % over {DATAGRAMS} packets, median of {LOSS_TIMES}"),
            format!("{lost:.1} %"),
            "",
            "within 1 point",
        ),
    ])
}

fn over(lab: &Lab, run: &str) -> Result<()> {
    lab.fracas(&["stop", run])?.ok()?;
    finished(lab, run)
}

fn address(host: &Host) -> Result<IpAddr> {
    host.addresses().into_iter().find(IpAddr::is_ipv4).context("a host has an address")
}

/// Milliseconds that new connections take: one way there is delayed, and a connection is made by one round trip.
fn connects(lab: &Lab, count: usize) -> Result<Vec<f64>> {
    let to = address(lab.host("three"))?;
    let listener = inside(lab.host("three"), move || Ok(TcpListener::bind((to, 0))?))?;
    let listener = listener.join().map_err(|_| anyhow!("the listener panicked"))??;
    let at = listener.local_addr()?;
    let timed = inside(lab.host("one"), move || (0..count).map(|_| connects_in(at)).collect())?;
    timed.join().map_err(|_| anyhow!("the one that connects panicked"))?
}

fn connects_in(at: SocketAddr) -> Result<f64> {
    let begin = Instant::now();
    TcpStream::connect_timeout(&at, SOON)?;
    Ok(begin.elapsed().as_secs_f64() * 1e3)
}

/// Of an even spread with the same deviation.
fn half_width(times: &[f64]) -> f64 {
    let count = times.len() as f64;
    let mean = times.iter().sum::<f64>() / count;
    let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / count;
    (3.0 * variance).sqrt()
}

/// Percent of the datagrams that do not arrive.
fn lost_of(lab: &Lab) -> Result<f64> {
    let to = address(lab.host("three"))?;
    let receiver = inside(lab.host("three"), move || Ok(UdpSocket::bind((to, 0))?))?;
    let receiver = receiver.join().map_err(|_| anyhow!("the receiver panicked"))??;
    let at = receiver.local_addr()?;
    let counted = std::thread::spawn(move || count(&receiver));
    let sent = inside(lab.host("one"), move || send(at))?;
    sent.join().map_err(|_| anyhow!("the sender panicked"))??;
    let arrived = counted.join().map_err(|_| anyhow!("the receiver panicked"))??;
    Ok(100.0 * (DATAGRAMS - arrived) as f64 / DATAGRAMS as f64)
}

fn send(to: SocketAddr) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    for number in 0..DATAGRAMS {
        match socket.send_to(b"one", to) {
            // A rule that drops what leaves says so to whoever sends.
            Err(error) if error.kind() != ErrorKind::PermissionDenied => return Err(error.into()),
            _ if number % BATCH == BATCH - 1 => sleep(PAUSE),
            _ => {}
        }
    }
    Ok(())
}

fn count(socket: &UdpSocket) -> Result<usize> {
    socket.set_read_timeout(Some(SOON))?;
    let (mut arrived, mut block) = (0, [0; 16]);
    while socket.recv(&mut block).is_ok() {
        arrived += 1;
        socket.set_read_timeout(Some(SILENCE))?;
    }
    Ok(arrived)
}

/// How long the agent takes to make a fault act and to undo it, and how long nft takes for the same rules.
pub fn speed(lab: &Lab) -> Result<Figure> {
    eprintln!("making a loss act and undoing it, {TIMES} times each way");
    let mut ours = Vec::new();
    for _ in 0..TIMES {
        let run = held(lab, &["network.loss", "to=host:three", "percent=20"])?;
        over(lab, &run)?;
        ours.push(told_ms(lab, &run)?);
    }
    let nft = by_nft(lab)?;
    Ok(Figure::new(
        format!("network.loss applied and undone, median of {TIMES}"),
        format!("{:.0} ms", median(ours)),
        format!("nft: {}", millis(nft)),
        "5x faster than nft",
    ))
}

/// As the agent tells it, records and syncs of its journal included.
fn told_ms(lab: &Lab, run: &str) -> Result<f64> {
    let text = lab.fracas(&["runs", "events", run, "-o", "jsonl"])?.ok()?;
    let events = text.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>()?;
    let of = |name: &str| events.iter().find_map(|event| event[name].as_f64());
    let (apply, undo) = (of("apply_ms"), of("undo_ms"));
    Ok(apply.context("the events tell how long it took to apply")? + undo.context("and to undo")?)
}

/// From before an operator's command is started until the last packet arrives that it cuts; nft in the host itself beside it.
pub fn order_to_effect(lab: &Lab) -> Result<Figure> {
    eprintln!("cutting a stream of datagrams, {CUTS} times each way");
    let to = address(lab.host("three"))?;
    let (mut ours, mut nft) = (Vec::new(), Vec::new());
    let host = lab.host("one");
    host.write(
        "/run/tmp/cut.nft",
        format!("table inet peer {{ chain out {{ type filter hook output priority -300; ip daddr {to} drop; }}; }}"),
    )?;
    for _ in 0..CUTS {
        let mut run = String::new();
        ours.push(until_silent(lab, || {
            let words = [
                "attack",
                "network.partition",
                "to=host:three",
                "--on",
                "one",
                "--for",
                "60s",
                "--detach",
            ];
            lab.json(&words)?["id"].as_str().context("a run has an id")?.clone_into(&mut run);
            Ok(())
        })?);
        over(lab, &run)?;
        nft.push(until_silent(lab, || host.exec(Cmd::sh("nft -f /run/tmp/cut.nft"))?.ok().map(drop))?);
        host.exec(Cmd::sh("nft delete table inet peer"))?.ok()?;
    }
    Ok(Figure::new(
        format!("order to effect of a cut, one agent, median of {CUTS}"),
        format!("{:.1} ms", median(ours)),
        format!("nft -f on the host itself: {:.1} ms", median(nft)),
        "under 50 ms",
    ))
}

/// Milliseconds from before `cut` until the last datagram of a stream from host one to host three arrives.
fn until_silent(lab: &Lab, cut: impl FnOnce() -> Result<()>) -> Result<f64> {
    let to = address(lab.host("three"))?;
    let receiver = inside(lab.host("three"), move || Ok(UdpSocket::bind((to, 0))?))?;
    let receiver = receiver.join().map_err(|_| anyhow!("the receiver panicked"))??;
    let at = receiver.local_addr()?;
    let over = Arc::new(AtomicBool::new(false));
    let ends = over.clone();
    let sender = inside(lab.host("one"), move || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        while !ends.load(Ordering::Relaxed) {
            // A rule that drops what leaves says so to whoever sends.
            let _ = socket.send_to(b"one", at);
            sleep(BEAT);
        }
        Ok(())
    })?;
    receiver.set_read_timeout(Some(SOON))?;
    let mut block = [0; 16];
    receiver.recv(&mut block).context("the stream arrives before the cut")?;
    let listening = std::thread::spawn(move || -> Result<Instant> {
        receiver.set_read_timeout(Some(SILENCE))?;
        let mut last = Instant::now();
        while receiver.recv(&mut block).is_ok() {
            last = Instant::now();
        }
        Ok(last)
    });
    let begin = Instant::now();
    cut()?;
    let last = listening.join().map_err(|_| anyhow!("the listener panicked"))??;
    over.store(true, Ordering::Relaxed);
    sender.join().map_err(|_| anyhow!("the sender panicked"))??;
    ensure!(last > begin, "the stream ended before it was cut");
    Ok((last - begin).as_secs_f64() * 1e3)
}

fn by_nft(lab: &Lab) -> Result<Duration> {
    let to = address(lab.host("three"))?;
    let rules = format!(
        "table inet peer {{
            set peers {{
                type ipv4_addr
                elements = {{ {to} }}
            }}
            chain out {{
                type filter hook output priority -300
                ip daddr @peers numgen random mod 100 < 20 drop
            }}
        }}"
    );
    let host = lab.host("one");
    host.write("/run/tmp/peer.nft", &rules)?;
    let (add, delete) = ("nft -f /run/tmp/peer.nft", "nft delete table inet peer");
    // Once to see that it does what is meant; in the loop each command must succeed as well.
    let seen = "nft list table inet peer | grep -q 'numgen random'";
    let script = format!(
        "set -e\n{add}\n{seen}\n{delete}\nbegin=$(date +%s%N)\nfor i in $(seq {TIMES}); do\n{add}\n{delete}\ndone\n\
        echo $(( ($(date +%s%N) - begin) / {TIMES} ))"
    );
    let took = host.exec(Cmd::sh(script))?.ok()?;
    let nanos = took.trim().parse().with_context(|| format!("read {took:?} as nanoseconds"))?;
    ensure!(nanos > 0, "nft took no time");
    Ok(Duration::from_nanos(nanos))
}
