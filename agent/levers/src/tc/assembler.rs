//! Writes eBPF instructions with labels to jump to; it knows no packet and loads no program.

/// A register: 0 holds results, 1 to 5 arguments, 6 to 9 outlive calls, 10 is the end of the stack.
pub(super) type Register = u8;
/// The end of the stack.
pub(super) const FRAME: Register = 10;

/// A place in the program that may not be written yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// A comparison, unsigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Equal,
    Differs,
    AtLeast,
    Below,
    AtMost,
}

impl Test {
    fn code(self) -> u8 {
        match self {
            Self::Equal => 0x10,
            Self::AtLeast => 0x30,
            Self::Differs => 0x50,
            Self::Below => 0xa0,
            Self::AtMost => 0xb0,
        }
    }
}

/// Bytes of a load or store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Width {
    One,
    Two,
    Four,
    Eight,
}

impl Width {
    fn code(self) -> u8 {
        match self {
            Self::Four => 0x00,
            Self::Two => 0x08,
            Self::One => 0x10,
            Self::Eight => 0x18,
        }
    }
}

/// A function of the kernel by its number (include/uapi/linux/bpf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Helper {
    MapLookup = 1,
    LoadBytesRelative = 68,
    BootTimeNs = 125,
}

/// What an instruction means by its immediate number when it is a map's descriptor.
const IS_MAP: u8 = 1;

#[derive(Debug, Default)]
pub(super) struct Assembler {
    code: Vec<[u8; 8]>,
    places: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Assembler {
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The label is here.
    pub fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.code.len());
    }

    pub fn set(&mut self, to: Register, number: i32) {
        self.write(0xb7, to, 0, 0, number);
    }

    pub fn copy(&mut self, to: Register, from: Register) {
        self.write(0xbf, to, from, 0, 0);
    }

    /// The address of a place on the stack.
    pub fn address(&mut self, to: Register, offset: i16) {
        self.copy(to, FRAME);
        self.write(0x07, to, 0, 0, offset.into());
    }

    pub fn map(&mut self, to: Register, descriptor: i32) {
        self.write(0x18, to, IS_MAP, 0, descriptor);
        self.write(0, 0, 0, 0, 0);
    }

    pub fn add(&mut self, to: Register, number: i32) {
        self.write(0x07, to, 0, 0, number);
    }

    pub fn add_register(&mut self, to: Register, from: Register) {
        self.write(0x0f, to, from, 0, 0);
    }

    pub fn and(&mut self, to: Register, number: i32) {
        self.write(0x57, to, 0, 0, number);
    }

    pub fn shift_left(&mut self, to: Register, bits: i32) {
        self.write(0x67, to, 0, 0, bits);
    }

    /// Sixteen bits of the network's order become a number.
    pub fn swap_network16(&mut self, register: Register) {
        self.write(0xdc, register, 0, 0, 16);
    }

    pub fn load(&mut self, width: Width, to: Register, from: Register, offset: i16) {
        self.write(0x61 | width.code(), to, from, offset, 0);
    }

    pub fn store(&mut self, width: Width, to: Register, offset: i16, from: Register) {
        self.write(0x63 | width.code(), to, from, offset, 0);
    }

    pub fn store_number(&mut self, width: Width, to: Register, offset: i16, number: i32) {
        self.write(0x62 | width.code(), to, 0, offset, number);
    }

    pub fn call(&mut self, helper: Helper) {
        self.write(0x85, 0, 0, 0, helper as i32);
    }

    pub fn exit(&mut self) {
        self.write(0x95, 0, 0, 0, 0);
    }

    pub fn jump(&mut self, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.write(0x05, 0, 0, 0, 0);
    }

    pub fn jump_if(&mut self, register: Register, test: Test, number: i32, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.write(0x05 | test.code(), register, 0, 0, number);
    }

    pub fn jump_if_register(&mut self, register: Register, test: Test, other: Register, label: Label) {
        self.jumps.push((self.code.len(), label));
        self.write(0x0d | test.code(), register, other, 0, 0);
    }

    /// The program, or why it is none: a label without a place, or a jump that is too far.
    pub fn finish(mut self) -> Result<Vec<u64>, &'static str> {
        for (at, label) in self.jumps {
            let place = self.places[label.0].ok_or("a jump leads nowhere")?;
            let distance = place as i64 - at as i64 - 1;
            let distance = i16::try_from(distance).map_err(|_| "a jump leads too far")?;
            self.code[at][2..4].copy_from_slice(&distance.to_ne_bytes());
        }
        Ok(self.code.into_iter().map(u64::from_ne_bytes).collect())
    }

    fn write(&mut self, code: u8, to: Register, from: Register, offset: i16, number: i32) {
        let registers = if cfg!(target_endian = "little") {
            from << 4 | to
        } else {
            to << 4 | from
        };
        let ([o0, o1], [n0, n1, n2, n3]) = (offset.to_ne_bytes(), number.to_ne_bytes());
        self.code.push([code, registers, o0, o1, n0, n1, n2, n3]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jumps_count_from_the_next_instruction_both_ways() {
        let mut program = Assembler::default();
        let (start, end) = (program.label(), program.label());
        program.place(start);
        program.jump_if(1, Test::Equal, 7, end);
        program.jump(start);
        program.place(end);
        program.exit();
        let code: Vec<[u8; 8]> = program.finish().unwrap().into_iter().map(u64::to_ne_bytes).collect();
        assert_eq!(code[0][0], 0x15);
        assert_eq!(i16::from_ne_bytes([code[0][2], code[0][3]]), 1);
        assert_eq!(i16::from_ne_bytes([code[1][2], code[1][3]]), -2);
    }

    #[test]
    fn a_label_without_a_place_is_an_error() {
        let mut program = Assembler::default();
        let nowhere = program.label();
        program.jump(nowhere);
        assert!(program.finish().is_err());
    }
}
