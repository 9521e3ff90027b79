//! Connections that never say who they are: over TLS without a certificate and without a request, or without a single byte. Each is opened
//! again when the controller closes it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use proto_transport::{Trust, connect_from};
use serde_json::json;
use tests_harness::limits::raise_open_files;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::TcpSocket;
use tokio::time::sleep;

use crate::{Outsiders, lines, print};

const FIRST_ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 200, 0, 1);
/// Between a connection's end and its successor.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const OTHER_FILES: u64 = 256;

#[derive(Default)]
struct Open {
    idle: AtomicU64,
    silent: AtomicU64,
}

pub async fn hold(outsiders: &Outsiders) -> Result<()> {
    if outsiders.addresses == 0 {
        bail!("--addresses is 0; allowed: 1 and more");
    }
    raise_open_files(u64::from(outsiders.idle + outsiders.silent) + OTHER_FILES).context("raise the limit of open files")?;
    let open = Arc::new(Open::default());
    let from = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(FIRST_ADDRESS.to_bits() + number % outsiders.addresses));
    for number in 0..outsiders.idle {
        let (open, controller, trust) = (
            open.clone(),
            outsiders.controller,
            Trust::Fingerprint(outsiders.fingerprint.clone()),
        );
        let from = from(number);
        tokio::spawn(async move {
            loop {
                if let Ok(mut stream) = connect_from(from, controller, trust.clone(), None).await {
                    wait(&mut stream, &open.idle).await;
                }
                sleep(AGAIN_AFTER).await;
            }
        });
    }
    for number in 0..outsiders.silent {
        let (open, controller, from) = (open.clone(), outsiders.controller, from(number));
        tokio::spawn(async move {
            loop {
                if let Ok(mut stream) = connect(from, controller).await {
                    wait(&mut stream, &open.silent).await;
                }
                sleep(AGAIN_AFTER).await;
            }
        });
    }
    let mut lines = lines();
    while let Some(line) = lines.recv().await {
        if line != "counts" {
            bail!("line {line:?} is unknown; allowed: counts");
        }
        print(&json!({ "idle": open.idle.load(Ordering::Relaxed), "silent": open.silent.load(Ordering::Relaxed) }))?;
    }
    Ok(())
}

async fn connect(from: IpAddr, controller: SocketAddr) -> std::io::Result<tokio::net::TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(controller).await
}

/// Until the other side closes it. What it sends is not answered.
async fn wait(stream: &mut (impl AsyncRead + Unpin), open: &AtomicU64) {
    open.fetch_add(1, Ordering::Relaxed);
    let mut buffer = [0; 512];
    while stream.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
    open.fetch_sub(1, Ordering::Relaxed);
}
