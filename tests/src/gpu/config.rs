//! PCI configuration space of the synthetic GPU: its bytes, the writable bits, and the effects of writes.
//!
//! Layout follows the PCI Express base specification, chapter 7; DVSEC contents follow `nvgrace-gpu/main.c`.

/// Size of PCI Express configuration space.
pub const SIZE: usize = 4096;
/// MSI-X vectors the device offers.
pub const MSIX_VECTORS: u16 = 9;
/// AtomicOp completer bits of Device Capabilities 2: 32, 64 and 128 bit wide.
pub const ATOMIC_COMPLETER: u32 = 0x380;

const POWER: usize = 0x60;
const EXPRESS: usize = 0x78;
const MSIX: usize = 0xc8;
const FIRST_EXTENDED: usize = 0x100;
const DEVCTL: usize = EXPRESS + 0x08;
const FUNCTION_RESET: u16 = 0x8000;
/// The kernel's NVIDIA audio quirk sets bit 25 here and logs it on each resume unless it is set already.
const AUDIO_QUIRK: usize = 0x488;
const AUDIO_ENABLED: u32 = 1 << 25;

const DVSEC: u32 = 0x0001_0023;
const CXL_VENDOR: u32 = 0x1e98;
const CXL_RANGE_1_SIZE_LOW: usize = 0x1c;
const CXL_VALID: u32 = 1;
const CXL_ACTIVE: u32 = 2;

/// The device's ids and its optional structures.
#[derive(Clone, Debug)]
pub struct Identity {
    /// PCI vendor id.
    pub vendor: u16,
    /// PCI device id.
    pub device: u16,
    /// Subsystem device id (the subsystem vendor is `vendor`).
    pub subdevice: u16,
    /// Device Serial Number.
    pub serial: u64,
    /// AtomicOp bits of Device Capabilities 2 (bits 6 to 9).
    pub atomics: u32,
    /// Whether it has NVIDIA's DVSEC for MIG with cached memory.
    pub mig_fixed: bool,
    /// Whether it has the CXL device DVSEC, from which the driver then reads readiness.
    pub cxl: bool,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            vendor: 0x10de,
            device: 0x2342,
            subdevice: 0x16eb,
            serial: 0x48b0_2d00_1234_5678,
            atomics: ATOMIC_COMPLETER,
            mig_fixed: false,
            cxl: false,
        }
    }
}

/// Sizes of the real 64-bit BARs 0, 2 and 4; the driver emulates BARs 2 and 4 for the guest.
pub const BARS: [(u32, u64); 3] = [(0, 16 << 20), (2, 64 << 20), (4, 32 << 20)];

/// The effect of a write to configuration space in addition to changed bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// A function-level reset.
    Reset,
}

/// Configuration space with its write mask.
#[derive(Clone, Debug)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    writable: Vec<u8>,
    cxl: Option<usize>,
}

impl ConfigSpace {
    /// The configuration space of a device with this identity.
    pub fn new(identity: &Identity) -> Self {
        let mut space = Self {
            bytes: vec![0; SIZE],
            writable: vec![0; SIZE],
            cxl: None,
        };
        space.header(identity);
        space.bars();
        space.power();
        space.express(identity.atomics);
        space.msix();
        space.extended(identity);
        space.set32(AUDIO_QUIRK, AUDIO_ENABLED);
        space
    }

    /// Copies bytes from `offset`; bytes outside read as ones. A read of the CXL DVSEC calls `ready` and shows its result.
    pub fn read(&self, offset: usize, ready: impl Fn() -> bool, data: &mut [u8]) {
        for (index, byte) in data.iter_mut().enumerate() {
            let at = offset.saturating_add(index);
            *byte = self.bytes.get(at).copied().unwrap_or(0xff);
            if self.cxl == Some(at) && ready() {
                *byte |= CXL_ACTIVE as u8;
            }
        }
    }

    /// Writes the bits that software may write.
    pub fn write(&mut self, offset: usize, data: &[u8]) -> Effect {
        for (index, value) in data.iter().enumerate() {
            let at = offset.saturating_add(index);
            if at < SIZE {
                let mask = self.writable[at];
                self.bytes[at] = (self.bytes[at] & !mask) | (value & mask);
            }
        }
        let control = self.word(DEVCTL);
        if control & FUNCTION_RESET == 0 {
            return Effect::None;
        }
        self.set16(DEVCTL, control & !FUNCTION_RESET);
        Effect::Reset
    }

    /// A reset disables memory decode and bus mastering.
    pub fn reset(&mut self) {
        self.set16(0x04, 0);
    }

    fn header(&mut self, identity: &Identity) {
        self.set16(0x00, identity.vendor);
        self.set16(0x02, identity.device);
        self.allow16(0x04, 0x0547);
        self.set16(0x06, 0x0010);
        // revision a1, class 030200: 3D controller
        self.set32(0x08, 0x0302_00a1);
        self.set16(0x2c, identity.vendor);
        self.set16(0x2e, identity.subdevice);
        self.bytes[0x34] = POWER as u8;
        self.writable[0x0c] = 0xff;
        self.writable[0x3c] = 0xff;
        self.bytes[0x3d] = 1;
    }

    fn bars(&mut self) {
        for (index, size) in BARS {
            let at = 0x10 + 4 * index as usize;
            let mask = !(size - 1);
            // 64-bit, prefetchable
            self.set32(at, 0xc);
            self.allow32(at, mask as u32 & 0xffff_fff0);
            self.allow32(at + 4, (mask >> 32) as u32);
        }
    }

    fn power(&mut self) {
        self.capability(POWER, 0x01, EXPRESS);
        self.set16(POWER + 2, 0x0003);
        self.set16(POWER + 4, 0x0008);
        self.allow16(POWER + 4, 0x0003);
    }

    fn express(&mut self, atomics: u32) {
        self.capability(EXPRESS, 0x10, MSIX);
        // version 2, endpoint
        self.set16(EXPRESS + 0x02, 0x0002);
        // function-level reset, role-based errors
        self.set32(EXPRESS + 0x04, 0x1000_8fe1);
        self.set16(DEVCTL, 0x2810);
        self.allow16(DEVCTL, 0xffff);
        // 32 GT/s, 16 lanes
        self.set32(EXPRESS + 0x0c, 0x0040_0105);
        self.allow16(EXPRESS + 0x10, 0x01ff);
        self.set16(EXPRESS + 0x12, 0x1105);
        self.set32(EXPRESS + 0x24, 0x0000_0013 | (atomics & 0x3c0));
        // includes AtomicOp requester enable, bit 6
        self.allow16(EXPRESS + 0x28, 0x64ff);
        self.set32(EXPRESS + 0x2c, 0x0000_003e);
        self.set16(EXPRESS + 0x30, 5);
        self.allow16(EXPRESS + 0x30, 0xffff);
    }

    fn msix(&mut self) {
        self.capability(MSIX, 0x11, 0);
        self.set16(MSIX + 2, MSIX_VECTORS - 1);
        self.allow16(MSIX + 2, 0xc000);
        self.set32(MSIX + 4, 0x00b9_0000);
        self.set32(MSIX + 8, 0x00ba_0000);
    }

    fn extended(&mut self, identity: &Identity) {
        self.set32(FIRST_EXTENDED, 0x0001_0003);
        self.set32(FIRST_EXTENDED + 4, identity.serial as u32);
        self.set32(FIRST_EXTENDED + 8, (identity.serial >> 32) as u32);
        let mut last = FIRST_EXTENDED;
        if identity.mig_fixed {
            last = self.dvsec(last, 0x120, 0x10de | (1 << 16) | (0x10 << 20));
            self.set16(last + 8, 3);
            self.set16(last + 0xa, 1);
        }
        if identity.cxl {
            last = self.dvsec(last, 0x140, CXL_VENDOR | (1 << 16) | (0x3c << 20));
            self.set32(last + CXL_RANGE_1_SIZE_LOW, CXL_VALID);
            self.cxl = Some(last + CXL_RANGE_1_SIZE_LOW);
        }
    }

    fn dvsec(&mut self, last: usize, at: usize, header: u32) -> usize {
        let previous = self.dword(last) & 0x000f_ffff;
        self.set32(last, previous | (at as u32) << 20);
        self.set32(at, DVSEC);
        self.set32(at + 4, header);
        at
    }

    fn capability(&mut self, at: usize, id: u8, next: usize) {
        self.bytes[at] = id;
        self.bytes[at + 1] = next as u8;
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn dword(&self, at: usize) -> u32 {
        u32::from(self.word(at)) | u32::from(self.word(at + 2)) << 16
    }

    fn set16(&mut self, at: usize, value: u16) {
        self.bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }

    fn set32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }

    fn allow16(&mut self, at: usize, mask: u16) {
        self.writable[at..at + 2].copy_from_slice(&mask.to_le_bytes());
    }

    fn allow32(&mut self, at: usize, mask: u32) {
        self.writable[at..at + 4].copy_from_slice(&mask.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read32(space: &ConfigSpace, at: usize, ready: bool) -> u32 {
        let mut bytes = [0; 4];
        space.read(at, || ready, &mut bytes);
        u32::from_le_bytes(bytes)
    }

    fn capabilities(space: &ConfigSpace) -> Vec<u8> {
        let mut ids = Vec::new();
        let mut at = space.bytes[0x34] as usize;
        while at != 0 {
            ids.push(space.bytes[at]);
            at = space.bytes[at + 1] as usize;
        }
        ids
    }

    fn extended(space: &ConfigSpace) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut at = FIRST_EXTENDED;
        while at != 0 {
            let header = read32(space, at, false);
            ids.push(header & 0xffff);
            at = (header >> 20) as usize;
        }
        ids
    }

    #[test]
    fn the_default_device_is_a_gh200_with_three_capabilities() {
        let space = ConfigSpace::new(&Identity::default());
        assert_eq!(read32(&space, 0, false), 0x2342_10de);
        assert_eq!(capabilities(&space), [0x01, 0x10, 0x11]);
        assert_eq!(extended(&space), [0x03]);
    }

    #[test]
    fn atomics_show_in_device_capabilities_2_and_nothing_else_does() {
        for atomics in [0, 0x80, 0x180, 0x380, 0xffff_ffff] {
            let space = ConfigSpace::new(&Identity {
                atomics,
                ..Identity::default()
            });
            let expected = 0x13 | (atomics & 0x3c0);
            assert_eq!(read32(&space, EXPRESS + 0x24, false), expected);
        }
    }

    #[test]
    fn writing_ones_to_a_bar_returns_its_size() {
        let mut space = ConfigSpace::new(&Identity::default());
        space.write(0x10, &[0xff; 8]);
        let low = u64::from(read32(&space, 0x10, false));
        let high = u64::from(read32(&space, 0x14, false));
        assert_eq!(!((high << 32) | (low & !0xf)) + 1, 16 << 20);
        assert_eq!(low & 0xf, 0xc);
    }

    #[test]
    fn ids_and_capabilities_cannot_be_written() {
        let mut space = ConfigSpace::new(&Identity::default());
        space.write(0, &[0; 4]);
        space.write(EXPRESS + 0x24, &[0; 4]);
        assert_eq!(read32(&space, 0, false), 0x2342_10de);
        assert_eq!(read32(&space, EXPRESS + 0x24, false), 0x393);
    }

    #[test]
    fn a_function_reset_is_reported_once_and_its_bit_clears_itself() {
        let mut space = ConfigSpace::new(&Identity::default());
        let control = 0x2810_u16 | FUNCTION_RESET;
        assert_eq!(space.write(DEVCTL, &control.to_le_bytes()), Effect::Reset);
        assert_eq!(space.word(DEVCTL), 0x2810);
        assert_eq!(space.write(0x3c, &[5]), Effect::None);
    }

    #[test]
    fn optional_structures_are_linked_in_order() {
        let space = ConfigSpace::new(&Identity {
            mig_fixed: true,
            cxl: true,
            ..Identity::default()
        });
        assert_eq!(extended(&space), [0x03, 0x23, 0x23]);
    }

    #[test]
    fn the_cxl_range_becomes_active_when_ready() {
        let space = ConfigSpace::new(&Identity {
            cxl: true,
            ..Identity::default()
        });
        let at = 0x140 + CXL_RANGE_1_SIZE_LOW;
        assert_eq!(read32(&space, at, false), CXL_VALID);
        assert_eq!(read32(&space, at, true), CXL_VALID | CXL_ACTIVE);
    }

    #[test]
    fn access_beyond_the_end_reads_ones_and_writes_nothing() {
        let mut space = ConfigSpace::new(&Identity::default());
        assert_eq!(space.write(SIZE - 1, &[0xff; 8]), Effect::None);
        assert_eq!(read32(&space, SIZE, false), 0xffff_ffff);
        assert_eq!(read32(&space, usize::MAX, false), 0xffff_ffff);
    }
}
