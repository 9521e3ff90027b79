//! Frames on the socket pair: four bytes of length, least first, then so many bytes; what is longer than its limit is never read.

use std::io::{self, ErrorKind, Read, Write};

/// The longest request: twice the longest order from the network, whose numbers may take more room here.
pub(crate) const MAX_REQUEST: usize = 2 << 20;
/// The longest message from the agent: all reports of many injections in one answer.
pub(crate) const MAX_MESSAGE: usize = 64 << 20;

pub(crate) fn write(to: &mut impl Write, frame: &[u8]) -> io::Result<()> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    let mut whole = Vec::with_capacity(frame.len() + 4);
    whole.extend_from_slice(&length.to_le_bytes());
    whole.extend_from_slice(frame);
    to.write_all(&whole)
}

/// `None` at the end of the stream.
pub(crate) fn read(from: &mut impl Read, longest: usize) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match from.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > longest {
        let text = format!("a frame of {length} bytes (allowed: up to {longest})");
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    let mut frame = vec![0; length];
    from.read_exact(&mut frame)?;
    Ok(Some(frame))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_too_long_is_not() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"first").unwrap();
        write(&mut bytes, b"").unwrap();
        let mut from = bytes.as_slice();
        assert_eq!(read(&mut from, 5).unwrap().unwrap(), b"first");
        assert_eq!(read(&mut from, 5).unwrap().unwrap(), b"");
        assert_eq!(read(&mut from, 5).unwrap(), None);
        let error = read(&mut bytes.as_slice(), 4).unwrap_err();
        assert!(error.to_string().contains("a frame of 5 bytes"), "{error}");
        assert!(read(&mut [3, 0, 0, 0, 1].as_slice(), 4).is_err(), "a frame that is cut short");
    }
}
