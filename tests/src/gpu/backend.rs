//! The synthetic GPU of a vfio-user server: register reads and writes, and resets, without DMA.

use std::collections::HashMap;
use std::fs::File;
use std::io;

use vfio_bindings::bindings::vfio::{
    VFIO_IRQ_INFO_AUTOMASKED, VFIO_IRQ_INFO_EVENTFD, VFIO_IRQ_INFO_MASKABLE,
    VFIO_IRQ_INFO_NORESIZE, VFIO_PCI_CONFIG_REGION_INDEX, VFIO_PCI_ERR_IRQ_INDEX,
    VFIO_PCI_INTX_IRQ_INDEX, VFIO_PCI_MSI_IRQ_INDEX, VFIO_PCI_MSIX_IRQ_INDEX, VFIO_PCI_NUM_IRQS,
    VFIO_PCI_NUM_REGIONS, VFIO_PCI_REQ_IRQ_INDEX, VFIO_REGION_INFO_FLAG_READ,
    VFIO_REGION_INFO_FLAG_WRITE, vfio_region_info,
};
use vfio_user::{DmaMapFlags, DmaUnmapFlags, IrqInfo, ServerBackend, ServerRegion};

use super::config::{BARS, ConfigSpace, Effect, Identity, MSIX_VECTORS, SIZE};
use super::readiness::Readiness;

/// Boot register of BAR0; the driver accepts any plausible value.
const BOOT: u64 = 0x0;
/// NVLink-C2C state of BAR0: 0xff is up.
const C2C_LINK: u64 = 0x1498;
/// Memory training state of BAR0: 0xff is done.
const MEMORY_TRAINING: u64 = 0x2_00bc;
const READY: u32 = 0xff;

/// The device of the server.
pub struct Gpu {
    config: ConfigSpace,
    readiness: Readiness,
    memory: HashMap<(u32, u64), u8>,
    interrupts: HashMap<u32, Vec<File>>,
    verbose: bool,
}

impl Gpu {
    /// A device just powered on.
    pub fn new(identity: &Identity, readiness: Readiness, verbose: bool) -> Self {
        Self {
            config: ConfigSpace::new(identity),
            readiness,
            memory: HashMap::new(),
            interrupts: HashMap::new(),
            verbose,
        }
    }

    /// The regions to announce: three BARs and configuration space.
    pub fn regions() -> Vec<ServerRegion> {
        (0..VFIO_PCI_NUM_REGIONS).map(region).collect()
    }

    /// The interrupts to announce.
    pub fn interrupts() -> Vec<IrqInfo> {
        (0..VFIO_PCI_NUM_IRQS).map(interrupt).collect()
    }

    fn register(&self, region: u32, offset: u64) -> Option<u32> {
        match (region, offset) {
            (0, BOOT) => Some(0x1800_00a1),
            (0, C2C_LINK | MEMORY_TRAINING) => Some(self.status()),
            _ => None,
        }
    }

    fn status(&self) -> u32 {
        if self.readiness.is_ready() { READY } else { 0 }
    }

    fn byte(&self, region: u32, offset: u64) -> u8 {
        match self.register(region, offset & !3) {
            Some(value) => value.to_le_bytes()[(offset & 3) as usize],
            None => self.memory.get(&(region, offset)).copied().unwrap_or(0),
        }
    }

    fn power_on(&mut self, cause: &str) {
        eprintln!("lab-gpu: {cause}");
        self.config.reset();
        self.readiness.restart();
    }

    fn trace(&self, verb: &str, region: u32, offset: u64, data: &[u8]) {
        if self.verbose {
            eprintln!("lab-gpu: {verb} region {region} at {offset:#x}: {data:02x?}");
        }
    }
}

impl ServerBackend for Gpu {
    fn region_read(&mut self, region: u32, offset: u64, data: &mut [u8]) -> io::Result<()> {
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            let ready = || self.readiness.is_ready();
            self.config.read(offset as usize, ready, data);
        } else {
            for (index, byte) in data.iter_mut().enumerate() {
                *byte = self.byte(region, offset.wrapping_add(index as u64));
            }
        }
        self.trace("read", region, offset, data);
        Ok(())
    }

    fn region_write(&mut self, region: u32, offset: u64, data: &[u8]) -> io::Result<()> {
        self.trace("write", region, offset, data);
        if region == VFIO_PCI_CONFIG_REGION_INDEX {
            if self.config.write(offset as usize, data) == Effect::Reset {
                self.power_on("function-level reset");
            }
            return Ok(());
        }
        for (index, value) in data.iter().enumerate() {
            let at = offset.wrapping_add(index as u64);
            self.memory.insert((region, at), *value);
        }
        Ok(())
    }

    fn dma_map(
        &mut self,
        _flags: DmaMapFlags,
        _offset: u64,
        _address: u64,
        _size: u64,
        _file: Option<File>,
    ) -> io::Result<()> {
        Ok(())
    }

    fn dma_unmap(&mut self, _flags: DmaUnmapFlags, _address: u64, _size: u64) -> io::Result<()> {
        Ok(())
    }

    fn reset(&mut self) -> io::Result<()> {
        self.power_on("device reset");
        Ok(())
    }

    fn set_irqs(
        &mut self,
        index: u32,
        _flags: u32,
        _start: u32,
        _count: u32,
        files: Vec<File>,
    ) -> io::Result<()> {
        // kept open, never signalled: the client would see a closed eventfd otherwise
        self.interrupts.insert(index, files);
        Ok(())
    }
}

fn region(index: u32) -> ServerRegion {
    let size = match index {
        VFIO_PCI_CONFIG_REGION_INDEX => SIZE as u64,
        bar => BARS
            .iter()
            .find(|(number, _)| *number == bar)
            .map_or(0, |(_, size)| *size),
    };
    let flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
    ServerRegion {
        region_info: vfio_region_info {
            argsz: size_of::<vfio_region_info>() as u32,
            index,
            size,
            flags: if size == 0 { 0 } else { flags },
            ..Default::default()
        },
        sparse_areas: Vec::new(),
        mmap_fd: None,
    }
}

fn interrupt(index: u32) -> IrqInfo {
    let intx = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_MASKABLE | VFIO_IRQ_INFO_AUTOMASKED;
    let (count, flags) = match index {
        VFIO_PCI_INTX_IRQ_INDEX => (1, intx),
        VFIO_PCI_MSI_IRQ_INDEX => (0, 0),
        VFIO_PCI_MSIX_IRQ_INDEX => (
            u32::from(MSIX_VECTORS),
            VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE,
        ),
        VFIO_PCI_ERR_IRQ_INDEX | VFIO_PCI_REQ_IRQ_INDEX => {
            (1, VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE)
        }
        _ => (0, 0),
    };
    IrqInfo {
        index,
        flags,
        count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::readiness::Delay;
    use std::time::Duration;

    fn gpu(delay: Delay) -> Gpu {
        Gpu::new(&Identity::default(), Readiness::new(delay, None), false)
    }

    fn read32(gpu: &mut Gpu, offset: u64) -> u32 {
        let mut bytes = [0; 4];
        gpu.region_read(0, offset, &mut bytes)
            .expect("reads do not fail");
        u32::from_le_bytes(bytes)
    }

    #[test]
    fn both_readiness_registers_read_ff_when_ready() {
        let mut ready = gpu(Delay::After(Duration::ZERO));
        assert_eq!(read32(&mut ready, 0x1498), 0xff);
        assert_eq!(read32(&mut ready, 0x200bc), 0xff);
        let mut never = gpu(Delay::Never);
        assert_eq!(read32(&mut never, 0x1498), 0);
        assert_eq!(read32(&mut never, 0x200bc), 0);
    }

    #[test]
    fn other_registers_keep_what_was_written() {
        let mut gpu = gpu(Delay::Never);
        gpu.region_write(0, 0x100, &[1, 2, 3, 4])
            .expect("writes do not fail");
        assert_eq!(read32(&mut gpu, 0x100), 0x0403_0201);
        assert_eq!(read32(&mut gpu, 0x104), 0);
    }

    #[test]
    fn a_reset_starts_the_delay_again() {
        let mut gpu = gpu(Delay::After(Duration::from_millis(40)));
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(read32(&mut gpu, 0x1498), 0xff);
        gpu.reset().expect("resets do not fail");
        assert_eq!(read32(&mut gpu, 0x1498), 0);
    }

    #[test]
    fn only_the_bars_and_configuration_space_have_a_size() {
        let sized: Vec<u32> = Gpu::regions()
            .iter()
            .filter(|region| region.region_info.size != 0)
            .map(|region| region.region_info.index)
            .collect();
        assert_eq!(sized, [0, 2, 4, 7]);
    }
}
