//! Packets of JSON with file descriptors over a socket pair; every wait for one has a limit.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags,
    SocketType, recvmsg, sendmsg, socketpair,
};
use serde::{Serialize, de::DeserializeOwned};

/// The largest packet either side sends.
const PACKET_BYTES: usize = 128 * 1024;
/// The most descriptors one packet carries.
const MAX_FDS: usize = 4;

pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None).context("make a socket pair")
}

pub fn send<T: Serialize>(to: BorrowedFd<'_>, message: &T, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let bytes = serde_json::to_vec(message)?;
    if bytes.len() > PACKET_BYTES {
        bail!(
            "a message of {} bytes is larger than the {PACKET_BYTES} that fit a packet",
            bytes.len()
        );
    }
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        bail!("{} descriptors do not fit a packet", fds.len());
    }
    sendmsg(to, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL).context("write to the socket")?;
    Ok(())
}

/// The next message; none when the other side is gone.
pub fn receive<T: DeserializeOwned>(from: BorrowedFd<'_>) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0; PACKET_BYTES];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let got = match recvmsg(from, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, RecvFlags::CMSG_CLOEXEC) {
        Ok(got) => got,
        Err(rustix::io::Errno::CONNRESET) => return Ok(None),
        Err(error) => return Err(error).context("read from the socket"),
    };
    if got.bytes == 0 {
        return Ok(None);
    }
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(sent) = message {
            fds.extend(sent);
        }
    }
    Ok(Some((serde_json::from_slice(&bytes[..got.bytes])?, fds)))
}

/// As [`receive`], giving up after `limit`.
pub fn receive_within<T: DeserializeOwned>(from: BorrowedFd<'_>, limit: Duration) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, timeout) {
        Ok(0) => bail!("no answer within {limit:?}"),
        Ok(_) => receive(from),
        Err(nix::errno::Errno::EINTR) => receive_within(from, limit),
        Err(error) => Err(error).context("wait for an answer"),
    }
}
