//! Memory keys: registration by command, and by work requests (UMR).

use rocinante_firmware_cmd::mlx5::mkey::{CreateMkeyIn, CreateMkeyOut};
use rocinante_firmware_cmd::mlx5::opcode::Opcode;

use super::Driver;
use super::command::input;
use super::error::Result;
use super::function::Function;
use super::memory::Buffer;

/// What a key allows, beside local reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access {
    /// Local write.
    pub local_write: bool,
    /// Remote read.
    pub remote_read: bool,
    /// Remote write.
    pub remote_write: bool,
    /// Remote atomic.
    pub atomic: bool,
    /// A peer's SEND may invalidate the key.
    pub remote_invalidate: bool,
}

impl Access {
    /// Local reading only.
    pub const READ: Access = Access {
        local_write: false,
        remote_read: false,
        remote_write: false,
        atomic: false,
        remote_invalidate: false,
    };
    /// Local reading and writing.
    pub const LOCAL: Access = Access {
        local_write: true,
        ..Access::READ
    };
    /// All of it.
    pub const ALL: Access = Access {
        local_write: true,
        remote_read: true,
        remote_write: true,
        atomic: true,
        remote_invalidate: true,
    };
}

/// A registered region: lkey and rkey are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mr {
    /// The key.
    pub key: u32,
    /// First virtual address.
    pub va: u64,
    /// Bytes.
    pub len: u64,
}

/// What registered buffers have as virtual address beyond their bus address, so that none is taken for the other.
const VA_OFFSET: u64 = 0x7f00_0000_0000;

/// `access_mode` MTT.
const MTT: u8 = 1;

/// Present: readable and writable, as drivers set it where nobody looks.
const MTT_FLAGS: u64 = 3;

/// A UMR that makes a free key a region, and one that takes it back.
#[derive(Clone, Debug)]
pub enum Umr {
    /// FAST_REG_MR, with the list in the work request (up to 8 pages).
    Register {
        /// The region: its key's low byte becomes the key's variant.
        mr: Mr,
        /// Rights.
        access: Access,
        /// log2 of the page size.
        log_page_size: u8,
        /// Pages.
        pages: UmrPages,
    },
    /// LOCAL_INV.
    Invalidate {
        /// The key.
        key: u32,
    },
}

/// Where the page list of a UMR is.
#[derive(Clone, Debug)]
pub enum UmrPages {
    /// In the work request.
    Inline(Vec<u64>),
    /// In memory, 8 bytes each, big-endian, padded to 64 bytes.
    At {
        /// Address of the list within `lkey`.
        addr: u64,
        /// Its key.
        lkey: u32,
        /// Number of pages.
        len: usize,
    },
}

/// Bits of `mkey_mask`.
mod mask {
    pub const LEN: u64 = 1 << 0;
    pub const PAGE_SIZE: u64 = 1 << 1;
    pub const START_ADDR: u64 = 1 << 6;
    pub const EN_RINVAL: u64 = 1 << 8;
    pub const KEY: u64 = 1 << 13;
    pub const LR: u64 = 1 << 17;
    pub const LW: u64 = 1 << 18;
    pub const RR: u64 = 1 << 19;
    pub const RW: u64 = 1 << 20;
    pub const A: u64 = 1 << 21;
    pub const SMALL_FENCE: u64 = 1 << 23;
    pub const FREE: u64 = 1 << 29;
}

const UMR_INLINE: u8 = 1 << 7;
const UMR_CHECK_FREE: u8 = 1 << 5;

impl Umr {
    /// The key that the control segment names.
    pub(super) fn key(&self) -> u32 {
        match self {
            Umr::Register { mr, .. } => mr.key,
            Umr::Invalidate { key } => *key,
        }
    }

    /// The segments after the control segment.
    pub(super) fn segments(&self) -> Vec<u8> {
        // UMR control segment, 48 bytes; memory key segment, 64 bytes.
        let mut wqe = vec![0; 48 + 64];
        let put = |wqe: &mut Vec<u8>, at: usize, bytes: &[u8]| {
            wqe[at..at + bytes.len()].copy_from_slice(bytes);
        };
        match self {
            Umr::Invalidate { .. } => {
                wqe[0] = UMR_INLINE;
                put(&mut wqe, 8, &mask::FREE.to_be_bytes());
                wqe[48] = 1 << 6;
            }
            Umr::Register {
                mr,
                access,
                log_page_size,
                pages,
            } => {
                let len = match pages {
                    UmrPages::Inline(pages) => pages.len(),
                    UmrPages::At { len, .. } => *len,
                };
                let octwords = (len.next_multiple_of(8) / 2) as u16;
                let inline = matches!(pages, UmrPages::Inline(_));
                wqe[0] = UMR_CHECK_FREE | if inline { UMR_INLINE } else { 0 };
                put(&mut wqe, 4, &octwords.to_be_bytes());
                let fields = mask::LEN
                    | mask::PAGE_SIZE
                    | mask::START_ADDR
                    | mask::EN_RINVAL
                    | mask::KEY
                    | mask::LR
                    | mask::LW
                    | mask::RR
                    | mask::RW
                    | mask::A
                    | mask::SMALL_FENCE
                    | mask::FREE;
                put(&mut wqe, 8, &fields.to_be_bytes());
                // Rights, MTT, UMR enabled.
                wqe[48 + 2] = 1 << 7
                    | 1 << 2
                    | u8::from(access.local_write) << 3
                    | u8::from(access.remote_read) << 4
                    | u8::from(access.remote_write) << 5
                    | u8::from(access.atomic) << 6
                    | MTT;
                put(
                    &mut wqe,
                    48 + 4,
                    &(0xff_ffff << 8 | mr.key & 0xff).to_be_bytes(),
                );
                let invalidate = u32::from(access.remote_invalidate) << 24;
                put(&mut wqe, 48 + 0xc, &invalidate.to_be_bytes());
                put(&mut wqe, 48 + 0x10, &mr.va.to_be_bytes());
                put(&mut wqe, 48 + 0x18, &mr.len.to_be_bytes());
                put(&mut wqe, 48 + 0x34, &u32::from(octwords).to_be_bytes());
                wqe[48 + 0x3b] = *log_page_size;
                match pages {
                    UmrPages::Inline(pages) => {
                        for page in pages {
                            wqe.extend((page | MTT_FLAGS).to_be_bytes());
                        }
                        // The list is padded to a basic block; the control segment comes before.
                        wqe.resize((16 + wqe.len()).next_multiple_of(64) - 16, 0);
                    }
                    UmrPages::At { addr, lkey, len } => {
                        let bytes = 8 * len.next_multiple_of(8) as u32;
                        wqe.extend(bytes.to_be_bytes());
                        wqe.extend(lkey.to_be_bytes());
                        wqe.extend(addr.to_be_bytes());
                    }
                }
            }
        }
        wqe
    }
}

impl<F: Function> Driver<F> {
    fn variant(&mut self) -> u8 {
        self.next_variant = self.next_variant.wrapping_add(1);
        self.next_variant
    }

    fn create_mkey(
        &mut self,
        pd: u32,
        access: Access,
        list: &[u64],
        fill: impl FnOnce(&mut CreateMkeyIn<&mut Vec<u8>>),
    ) -> Result<u32> {
        let octwords = list.len().div_ceil(2);
        let mut create = input(Opcode::CreateMkey, 0, CreateMkeyIn::SIZE + 16 * octwords);
        let variant = self.variant();
        let mut view = CreateMkeyIn::new(&mut create);
        view.set_translations_octword_actual_size(octwords as u32);
        view.mkc_mut()
            .set_pd(pd)
            .set_qpn(0xff_ffff)
            .set_mkey_7_0(variant)
            .set_lr(true)
            .set_lw(access.local_write)
            .set_rr(access.remote_read)
            .set_rw(access.remote_write)
            .set_a(access.atomic)
            .set_en_rinval(access.remote_invalidate)
            .set_translations_octword_size(octwords as u32);
        fill(&mut view);
        for (place, page) in view.klm_pas_mtt_mut().chunks_exact_mut(8).zip(list) {
            place.copy_from_slice(&(page | MTT_FLAGS).to_be_bytes());
        }
        let output = self.execute(&create, 16)?;
        Ok(CreateMkeyOut::new(&output).mkey_index() << 8 | u32::from(variant))
    }

    /// Registers `len` bytes at virtual address `va`, which lies in the first of `pages`.
    pub fn reg_mr(
        &mut self,
        pd: u32,
        va: u64,
        len: u64,
        log_page_size: u8,
        pages: &[u64],
        access: Access,
    ) -> Result<Mr> {
        let key = self.create_mkey(pd, access, pages, |create| {
            create
                .mkc_mut()
                .set_access_mode_1_0(MTT)
                .set_start_addr(va)
                .set_len(len)
                .set_log_page_size(log_page_size);
        })?;
        Ok(Mr { key, va, len })
    }

    /// Registers a buffer at a virtual address that is not its bus address.
    pub fn reg_buffer(&mut self, pd: u32, buffer: Buffer, access: Access) -> Result<Mr> {
        let pages: Vec<u64> = buffer.pages().collect();
        let va = buffer.iova + VA_OFFSET;
        self.reg_mr(pd, va, buffer.len, 12, &pages, access)
    }

    /// All of memory, addressed by bus addresses.
    pub fn reg_all(&mut self, pd: u32, access: Access) -> Result<Mr> {
        let key = self.create_mkey(pd, access, &[], |create| {
            create.mkc_mut().set_length64(true);
        })?;
        Ok(Mr {
            key,
            va: 0,
            len: u64::MAX,
        })
    }

    /// A free key for up to `pages` pages, to be made a region by UMR.
    pub fn alloc_mr(&mut self, pd: u32, pages: usize) -> Result<Mr> {
        let octwords = pages.next_multiple_of(8) / 2;
        let key = self.create_mkey(pd, Access::READ, &[], |create| {
            create
                .mkc_mut()
                .set_free(true)
                .set_umr_en(true)
                .set_access_mode_1_0(MTT)
                .set_log_page_size(12)
                .set_translations_octword_size(octwords as u32);
        })?;
        Ok(Mr { key, va: 0, len: 0 })
    }

    /// DESTROY_MKEY.
    pub fn dereg_mr(&mut self, mr: Mr) -> Result<()> {
        self.about(Opcode::DestroyMkey, mr.key >> 8).map(drop)
    }
}

impl Mr {
    /// `len` bytes from `offset` on, as a gather or scatter entry.
    pub fn sge(&self, offset: u64, len: u32) -> super::Sge {
        super::Sge {
            addr: self.va + offset,
            len,
            lkey: self.key,
        }
    }
}
