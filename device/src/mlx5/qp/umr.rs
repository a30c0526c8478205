//! UMR work requests: changing a memory key and its translation list from a send queue.
//! Source: reference of the interface, "UMR"; Linux `mlx5_ib/umr.c`, `mlx5_ib/wr.c`.

use log::debug;
use rocinante_dma::MemoryMap;
use rocinante_wire::transport::WcError;
use std::sync::Arc;
use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use crate::mlx5::mkey::{Accessor, Mkeys, Rights};
use crate::mlx5::payload::{GatherFault, Memory};
use crate::mlx5::wqe::{self, DataSeg, SendData};

/// UMR control segment (`mlx5_wqe_umr_ctrl_seg`), 48 bytes.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct UmrCtrlSeg {
    flags: u8,
    reserved0: [u8; 3],
    xlt_octowords: U16,
    xlt_offset: U16,
    mkey_mask: U64,
    xlt_offset_47_16: U32,
    reserved1: [u8; 28],
}

/// Memory key segment (`mlx5_mkey_seg`), 64 bytes.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct MkeySeg {
    status: u8,
    pcie_control: u8,
    flags: u8,
    version: u8,
    qpn_mkey7_0: U32,
    reserved0: U32,
    flags_pd: U32,
    start_addr: U64,
    len: U64,
    bsfs_octo_size: U32,
    reserved1: [u8; 16],
    xlt_oct_size: U32,
    reserved2: [u8; 3],
    log2_page_size: u8,
    reserved3: U32,
}

const FLAG_INLINE: u8 = 1 << 7;
const CHECK_MASK: u8 = 3 << 5;
const CHECK_NOT_FREE: u8 = 1 << 5;
const CHECK_FREE: u8 = 2 << 5;
const FLAG_TRANSLATION_OFFSET: u8 = 1 << 4;

const STATUS_FREE: u8 = 1 << 6;

/// Bits of `mkey_mask` (`MLX5_MKEY_MASK_*`).
mod mask {
    pub const LEN: u64 = 1 << 0;
    pub const PAGE_SIZE: u64 = 1 << 1;
    pub const START_ADDR: u64 = 1 << 6;
    pub const PD: u64 = 1 << 7;
    pub const EN_RINVAL: u64 = 1 << 8;
    pub const KEY: u64 = 1 << 13;
    pub const QPN: u64 = 1 << 14;
    pub const LR: u64 = 1 << 17;
    pub const LW: u64 = 1 << 18;
    pub const RR: u64 = 1 << 19;
    pub const RW: u64 = 1 << 20;
    pub const A: u64 = 1 << 21;
    pub const FREE: u64 = 1 << 29;
}

/// Executes the UMR in `bytes`, one whole WQE. The key it names is found by index alone: MR caches
/// install another low byte than the key was created with.
pub fn execute(
    map: &Arc<MemoryMap>,
    mkeys: &mut Mkeys,
    who: Accessor,
    bytes: &[u8],
) -> Result<(), WcError> {
    let ctrl = wqe::control(bytes).map_err(|_| WcError::LocalQpOp)?;
    let umr: UmrCtrlSeg = segment(bytes, 16)?;
    let seg: MkeySeg = segment(bytes, 64)?;
    let index = ctrl.imm.get() >> 8;
    let mkey = mkeys.table.get(index).ok_or(WcError::MwBind)?;
    // Only the driver's own UMR QP moves keys between protection domains.
    if let Some(pd) = who.pd
        && (mkey.pd != pd || umr.mkey_mask.get() & mask::PD != 0)
    {
        debug!(target: "mlx5::mkey", "UMR of mkey {index:#x} from PD {pd:#x} refused: it is in {:#x}", mkey.pd);
        return Err(WcError::MwBind);
    }
    let refused = match umr.flags & CHECK_MASK {
        CHECK_NOT_FREE => !mkey.free,
        CHECK_FREE => mkey.free,
        _ => false,
    };
    if refused || !mkey.umr_en {
        debug!(target: "mlx5::mkey", "UMR of mkey {index:#x} refused: free {}, umr_en {}", mkey.free, mkey.umr_en);
        return Err(WcError::MwBind);
    }
    let octwords = usize::from(umr.xlt_octowords.get());
    if octwords != 0 {
        let fetched;
        let list = if umr.flags & FLAG_INLINE != 0 {
            // The list is padded to a basic block, and so may be announced longer than it is.
            let inline = bytes.get(128..).unwrap_or_default();
            inline.get(..octwords * 16).unwrap_or(inline)
        } else {
            let pointer = bytes.get(128..144).ok_or(WcError::LocalQpOp)?;
            fetched = fetch_list(map, mkeys, who, pointer, octwords * 16).map_err(|fault| {
                debug!(target: "mlx5::mkey", "UMR of mkey {index:#x}: list not read: {fault:?}");
                WcError::LocalProtection
            })?;
            &fetched
        };
        let offset = if umr.flags & FLAG_TRANSLATION_OFFSET != 0 {
            Some(u64::from(umr.xlt_offset_47_16.get()) << 16 | u64::from(umr.xlt_offset.get()))
        } else {
            None
        };
        mkeys
            .write_list(index, offset, list)
            .map_err(|_| WcError::MwBind)?;
    }
    let mkey = mkeys.table.get_mut(index).ok_or(WcError::MwBind)?;
    let set = umr.mkey_mask.get();
    let has = |bit: u64| set & bit != 0;
    if has(mask::LEN) {
        mkey.len = seg.len.get();
        mkey.length64 = seg.flags_pd.get() >> 31 == 1;
    }
    if has(mask::PAGE_SIZE) {
        mkey.log_page_size = seg.log2_page_size & 0x3f;
    }
    if has(mask::START_ADDR) {
        mkey.start = seg.start_addr.get();
    }
    if has(mask::PD) {
        mkey.pd = seg.flags_pd.get() & 0xff_ffff;
    }
    if has(mask::EN_RINVAL) {
        mkey.remote_invalidate = seg.flags_pd.get() >> 24 & 1 == 1;
    }
    if has(mask::KEY) {
        mkey.variant = seg.qpn_mkey7_0.get() as u8;
    }
    if has(mask::QPN) {
        mkey.qpn = seg.qpn_mkey7_0.get() >> 8;
    }
    for (bit, flag, right) in [
        (mask::LR, 1 << 2, Rights::LOCAL_READ),
        (mask::LW, 1 << 3, Rights::LOCAL_WRITE),
        (mask::RR, 1 << 4, Rights::REMOTE_READ),
        (mask::RW, 1 << 5, Rights::REMOTE_WRITE),
        (mask::A, 1 << 6, Rights::ATOMIC),
    ] {
        if has(bit) {
            mkey.rights = mkey
                .rights
                .without(right)
                .with_if(seg.flags & flag != 0, right);
        }
    }
    if has(mask::FREE) {
        mkey.free = seg.status & STATUS_FREE != 0;
    }
    Ok(())
}

/// A list that is not in the WQE.
fn fetch_list(
    map: &Arc<MemoryMap>,
    mkeys: &Mkeys,
    who: Accessor,
    pointer: &[u8],
    len: usize,
) -> Result<Vec<u8>, GatherFault> {
    let mut list = vec![0; len];
    let data = SendData {
        segs: vec![DataSeg {
            len: len as u32,
            ..DataSeg::receive(pointer)
        }],
        inline: Vec::new(),
        len: len as u64,
    };
    Memory { map, mkeys, who }.read_range(&data, 0..data.len, &mut list)?;
    Ok(list)
}

fn segment<T: FromBytes>(bytes: &[u8], at: usize) -> Result<T, WcError> {
    let rest = bytes.get(at..).ok_or(WcError::LocalQpOp)?;
    T::read_from_prefix(rest)
        .map(|(value, _)| value)
        .map_err(|_| WcError::LocalQpOp)
}
