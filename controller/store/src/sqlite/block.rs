//! A block: consecutive events of one run as gzip of their JSON, one a line. It is read whole and checked, or not at all.

use std::io::{Read, Write};

use flate2::Compression;
use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use proto_model::event::Event;
use proto_model::id::RunId;

/// A row of the table of blocks.
pub(super) struct Block {
    pub first: u64,
    pub last: u64,
    /// Bytes of the text.
    pub length: u64,
    pub gzip: Vec<u8>,
}

/// Why the events of a block cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum BlockError {
    #[error("{0}")]
    Gzip(#[from] std::io::Error),
    #[error("the text has not its {0} bytes")]
    Length(u64),
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    #[error("event {0} is not in its place")]
    Place(u64),
}

impl Block {
    /// Of the events with these numbers, by their JSON, one a line.
    pub fn pack(first: u64, last: u64, text: &str) -> Result<Self, BlockError> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::default());
        gzip.write_all(text.as_bytes())?;
        Ok(Self {
            first,
            last,
            length: text.len() as u64,
            gzip: gzip.finish()?,
        })
    }

    /// All of them, in order, of this run.
    pub fn events(&self, run: &RunId) -> Result<Vec<Event>, BlockError> {
        let mut text = Vec::new();
        // One byte more than expected, so that gzip comes to its end and compares its checksum.
        let limit = self.length.saturating_add(1);
        GzDecoder::new(self.gzip.as_slice()).take(limit).read_to_end(&mut text)?;
        if text.len() as u64 != self.length {
            return Err(BlockError::Length(self.length));
        }
        let mut found = serde_json::Deserializer::from_slice(&text).into_iter::<Event>();
        let mut events = Vec::new();
        for seq in self.first..=self.last {
            let event = found.next().ok_or(BlockError::Place(seq))??;
            if event.seq != seq || event.run_id != *run {
                return Err(BlockError::Place(seq));
            }
            events.push(event);
        }
        match found.next() {
            None => Ok(events),
            Some(_) => Err(BlockError::Place(self.last.saturating_add(1))),
        }
    }
}
