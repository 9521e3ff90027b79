//! How records lie in a file: length, checksum, version, JSON. Each checksum continues the one before, so old bytes never pass for a record.

use crate::error::JournalError;
use crate::record::Record;
use crate::undo::UndoData;

/// Length and checksum, 4 bytes each, little endian, and the version's byte.
pub(crate) const HEADER: usize = 9;
pub(crate) const VERSION: u8 = 1;
/// Bytes of the longest record, header included.
pub(crate) const LONGEST: usize = 256 * 1024;
/// What the first checksum continues: files of others do not begin with it.
const SEED: u32 = 0x4652_4143;

/// One record as it is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Line<U> {
    pub(crate) bytes: Vec<u8>,
    pub(crate) checksum: u32,
    /// What it says, or why this version cannot read it although it is whole.
    pub(crate) says: Result<Record<U>, String>,
}

/// Writes a record to come after `last`.
pub(crate) fn encode<U: UndoData>(last: Option<&Line<U>>, record: Record<U>) -> Result<Line<U>, JournalError> {
    let payload = serde_json::to_vec(&record)?;
    let bytes = HEADER + payload.len();
    if bytes > LONGEST {
        return Err(JournalError::TooLong { bytes, most: LONGEST });
    }
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let checksum = checksum(last.map_or(SEED, |line| line.checksum), length, VERSION, &payload);
    let mut bytes = Vec::with_capacity(bytes);
    bytes.extend(length);
    bytes.extend(checksum.to_le_bytes());
    bytes.push(VERSION);
    bytes.extend(payload);
    Ok(Line {
        bytes,
        checksum,
        says: Ok(record),
    })
}

/// Every whole record from the start; what follows the last of them never happened.
pub(crate) fn decode<U: UndoData>(bytes: &[u8]) -> Vec<Line<U>> {
    let mut lines: Vec<Line<U>> = Vec::new();
    let mut rest = bytes;
    while let Some(line) = first_line(lines.last(), rest) {
        rest = &rest[line.bytes.len()..];
        lines.push(line);
    }
    lines
}

fn first_line<U: UndoData>(last: Option<&Line<U>>, bytes: &[u8]) -> Option<Line<U>> {
    let length: [u8; 4] = bytes.get(..4)?.try_into().ok()?;
    let written = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
    let version = *bytes.get(8)?;
    let end = HEADER.checked_add(usize::try_from(u32::from_le_bytes(length)).ok()?)?;
    if end == HEADER || end > LONGEST {
        return None;
    }
    let payload = bytes.get(HEADER..end)?;
    let checksum = checksum(last.map_or(SEED, |line| line.checksum), length, version, payload);
    (checksum == written).then(|| Line {
        bytes: bytes[..end].to_vec(),
        checksum,
        says: read(version, payload),
    })
}

fn read<U: UndoData>(version: u8, payload: &[u8]) -> Result<Record<U>, String> {
    if version != VERSION {
        return Err(format!("a record of format {version}; this program knows {VERSION}"));
    }
    serde_json::from_slice(payload).map_err(|e| format!("a record this program does not know: {e}"))
}

fn checksum(before: u32, length: [u8; 4], version: u8, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&before.to_le_bytes());
    hasher.update(&length);
    hasher.update(&[version]);
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use proto_model::injection::EndedBy;

    use super::*;

    type Line = super::Line<()>;

    fn three() -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for ended_by in [EndedBy::Stop, EndedBy::Halt, EndedBy::LeaseLost] {
            lines.push(encode(lines.last(), Record::Ending { ended_by }).unwrap());
        }
        lines
    }

    fn bytes_of(lines: &[Line]) -> Vec<u8> {
        lines.iter().flat_map(|line| line.bytes.clone()).collect()
    }

    #[test]
    fn a_tail_torn_at_any_byte_never_happened() {
        let lines = three();
        let whole = bytes_of(&lines);
        for cut in 0..=whole.len() {
            let expected = [0, 1, 2, 3]
                .into_iter()
                .rev()
                .find(|n| bytes_of(&lines[..*n]).len() <= cut)
                .unwrap();
            assert_eq!(decode(&whole[..cut]), lines[..expected], "cut at {cut}");
            let mut padded = whole[..cut].to_vec();
            padded.resize(whole.len() + 64, 0);
            assert_eq!(decode(&padded), lines[..expected], "cut at {cut}, then zeros");
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_history_before_it() {
        let lines = three();
        let whole = bytes_of(&lines);
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let read: Vec<Line> = decode(&bytes);
                assert!(read.len() < 3 && read == lines[..read.len()], "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_whole_record_in_the_wrong_place_is_none() {
        let lines = three();
        let swapped = [lines[0].clone(), lines[2].clone()];
        assert_eq!(decode::<()>(&bytes_of(&swapped)).len(), 1);
        assert!(decode::<()>(&bytes_of(&lines[1..])).is_empty());
    }

    #[test]
    fn a_record_of_another_version_is_kept_and_said_to_be_strange() {
        let payload = br#"{"record":"teleported"}"#;
        let length = u32::try_from(payload.len()).unwrap().to_le_bytes();
        for (version, words) in [(1, "does not know"), (2, "format 2")] {
            let checksum = checksum(SEED, length, version, payload);
            let mut bytes = [length, checksum.to_le_bytes()].concat();
            bytes.push(version);
            bytes.extend(payload);
            let lines: Vec<Line> = decode(&bytes);
            assert!(lines[0].says.as_ref().unwrap_err().contains(words));
        }
    }

    #[test]
    fn any_bytes_are_read_without_harm() {
        for length in 0..200_usize {
            let bytes: Vec<u8> = (0..length).map(|i| (i * 37 + length) as u8).collect();
            assert!(decode::<()>(&bytes).is_empty());
        }
        assert!(decode::<()>(&[0xff; 64]).is_empty());
    }
}
