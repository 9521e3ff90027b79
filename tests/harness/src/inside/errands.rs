//! Small programs that hosts need and a minimal Debian lacks: entering a group, configuring links, and talking over TCP.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{footprint, groups};

/// The longest wait for a connection or an answer.
const LIMIT: Duration = Duration::from_secs(2);

/// Runs `ip -batch` with these lines.
pub fn ip(batch: &str) -> Result<()> {
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ip (package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(batch.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("ip: {}", String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; "));
    }
    Ok(())
}

/// `enter GROUP PROGRAM ARGUMENT...`: joins the group of that name in every hierarchy, then becomes the program.
pub fn enter(arguments: &[String]) -> Result<()> {
    let [group, program, rest @ ..] = arguments else {
        bail!("enter needs a group and a program")
    };
    for mount in super::mounts::hierarchies()? {
        let folder = mount.join(group);
        groups::make_folder(&folder)?;
        groups::join(&folder)?;
    }
    nix::unistd::setsid().ok();
    let error = Command::new(program).args(rest).exec();
    eprintln!("{program}: {error}");
    std::process::exit(127);
}

pub fn footprint() -> Result<()> {
    let footprint = footprint::Footprint::look(Path::new("/"))?;
    Ok(serde_json::to_writer(std::io::stdout().lock(), &footprint)?)
}

/// `echo ADDRESS...`: returns every line to whoever sent it, on each address, as long as they like.
pub fn echo(addresses: &[String]) -> Result<()> {
    let listeners: Vec<TcpListener> = addresses.iter().map(TcpListener::bind).collect::<std::io::Result<_>>()?;
    println!("listening");
    let serve = |listener: TcpListener| {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let Ok(mut back) = stream.try_clone() else { return };
                let mut from = stream;
                std::io::copy(&mut from, &mut back).ok();
            });
        }
    };
    let threads: Vec<_> = listeners
        .into_iter()
        .map(|listener| std::thread::spawn(move || serve(listener)))
        .collect();
    threads
        .into_iter()
        .try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("an echo server panicked")))
}

/// `chat ADDRESS EVERY_MS COUNT`: one line each time there and back on one connection; prints `MS ok|lost`, one per line,
/// and `MS closed` when the other side ended it. A lost line is waited for again, as the connection still holds it.
pub fn chat(arguments: &[String]) -> Result<()> {
    let [address, every, count] = arguments else {
        bail!("chat needs an address, an interval and a count")
    };
    let every = Duration::from_millis(every.parse()?);
    let mut stream = TcpStream::connect_timeout(&address.parse()?, LIMIT)?;
    stream.set_read_timeout(Some(every.max(Duration::from_millis(1))))?;
    stream.set_nodelay(true)?;
    let (start, mut owed) = (Instant::now(), 0);
    for _ in 0..count.parse::<u32>()? {
        let began = Instant::now();
        stream.write_all(b"hello\n")?;
        owed += 6;
        let word = hear(&mut stream, &mut owed);
        println!("{} {word}", start.elapsed().as_millis());
        if word == "closed" {
            break;
        }
        std::thread::sleep(every.saturating_sub(began.elapsed()));
    }
    Ok(())
}

fn hear(stream: &mut TcpStream, owed: &mut usize) -> &'static str {
    let mut bytes = [0; 4096];
    while *owed > 0 {
        match stream.read(&mut bytes) {
            Ok(0) => return "closed",
            Ok(read) => *owed = owed.saturating_sub(read),
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => return "lost",
            Err(_) => return "closed",
        }
    }
    "ok"
}

/// `get HOST:PORT PATH`: prints the status and the body of an HTTP answer, or fails.
pub fn get(arguments: &[String]) -> Result<()> {
    let [address, path] = arguments else {
        bail!("get needs an address and a path")
    };
    let to = std::net::ToSocketAddrs::to_socket_addrs(address.as_str())?
        .next()
        .context("no address")?;
    let mut stream = TcpStream::connect_timeout(&to, LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.take(1 << 20).read_to_string(&mut answer)?;
    let status = answer.split(' ').nth(1).context("no HTTP answer")?;
    println!("{status} {}", answer.split_once("\r\n\r\n").map_or("", |(_, body)| body.trim_end()));
    Ok(())
}
