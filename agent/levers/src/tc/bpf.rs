//! The bpf(2) calls of shaped paths that change something: maps are made and filled, and programs are loaded.

use std::io;

use agent_view::tc::bpf::{Attribute, Map, Program};

use super::memlock;

const MAP_CREATE: libc::c_long = 0;
const MAP_UPDATE: libc::c_long = 2;
const MAP_DELETE: libc::c_long = 3;

const NO_PREALLOC: u32 = 1;

/// What a map is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MapKind {
    /// Values by number.
    Array,
    /// Values by key.
    Hash,
    /// Values by the longest prefix that the key has.
    Prefixes,
}

impl MapKind {
    fn number(self) -> u32 {
        match self {
            Self::Array => 2,
            Self::Hash => 1,
            Self::Prefixes => 11,
        }
    }
}

pub(super) fn create_map(kind: MapKind, name: &str, key: usize, value: usize, most: u32) -> io::Result<Map> {
    let flags = if kind == MapKind::Prefixes { NO_PREALLOC } else { 0 };
    let size = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
    let mut attribute = Attribute::default()
        .put(0, kind.number())
        .put(4, size(key)?)
        .put(8, size(value)?)
        .put(12, most)
        .put(16, flags)
        .put_name(28, name);
    // SAFETY: this command reads no pointer and returns a descriptor.
    let fd = memlock::lifted(|| unsafe { attribute.open(MAP_CREATE) })?;
    // SAFETY: it was made with these lengths.
    Ok(unsafe { Map::new(fd, key, value) })
}

pub(super) fn set(map: &Map, key: &[u8], value: &[u8]) -> io::Result<()> {
    map.check(key, Some(value))?;
    let mut attribute = map.about(key).put_pointer(16, value.as_ptr());
    // SAFETY: key and value are as long as the map says, and are only read.
    unsafe { attribute.call(MAP_UPDATE) }.map(|_| ())
}

/// Already gone is success.
pub(super) fn remove(map: &Map, key: &[u8]) -> io::Result<()> {
    map.check(key, None)?;
    // SAFETY: the key is as long as the map says, and is only read.
    match unsafe { map.about(key).call(MAP_DELETE) } {
        Err(error) if error.raw_os_error() != Some(libc::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// A classifier of eight-byte instructions. A refusal carries the last line that the verifier said.
pub(super) fn load(name: &str, instructions: &[u64]) -> io::Result<Program> {
    let attribute = Attribute::classifier(name, instructions)?;
    // SAFETY: the instructions outlive the call.
    memlock::lifted(|| unsafe { attribute.load() }).map(Program::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_keeps_what_it_is_given() {
        let map = match create_map(MapKind::Array, "fracastest", 4, 8, 1) {
            Ok(map) => map,
            Err(error) => return tests_notes::skip(&format!("this process cannot create a BPF map: {error}")),
        };
        set(&map, &[0; 4], &7_u64.to_ne_bytes()).unwrap();
        assert_eq!(map.get(&[0; 4]).unwrap(), Some(7_u64.to_ne_bytes().to_vec()));
        assert!(set(&map, &[0; 3], &[0; 8]).is_err() && map.get(&[0; 5]).is_err());
        let prefixes = create_map(MapKind::Prefixes, "fracastest", 8, 4, 10).unwrap();
        set(&prefixes, &[8, 0, 0, 0, 10, 0, 0, 0], &[1; 4]).unwrap();
        assert_eq!(prefixes.get(&[32, 0, 0, 0, 10, 9, 9, 9]).unwrap(), Some(vec![1; 4]));
        assert_eq!(prefixes.get(&[32, 0, 0, 0, 11, 9, 9, 9]).unwrap(), None);
        assert_eq!(prefixes.keys().unwrap(), [vec![8, 0, 0, 0, 10, 0, 0, 0]]);
        remove(&prefixes, &[8, 0, 0, 0, 10, 0, 0, 0]).unwrap();
        remove(&prefixes, &[8, 0, 0, 0, 10, 0, 0, 0]).unwrap();
        assert!(prefixes.keys().unwrap().is_empty());
    }
}
