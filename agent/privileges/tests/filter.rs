//! What a session may and may not call, asked of the kernel in a process that has the filter.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use agent_privileges::allow_only_a_session;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// A folder of its own.
const INSIDE: &str = "FRACAS_TEST_INSIDE";

#[test]
fn a_session_can_talk_and_can_neither_start_programs_nor_look_into_others() {
    let mut inside = Command::new(std::env::current_exe().unwrap());
    inside.args(["--exact", "the_filtered_process", "--ignored", "--nocapture", "--test-threads", "1"]);
    let folder = tempfile::tempdir().unwrap();
    let output = inside.env(INSIDE, folder.path()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said} {output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"), "{output:?}");
}

/// Not a test: the body of the other process.
#[test]
#[ignore = "started by the other tests"]
fn the_filtered_process() {
    let Some(folder) = std::env::var_os(INSIDE).map(PathBuf::from) else {
        return;
    };
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let peer = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"hello").unwrap();
    });
    // Of this thread and those that it starts.
    allow_only_a_session().unwrap();

    // What it needs.
    let mut greeting = [0; 5];
    TcpStream::connect(address).unwrap().read_exact(&mut greeting).unwrap();
    std::fs::write(folder.join("a"), "x").unwrap();
    std::fs::rename(folder.join("a"), folder.join("b")).unwrap();
    std::fs::remove_file(folder.join("b")).unwrap();
    assert_eq!(std::thread::spawn(|| 7).join().unwrap(), 7);
    assert!(std::net::ToSocketAddrs::to_socket_addrs(&("localhost", 1)).is_ok_and(|mut found| found.next().is_some()));

    // What it must not have.
    let refused = |error: std::io::Error| assert_eq!(error.raw_os_error(), Some(Errno::EPERM as i32), "{error}");
    refused(Command::new("/bin/true").spawn().unwrap_err());
    let flags = SockFlag::empty();
    assert_eq!(
        socket(AddressFamily::Packet, SockType::Datagram, flags, None).unwrap_err(),
        Errno::EPERM
    );
    assert_eq!(socket(AddressFamily::Inet, SockType::Raw, flags, None).unwrap_err(), Errno::EPERM);
    assert_eq!(
        socket(AddressFamily::Vsock, SockType::Stream, flags, None).unwrap_err(),
        Errno::EPERM
    );
    assert_eq!(unshare(CloneFlags::CLONE_NEWUSER).unwrap_err(), Errno::EPERM);
    assert_eq!(nix::sys::signal::kill(nix::unistd::getppid(), None).unwrap_err(), Errno::EPERM);
    assert_eq!(nix::mount::umount("/nonexistent").unwrap_err(), Errno::EPERM);
    drop(peer);
}
