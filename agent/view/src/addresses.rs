//! The interfaces of this network namespace and their addresses, and what names resolve to; it configures nothing.

use std::ffi::CStr;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, ToSocketAddrs};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use crate::error::ViewError;

/// How long a name may take to resolve.
pub const RESOLVE_WITHIN: Duration = Duration::from_secs(1);
/// Resolutions that may be under way at once, those given up included.
const MOST_RESOLVING: usize = 16;

static RESOLVING: AtomicUsize = AtomicUsize::new(0);

/// Whom to ask for the addresses of a name.
pub trait Resolver: Send + Sync {
    /// Within a second or two.
    fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>>;
}

/// Names of the interfaces, in order.
pub(crate) fn interfaces() -> Result<Vec<String>, ViewError> {
    let mut names: Vec<String> = entries()?.into_iter().map(|(name, _)| name).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Addresses by which others can reach this host.
pub(crate) fn global_addresses() -> Result<Vec<IpAddr>, ViewError> {
    let mut found: Vec<IpAddr> = entries()?
        .into_iter()
        .filter_map(|(_, address)| address)
        .filter(is_global)
        .collect();
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

fn is_global(address: &IpAddr) -> bool {
    if address.is_loopback() || address.is_unspecified() || address.is_multicast() {
        return false;
    }
    match address {
        IpAddr::V4(v4) => !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_unicast_link_local(),
    }
}

/// Each interface once per address, and once more without.
fn entries() -> Result<Vec<(String, Option<IpAddr>)>, ViewError> {
    let mut list: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs writes one pointer through the valid pointer it is given, and on success we own the list.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Err(ViewError::new("the network interfaces", io::Error::last_os_error()));
    }
    let mut found = Vec::new();
    let mut next = list;
    while !next.is_null() {
        // SAFETY: `next` is a non-null entry of the list, which lives until freeifaddrs below.
        let entry = unsafe { &*next };
        // SAFETY: the kernel's name of an interface is a terminated string that lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
        // SAFETY: `ifa_addr` is null or points to a socket address of the family it names, alive as long as the list.
        found.push((name, unsafe { address_of(entry.ifa_addr) }));
        next = entry.ifa_next;
    }
    // SAFETY: `list` came from getifaddrs, is freed once, and nothing borrowed from it is kept.
    unsafe { libc::freeifaddrs(list) };
    Ok(found)
}

/// # Safety
/// `address` is null or points to a whole socket address of the family that it names.
unsafe fn address_of(address: *const libc::sockaddr) -> Option<IpAddr> {
    if address.is_null() {
        return None;
    }
    // SAFETY: not null, and every socket address begins with its family.
    match i32::from(unsafe { (*address).sa_family }) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in; read_unaligned needs no alignment.
            let v4 = unsafe { address.cast::<libc::sockaddr_in>().read_unaligned() };
            Some(Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes()).into())
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is a sockaddr_in6; read_unaligned needs no alignment.
            let v6 = unsafe { address.cast::<libc::sockaddr_in6>().read_unaligned() };
            Some(Ipv6Addr::from(v6.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}

/// By whoever resolves names for this process; an address needs nobody.
pub(crate) fn resolve_by(resolver: Option<&dyn Resolver>, name: &str) -> Result<Vec<IpAddr>, ViewError> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let nobody = || io::Error::new(io::ErrorKind::Unsupported, "this process resolves no names");
    let found = resolver.ok_or_else(nobody).and_then(|resolver| resolver.resolve(name));
    let mut found = found.map_err(|e| ViewError::new(format!("the addresses of {name}"), e))?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

/// Asks the system's resolver, in a thread of its own since it cannot be told to give up.
pub fn resolve(name: &str) -> Result<Vec<IpAddr>, ViewError> {
    if let Ok(address) = name.parse() {
        return Ok(vec![address]);
    }
    let failed = |e: io::Error| ViewError::new(format!("the addresses of {name}"), e);
    if RESOLVING.fetch_add(1, Ordering::Relaxed) >= MOST_RESOLVING {
        RESOLVING.fetch_sub(1, Ordering::Relaxed);
        return Err(failed(io::Error::new(
            io::ErrorKind::ResourceBusy,
            "too many names are being resolved",
        )));
    }
    let (sender, receiver) = sync_channel(1);
    let asked = name.to_owned();
    let thread = std::thread::Builder::new().name("resolve".to_owned()).spawn(move || {
        let answer = (asked.as_str(), 0)
            .to_socket_addrs()
            .map(|found| found.map(|a| a.ip()).collect::<Vec<_>>());
        RESOLVING.fetch_sub(1, Ordering::Relaxed);
        // Nobody listens any more when it took too long.
        let _ = sender.send(answer);
    });
    if let Err(e) = thread {
        RESOLVING.fetch_sub(1, Ordering::Relaxed);
        return Err(failed(e));
    }
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {} s", RESOLVE_WITHIN.as_secs()));
    let mut found = receiver
        .recv_timeout(RESOLVE_WITHIN)
        .map_err(late)
        .and_then(|answer| answer)
        .map_err(failed)?;
    found.sort_unstable();
    found.dedup();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_others_can_reach_are_global() {
        for (text, expected) in [
            ("10.0.0.1", true),
            ("8.8.8.8", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("169.254.1.1", false),
            ("fe80::1", false),
            ("::1", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(is_global(&text.parse().unwrap()), expected, "{text}");
        }
    }

    #[test]
    fn the_loopback_is_an_interface_and_no_global_address() {
        assert!(interfaces().unwrap().contains(&"lo".to_owned()));
        assert!(global_addresses().unwrap().iter().all(|a| !a.is_loopback()));
    }

    #[test]
    fn addresses_resolve_to_themselves_and_nonsense_fails_in_time() {
        assert_eq!(resolve("10.0.0.1").unwrap(), vec!["10.0.0.1".parse::<IpAddr>().unwrap()]);
        let started = std::time::Instant::now();
        assert!(resolve("no such name").is_err());
        assert!(started.elapsed() < RESOLVE_WITHIN * 3);
    }
}
