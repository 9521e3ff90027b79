//! What a delay costs traffic that it does not mean, and what it carries itself: bulk TCP between hosts, counted by its receiver.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread::{JoinHandle, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use tests_harness::{Host, Lab, wait};

use crate::bench::Figure;
use crate::measure::finished;

const WINDOW: Duration = Duration::from_secs(4);
/// With and without in turns, so that both meet the same machine.
const TURNS: usize = 3;
const BLOCK: usize = 128 * 1024;
const SOON: Duration = Duration::from_secs(20);

/// From host one: bulk to two, while packets to three are delayed or are not; and bulk to three through the delay.
pub fn beside_a_delay(lab: &Lab) -> Result<Vec<Figure>> {
    eprintln!("measuring traffic beside a delay, and through it");
    let (mut without, mut with, mut through) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..TURNS {
        without.push(bulk(lab.host("one"), lab.host("two"))?);
        let id = held(lab, &["network.delay", "to=host:three", "delay=20ms"])?;
        with.push(bulk(lab.host("one"), lab.host("two"))?);
        through.push(bulk(lab.host("one"), lab.host("three"))?);
        lab.fracas(&["stop", &id])?.ok()?;
        finished(lab, &id)?;
    }
    let (without, with, through) = (median(without), median(with), median(through));
    Ok(vec![
        Figure::new(
            "TCP on an interface beside a network.delay",
            format!("{:.0} Mbit/s ({:.0} %)", with, 100.0 * with / without),
            format!("without: {without:.0} Mbit/s"),
            "at least 95 %",
        ),
        Figure::new("TCP through a network.delay of 20 ms", format!("{through:.0} Mbit/s"), "", "stated"),
    ])
}

pub fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// Attacks host one and waits until it acts; the run's id.
pub fn held(lab: &Lab, words: &[&str]) -> Result<String> {
    let run = lab.json(&[&["attack"], words, &["--on", "one", "--for", "120s", "--detach"]].concat())?;
    let id = run["id"].as_str().context("a run has an id")?.to_owned();
    let holds = || Ok(lab.json(&["runs", "show", &id])?["injections"][0]["state"] == "holding");
    wait::until(format_args!("{} acts", words.join(" ")), SOON, holds)?;
    Ok(id)
}

/// Megabits per second that arrive over the window.
fn bulk(from: &Host, to: &Host) -> Result<f64> {
    let address = to.addresses().into_iter().find(IpAddr::is_ipv4).context("a host has an address")?;
    let listener = inside(to, move || Ok(TcpListener::bind((address, 0))?))?
        .join()
        .map_err(|_| anyhow!("the listener panicked"))??;
    let at = listener.local_addr()?;
    let receiver = std::thread::spawn(move || receive(&listener));
    let sender = inside(from, move || send(at))?;
    let received = receiver.join().map_err(|_| anyhow!("the receiver panicked"))?;
    sender.join().map_err(|_| anyhow!("the sender panicked"))??;
    received
}

fn receive(listener: &TcpListener) -> Result<f64> {
    let (mut stream, _) = listener.accept()?;
    let (mut block, mut bytes, begun) = (vec![0; BLOCK], 0_usize, Instant::now());
    while begun.elapsed() < WINDOW {
        bytes += stream.read(&mut block)?;
    }
    Ok(bytes as f64 * 8.0 / 1e6 / begun.elapsed().as_secs_f64())
}

/// Until the receiver hangs up.
fn send(to: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect_timeout(&to, SOON)?;
    stream.set_write_timeout(Some(WINDOW))?;
    let block = vec![7; BLOCK];
    while stream.write_all(&block).is_ok() {}
    sleep(Duration::from_millis(50));
    Ok(())
}

/// In a thread of its own that enters the host's network and ends there; its sockets stay.
pub fn inside<T: Send + 'static>(host: &Host, deed: impl FnOnce() -> Result<T> + Send + 'static) -> Result<JoinHandle<Result<T>>> {
    let namespace = File::open(format!("/proc/{}/ns/net", host.init_pid())).context("open a host's network namespace")?;
    Ok(std::thread::spawn(move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).context("enter a host's network namespace")?;
        deed()
    }))
}
