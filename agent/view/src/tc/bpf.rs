//! The bpf(2) calls that read: values of maps, and the maps of a filter's program; it makes no map and changes none.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// What the verifier may write when it refuses a program.
const LOG_BYTES: usize = 64 * 1024;
/// Maps that a program of ours may have.
const MOST_MAPS: usize = 8;
/// Keys that a walk over a map may meet: more than any map of ours holds.
const MOST_KEYS: usize = 1_000_000;
/// Bytes of an object's name, its end included.
const NAME_BYTES: usize = 16;
/// The whole of bpf_attr as far as any of these calls reads it (include/uapi/linux/bpf.h).
const ATTRIBUTE_BYTES: usize = 128;

const MAP_LOOKUP: libc::c_long = 1;
const MAP_NEXT_KEY: libc::c_long = 4;
const PROGRAM_LOAD: libc::c_long = 5;
const PROGRAM_BY_ID: libc::c_long = 13;
const MAP_BY_ID: libc::c_long = 14;
const INFO: libc::c_long = 15;

const SCHED_CLS: u32 = 3;
/// The number of the helper bpf_ktime_get_boot_ns.
const BOOT_TIME: u32 = 125;

/// An open map; it lives as long as a program or a descriptor refers to it.
#[derive(Debug)]
pub struct Map {
    fd: OwnedFd,
    key: usize,
    value: usize,
}

/// A loaded program; it lives as long as a filter or a descriptor refers to it.
#[derive(Debug)]
pub struct Program(OwnedFd);

/// The bytes of a bpf_attr. What it is sent with decides whether it reads or changes; only unsafe code can send it.
#[repr(C, align(8))]
pub struct Attribute([u8; ATTRIBUTE_BYTES]);

impl Default for Attribute {
    fn default() -> Self {
        Self([0; ATTRIBUTE_BYTES])
    }
}

impl Attribute {
    fn new() -> Self {
        Self::default()
    }

    /// A program that classifies packets, as instructions of eight bytes. Both are read when the attribute is sent.
    pub fn classifier(name: &str, instructions: &[u64]) -> io::Result<Self> {
        let count = u32::try_from(instructions.len()).map_err(io::Error::other)?;
        let attribute = Self::new().put(0, SCHED_CLS).put(4, count).put_name(48, name);
        let attribute = attribute.put_pointer(8, instructions.as_ptr());
        Ok(attribute.put_pointer(16, c"Apache-2.0".as_ptr()))
    }

    pub fn put(self, offset: usize, value: u32) -> Self {
        self.put_bytes(offset, &value.to_ne_bytes())
    }

    pub fn put_pointer<T>(self, offset: usize, pointer: *const T) -> Self {
        self.put_bytes(offset, &(pointer.expose_provenance() as u64).to_ne_bytes())
    }

    pub fn put_name(self, offset: usize, name: &str) -> Self {
        let bytes = name.as_bytes();
        self.put_bytes(offset, &bytes[..bytes.len().min(NAME_BYTES - 1)])
    }

    fn put_bytes(mut self, offset: usize, bytes: &[u8]) -> Self {
        self.0[offset..offset + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// # Safety
    /// Every pointer in it is valid for what `command` reads and writes through it.
    pub unsafe fn call(&mut self, command: libc::c_long) -> io::Result<RawFd> {
        // SAFETY: the attribute is as long as we say and zero where nothing was put; its pointers are the caller's promise.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), ATTRIBUTE_BYTES) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        RawFd::try_from(result).map_err(io::Error::other)
    }

    /// # Safety
    /// As for `call`, and the command returns a new descriptor.
    pub unsafe fn open(&mut self, command: libc::c_long) -> io::Result<OwnedFd> {
        // SAFETY: by the caller's promise.
        let fd = unsafe { self.call(command) }?;
        // SAFETY: the kernel has just opened it for us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Loads a program. A refusal carries the last line that the verifier said.
    ///
    /// # Safety
    /// It is that of a program, and what it was made of is still there.
    pub unsafe fn load(mut self) -> io::Result<OwnedFd> {
        // SAFETY: by the caller's promise.
        let refusal = match unsafe { self.open(PROGRAM_LOAD) } {
            Ok(fd) => return Ok(fd),
            Err(error) => error,
        };
        let mut log = vec![0_u8; LOG_BYTES];
        let mut verbose = self.put(24, 1).put(28, LOG_BYTES as u32).put_pointer(32, log.as_mut_ptr());
        // SAFETY: as above, and the log is as long as we say.
        if let Ok(fd) = unsafe { verbose.open(PROGRAM_LOAD) } {
            return Ok(fd);
        }
        Err(io::Error::new(refusal.kind(), format!("{refusal}{}", verifier_words(&log))))
    }
}

impl Map {
    /// A map that was opened elsewhere.
    ///
    /// # Safety
    /// Its keys and values are as long as it says here: that much is read and written.
    pub unsafe fn new(fd: OwnedFd, key: usize, value: usize) -> Self {
        Self { fd, key, value }
    }

    pub fn raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    pub fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.check(key, None)?;
        let mut value = vec![0; self.value];
        let mut attribute = self.about(key).put_pointer(16, value.as_mut_ptr());
        // SAFETY: the key is as long as the map says, and so is the value that is written.
        match unsafe { attribute.call(MAP_LOOKUP) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub fn keys(&self) -> io::Result<Vec<Vec<u8>>> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        while keys.len() < MOST_KEYS {
            let mut next = vec![0; self.key];
            let attribute = keys
                .last()
                .map_or_else(|| Attribute::new().put(0, self.number()), |last| self.about(last));
            // SAFETY: the last key (none is a null pointer, which asks for the first) and the next are as long as the map says.
            match unsafe { attribute.put_pointer(16, next.as_mut_ptr()).call(MAP_NEXT_KEY) } {
                Ok(_) => keys.push(next),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(keys),
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("the map has no end"))
    }

    /// The attribute of a call about this key.
    pub fn about(&self, key: &[u8]) -> Attribute {
        Attribute::new().put(0, self.number()).put_pointer(8, key.as_ptr())
    }

    fn number(&self) -> u32 {
        self.fd.as_raw_fd().cast_unsigned()
    }

    /// Refuses a key or a value that is not as long as the map's.
    pub fn check(&self, key: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        if key.len() == self.key && value.is_none_or(|value| value.len() == self.value) {
            return Ok(());
        }
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a key or value is not as long as the map's",
        ))
    }
}

impl Program {
    /// Loads the smallest that asks for the boot time, which is the newest of what our classifiers use, and finds it again by its
    /// number, as a renewal does. Nothing is left of it.
    pub fn try_out() -> io::Result<()> {
        let [a, b, c, d] = BOOT_TIME.to_ne_bytes();
        let code = [[0x85, 0, 0, 0, a, b, c, d], [0x95, 0, 0, 0, 0, 0, 0, 0]].map(u64::from_ne_bytes);
        let attribute = Attribute::classifier("fracas_try_out", &code)?;
        // SAFETY: the code outlives the call.
        let program = Self(unsafe { attribute.load() }?);
        // SAFETY: an empty bpf_prog_info names no memory.
        let info = unsafe { info_of(&program.0, Attribute::new()) }?;
        Self::by_id(u32_at(&info, 4)).map(drop)
    }

    pub fn raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// The program of a filter, by the number that a listing of filters shows.
    pub fn by_id(id: u32) -> io::Result<Self> {
        // SAFETY: this command reads no pointer and returns a descriptor.
        unsafe { Attribute::new().put(0, id).open(PROGRAM_BY_ID) }.map(Self)
    }

    /// The maps that it uses, by name.
    pub fn maps(&self) -> io::Result<Vec<(String, Map)>> {
        let mut ids = [0_u32; MOST_MAPS];
        // bpf_prog_info: how many numbers of maps fit, and where to.
        let info = Attribute::new().put(52, MOST_MAPS as u32).put_pointer(56, ids.as_mut_ptr());
        // SAFETY: `info` names room for as many numbers as it says, which outlives the call.
        let info = unsafe { info_of(&self.0, info) }?;
        let count = usize::try_from(u32_at(&info, 52)).unwrap_or(0).min(MOST_MAPS);
        ids[..count].iter().map(|id| Map::by_id(*id)).collect()
    }
}

impl From<OwnedFd> for Program {
    fn from(loaded: OwnedFd) -> Self {
        Self(loaded)
    }
}

impl Map {
    fn by_id(id: u32) -> io::Result<(String, Self)> {
        // SAFETY: this command reads no pointer and returns a descriptor.
        let fd = unsafe { Attribute::new().put(0, id).open(MAP_BY_ID) }?;
        // SAFETY: an empty bpf_map_info names no memory.
        let info = unsafe { info_of(&fd, Attribute::new()) }?;
        let name = info.0[24..24 + NAME_BYTES].iter().take_while(|byte| **byte != 0);
        let name = name.map(|byte| char::from(*byte)).collect();
        let size = |offset| usize::try_from(u32_at(&info, offset)).unwrap_or(0);
        let (key, value) = (size(8), size(12));
        Ok((name, Self { fd, key, value }))
    }
}

/// # Safety
/// Pointers in `info` are valid for what the kernel writes through them.
unsafe fn info_of(of: &OwnedFd, mut info: Attribute) -> io::Result<Attribute> {
    let asked = Attribute::new()
        .put(0, of.as_raw_fd().cast_unsigned())
        .put(4, ATTRIBUTE_BYTES as u32);
    let mut asked = asked.put_pointer(8, info.0.as_mut_ptr());
    // SAFETY: `info` is as long as we say and outlives the call; what it points to is the caller's promise.
    unsafe { asked.call(INFO) }?;
    Ok(info)
}

fn u32_at(attribute: &Attribute, offset: usize) -> u32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&attribute.0[offset..offset + 4]);
    u32::from_ne_bytes(bytes)
}

/// The line before the verifier's statistics says what it disliked.
fn verifier_words(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log);
    let lines: Vec<&str> = text.trim_end_matches('\0').lines().filter(|line| !line.is_empty()).collect();
    match lines.iter().rev().find(|line| !line.starts_with("processed ")) {
        Some(line) => format!(": the verifier says: {line}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_verifiers_last_word_is_told() {
        assert_eq!(
            verifier_words(b"0: (b7) r0 = 0\nR1 !read_ok\nprocessed 1 insns\n\0\0"),
            ": the verifier says: R1 !read_ok"
        );
        assert_eq!(verifier_words(&[0; 8]), "");
    }
}
