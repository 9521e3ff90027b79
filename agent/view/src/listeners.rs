//! Who listens on which TCP port or waits on which UDP port, by the kernel's socket tables and the open files of processes; it opens no socket.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::error::ViewError;
use crate::process::pids;
use crate::text;

/// The kernel's tables, each with the state of a socket there that anybody may send to.
const TABLES: [(&str, &str); 4] = [("tcp", LISTEN), ("tcp6", LISTEN), ("udp", UNCONNECTED), ("udp6", UNCONNECTED)];
const LISTEN: &str = "0A";
/// A UDP socket that is bound and takes packets of everybody; one that is connected belongs to a client, or to one client.
const UNCONNECTED: &str = "07";

/// A process that listens on a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub port: u16,
    pub address: IpAddr,
    pub pid: u32,
}

/// In the calling thread's network namespace.
pub(crate) fn listeners() -> Result<Vec<Listener>, ViewError> {
    let mut sockets = BTreeMap::new();
    for (table, state) in TABLES {
        if let Some(listed) = text::read_if_there(format!("/proc/thread-self/net/{table}"))? {
            sockets.extend(listed.lines().skip(1).filter_map(|line| listening(line, state)));
        }
    }
    if sockets.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for pid in pids()? {
        let held = sockets_of(pid).into_iter().filter_map(|inode| sockets.get(&inode));
        found.extend(held.map(|(address, port)| Listener {
            port: *port,
            address: *address,
            pid,
        }));
    }
    Ok(found)
}

/// Inode, address and port of a line in this state.
fn listening(line: &str, state: &str) -> Option<(u64, (IpAddr, u16))> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    if *fields.get(3)? != state {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((fields.get(9)?.parse().ok()?, (address_of(address)?, port)))
}

/// Hex of the address's 32-bit words, each in the byte order of this machine.
fn address_of(hex: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    for start in (0..hex.len()).step_by(8) {
        bytes.extend(u32::from_str_radix(hex.get(start..start + 8)?, 16).ok()?.to_ne_bytes());
    }
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)).to_canonical()),
        _ => None,
    }
}

/// Inodes of the sockets that a process holds open; none when it has ended or may not be read.
fn sockets_of(pid: u32) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return Vec::new();
    };
    let inode = |target: &str| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok();
    let mut inodes: Vec<u64> = entries
        .flatten()
        .filter_map(|entry| inode(fs::read_link(entry.path()).ok()?.to_str()?))
        .collect();
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn our_own_ports_are_found_with_their_addresses() {
        let v4 = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = v4.local_addr().unwrap().port();
        let found = listeners().unwrap();
        let own = found.iter().find(|l| l.port == port && l.pid == std::process::id()).unwrap();
        assert_eq!(own.address, v4.local_addr().unwrap().ip());
        drop(v4);
        assert!(!listeners().unwrap().iter().any(|l| l.port == port && l.pid == std::process::id()));
    }

    #[test]
    fn whoever_waits_on_a_udp_port_is_found_and_a_client_is_not() {
        for any in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(server) = UdpSocket::bind(any) else {
                tests_notes::skip(&format!("no socket can be bound to {any}"));
                continue;
            };
            let client = UdpSocket::bind(any).unwrap();
            client.connect(server.local_addr().unwrap()).unwrap();
            let found = listeners().unwrap();
            let ours = |port: u16| found.iter().find(|l| l.port == port && l.pid == std::process::id());
            let at = server.local_addr().unwrap();
            assert_eq!(ours(at.port()).map(|l| l.address), Some(at.ip()));
            assert_eq!(ours(client.local_addr().unwrap().port()), None);
        }
    }

    #[test]
    fn connections_and_rubbish_are_not_listeners() {
        let line = "   0: 0100007F:1F90 00000000:0000 01 00000000:00000000 00:00000000 00000000     0        0 4242 1 0 100 0 0 10 0";
        assert_eq!(listening(line, LISTEN), None);
        assert!(listening(&line.replace(" 01 ", " 0A "), LISTEN).is_some());
        assert!(listening(&line.replace(" 01 ", " 07 "), UNCONNECTED).is_some());
        assert_eq!(listening("sl local_address", LISTEN), None);
        assert_eq!(address_of("0100"), None);
    }
}
