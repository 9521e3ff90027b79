//! Tells the service manager that the program is ready and alive, by datagram; without a manager it does nothing.

use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The way to the service manager, if one asked to be told.
#[derive(Debug)]
pub struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notifier {
    /// From `$NOTIFY_SOCKET` and `$WATCHDOG_USEC` (heeded only when `$WATCHDOG_PID` is absent or ours).
    pub fn from_env() -> io::Result<Self> {
        let to = std::env::var_os("NOTIFY_SOCKET").map(connect).transpose()?;
        let ours = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let watchdog = std::env::var("WATCHDOG_USEC")
            .ok()
            .filter(|_| ours)
            .and_then(|usec| interval(&usec));
        Ok(Self { to, watchdog })
    }

    /// The program is up; `status` is shown beside it.
    pub fn ready(&self, status: &str) -> io::Result<()> {
        self.send(&format!("READY=1\nSTATUS={status}"))
    }

    pub fn status(&self, status: &str) -> io::Result<()> {
        self.send(&format!("STATUS={status}"))
    }

    /// The program is ending by itself.
    pub fn stopping(&self) -> io::Result<()> {
        self.send("STOPPING=1")
    }

    /// A sign of life, due every [`Self::watchdog_every`].
    pub fn alive(&self) -> io::Result<()> {
        self.send("WATCHDOG=1")
    }

    /// Half of the manager's patience; none when it does not watch.
    pub fn watchdog_every(&self) -> Option<Duration> {
        self.watchdog
    }

    fn send(&self, text: &str) -> io::Result<()> {
        let Some((socket, address)) = &self.to else { return Ok(()) };
        socket.send_to_addr(text.as_bytes(), address).map(drop)
    }
}

fn connect(path: OsString) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(&path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A manager that does not read must not hold the program up.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}

fn interval(usec: &str) -> Option<Duration> {
    let usec: u64 = usec.parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard_at(path: OsString, listener: &UnixDatagram) -> Vec<String> {
        let notifier = Notifier {
            to: Some(connect(path).unwrap()),
            watchdog: None,
        };
        notifier.ready("3 faults known").unwrap();
        notifier.alive().unwrap();
        notifier.stopping().unwrap();
        let mut buffer = [0; 256];
        (0..3)
            .map(|_| {
                listener
                    .recv(&mut buffer)
                    .map(|n| String::from_utf8_lossy(&buffer[..n]).into_owned())
                    .unwrap()
            })
            .collect()
    }

    const SAID: [&str; 3] = ["READY=1\nSTATUS=3 faults known", "WATCHDOG=1", "STOPPING=1"];

    #[test]
    fn a_manager_at_a_path_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let listener = UnixDatagram::bind(&path).unwrap();
        assert_eq!(heard_at(path.into(), &listener), SAID);
    }

    #[test]
    fn a_manager_at_an_abstract_address_is_told() {
        let name = format!("fracas-notify-test-{}", std::process::id());
        let listener = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        assert_eq!(heard_at(format!("@{name}").into(), &listener), SAID);
    }

    #[test]
    fn nobody_to_tell_is_no_error_and_the_watchdog_is_met_twice_over() {
        let silent = Notifier { to: None, watchdog: None };
        silent.ready("").unwrap();
        assert_eq!(interval("20000000"), Some(Duration::from_secs(10)));
        assert_eq!(interval("0"), None);
        assert_eq!(interval("soon"), None);
    }
}
