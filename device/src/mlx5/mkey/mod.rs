//! Memory keys: what a key opens, and the way from (key, virtual address, length) to bus
//! addresses. Source: reference of the interface, "Memory keys"; Linux `mlx5_ib/mr.c`.
//!
//! Knows nothing of who asks: queues say which rights they need and from which PD they come.

mod list;

pub use list::ListFault;

use super::table::Table;

/// `mkc.access_mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessMode {
    /// Bus address is the virtual address.
    Pa,
    /// List of pages of one size.
    Mtt,
    /// List of (length, key, address).
    Klm,
    /// List of (key, address), entries of one size.
    Ksm,
}

/// Rights, as bits of one set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// None.
    pub const NONE: Rights = Rights(0);
    /// Local read.
    pub const LOCAL_READ: Rights = Rights(1);
    /// Local write.
    pub const LOCAL_WRITE: Rights = Rights(2);
    /// Remote read.
    pub const REMOTE_READ: Rights = Rights(4);
    /// Remote write.
    pub const REMOTE_WRITE: Rights = Rights(8);
    /// Remote atomic.
    pub const ATOMIC: Rights = Rights(16);

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Rights) -> Rights {
        Rights(self.0 | other.0)
    }

    /// `other` if `yes`.
    #[must_use]
    pub const fn with_if(self, yes: bool, other: Rights) -> Rights {
        if yes { self.with(other) } else { self }
    }

    /// Without `other`.
    #[must_use]
    pub const fn without(self, other: Rights) -> Rights {
        Rights(self.0 & !other.0)
    }

    /// Whether all of `other` are in it.
    pub const fn contains(self, other: Rights) -> bool {
        self.0 & other.0 == other.0
    }
}

/// One entry of a KLM or KSM list, 16 bytes: u32 length (KLM only), u32 key, u64 address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Klm {
    /// Bytes; unused in a KSM.
    pub len: u32,
    /// Key of the piece.
    pub key: u32,
    /// Address within that key.
    pub va: u64,
}

/// Translation list of an mkey. Grows with what is written to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Translation {
    /// No list (PA).
    None,
    /// Page addresses; bits 2:0 of an entry are flags.
    Mtt(Vec<u64>),
    /// KLM or KSM entries.
    Klm(Vec<Klm>),
}

/// A memory key (`mkc` in use).
#[derive(Clone, Debug)]
pub struct Mkey {
    /// Low byte of the key (`mkey_7_0`).
    pub variant: u8,
    /// Not usable until a UMR says so.
    pub free: bool,
    /// UMR may change it.
    pub umr_en: bool,
    /// A remote invalidate is allowed (`en_rinval`).
    pub remote_invalidate: bool,
    /// How addresses are translated.
    pub mode: AccessMode,
    /// What may be done with it.
    pub rights: Rights,
    /// Protection domain.
    pub pd: u32,
    /// The QP that may use it, 0xffffff for any.
    pub qpn: u32,
    /// Whole address space, `start` and `len` do not bound it.
    pub length64: bool,
    /// First virtual address.
    pub start: u64,
    /// Bytes.
    pub len: u64,
    /// log2 of the page (MTT) or entity (KSM) size.
    pub log_page_size: u8,
    /// Capacity of the list in 16-byte units (`translations_octword_size`).
    pub octwords: u32,
    /// The list.
    pub list: Translation,
    /// The context as the driver created it, for QUERY_MKEY.
    pub context: [u8; 64],
}

/// Why an access is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MkeyFault {
    /// No such key, wrong variant, or free.
    NoKey,
    /// PD or QP differ.
    Protection,
    /// Right not given.
    Access,
    /// Not within the region, or beyond the list.
    Bounds,
    /// Indirection too deep.
    Depth,
}

/// Who asks: PD and QP number are compared with the key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accessor {
    /// Protection domain; `None` skips the check (UMR QP, internal reads).
    pub pd: Option<u32>,
    /// Queue pair number.
    pub qpn: u32,
    /// The reserved lkey may be used (`qpc.rlky`).
    pub reserved_lkey: bool,
}

/// All memory keys.
#[derive(Default)]
pub struct Mkeys {
    /// By mkey index (key >> 8).
    pub table: Table<Mkey>,
    /// List entries stored, in octwords, over all keys.
    pub stored_octwords: u64,
}

/// The key that QUERY_SPECIAL_CONTEXTS names: all of memory, for queues with `rlky`.
pub const RESERVED_LKEY: u32 = 0x500;

/// List entries that all keys of one NIC may hold: 2^27 octwords are 2 GiB of host memory and
/// map 1 TiB in 4 KiB pages. An adapter's bound is the memory that the driver gave it.
pub const MAX_STORED_OCTWORDS: u64 = 1 << 27;

/// Page in front of what was written to a list from an offset on: no guest has memory there.
const UNMAPPED: u64 = 1 << 63;

/// `max_indirection` of the capabilities.
const MAX_INDIRECTION: u32 = 4;

/// Pieces one resolution may visit: bounds the work behind one hostile list of tiny KLMs.
const MAX_PIECES: u32 = 1 << 20;

impl Mkeys {
    /// The key, if it is valid as a whole (index, variant, not free).
    pub fn valid(&self, key: u32) -> Result<&Mkey, MkeyFault> {
        let mkey = self.table.get(key >> 8).ok_or(MkeyFault::NoKey)?;
        if mkey.free || mkey.variant != key as u8 {
            return Err(MkeyFault::NoKey);
        }
        Ok(mkey)
    }

    /// Checks that `who` may do `need` to `len` bytes at `va`, without resolving.
    pub fn check(
        &self,
        who: Accessor,
        key: u32,
        va: u64,
        len: u64,
        need: Rights,
    ) -> Result<(), MkeyFault> {
        if key == RESERVED_LKEY && who.reserved_lkey {
            return Ok(());
        }
        let mkey = self.valid(key)?;
        mkey.admit(who, need)?;
        mkey.bounds(va, len)
    }

    /// Calls `piece(bus_address, bytes)` for the pieces of `[va, va + len)` in order.
    #[inline]
    pub fn resolve(
        &self,
        who: Accessor,
        key: u32,
        va: u64,
        len: u64,
        need: Rights,
        piece: &mut dyn FnMut(u64, u64),
    ) -> Result<(), MkeyFault> {
        if key == RESERVED_LKEY && who.reserved_lkey {
            piece(va, len);
            return Ok(());
        }
        let mut budget = MAX_PIECES;
        self.resolve_in(who, key, va, len, need, 0, &mut budget, piece)
    }

    /// The bus address of `[va, va + len)`, which is not empty, if it is in one piece: as
    /// [`resolve`](Self::resolve) for what most packets need. `None`: look for the pieces.
    #[inline]
    pub fn resolve_whole(
        &self,
        who: Accessor,
        key: u32,
        va: u64,
        len: u64,
        need: Rights,
    ) -> Result<Option<u64>, MkeyFault> {
        if key == RESERVED_LKEY && who.reserved_lkey {
            return Ok(Some(va));
        }
        let mkey = self.valid(key)?;
        mkey.admit(who, need)?;
        mkey.bounds(va, len)?;
        match (&mkey.list, mkey.mode) {
            (_, AccessMode::Pa) => Ok(Some(va)),
            (Translation::Mtt(pages), _) => {
                let (index, in_page, room) = mkey.locate(va)?;
                let page = *pages.get(index).ok_or(MkeyFault::Bounds)?;
                Ok((len <= room).then(|| (page & !7).wrapping_add(in_page)))
            }
            _ => Ok(None),
        }
    }

    /// [`resolve_whole`](Self::resolve_whole) for a peer: the reserved lkey is no rkey.
    #[inline]
    pub fn resolve_remote_whole(
        &self,
        who: Accessor,
        rkey: u32,
        va: u64,
        len: u64,
        need: Rights,
    ) -> Result<Option<u64>, MkeyFault> {
        let who = Accessor {
            reserved_lkey: false,
            ..who
        };
        self.resolve_whole(who, rkey, va, len, need)
    }

    /// [`check`](Self::check) for a peer: the reserved lkey is no rkey.
    pub fn check_remote(
        &self,
        who: Accessor,
        rkey: u32,
        va: u64,
        len: u64,
        need: Rights,
    ) -> Result<(), MkeyFault> {
        self.check(
            Accessor {
                reserved_lkey: false,
                ..who
            },
            rkey,
            va,
            len,
            need,
        )
    }

    /// [`resolve`](Self::resolve) for a peer: the reserved lkey is no rkey.
    #[inline]
    pub fn resolve_remote(
        &self,
        who: Accessor,
        rkey: u32,
        va: u64,
        len: u64,
        need: Rights,
        piece: &mut dyn FnMut(u64, u64),
    ) -> Result<(), MkeyFault> {
        self.resolve(
            Accessor {
                reserved_lkey: false,
                ..who
            },
            rkey,
            va,
            len,
            need,
            piece,
        )
    }

    /// A peer's SEND with invalidate: the key becomes free, if it allows that.
    pub fn invalidate(&mut self, who: Accessor, rkey: u32) -> Result<(), MkeyFault> {
        let mkey = self.valid(rkey)?;
        if !mkey.remote_invalidate {
            return Err(MkeyFault::Access);
        }
        mkey.admit(who, Rights::NONE)?;
        if let Some(mkey) = self.table.get_mut(rkey >> 8) {
            mkey.free = true;
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // one recursive step: the question, its depth and budget
    fn resolve_in(
        &self,
        who: Accessor,
        key: u32,
        va: u64,
        len: u64,
        need: Rights,
        depth: u32,
        budget: &mut u32,
        piece: &mut dyn FnMut(u64, u64),
    ) -> Result<(), MkeyFault> {
        let mkey = self.valid(key)?;
        mkey.admit(who, need)?;
        mkey.bounds(va, len)?;
        match (&mkey.list, mkey.mode) {
            (_, AccessMode::Pa) => {
                piece(va, len);
                Ok(())
            }
            (Translation::Mtt(pages), _) => mkey.walk_pages(pages, va, len, budget, piece),
            (Translation::Klm(entries), mode) => {
                if depth >= MAX_INDIRECTION {
                    return Err(MkeyFault::Depth);
                }
                // Rights of an indirect key are its own; its pieces are read and written locally.
                let inner = need_of_pieces(need);
                let list = KlmList { entries, mode };
                mkey.walk_entries(&list, va, len, budget, &mut |budget, entry, offset, n| {
                    let va = entry.va.checked_add(offset).ok_or(MkeyFault::Bounds)?;
                    self.resolve_in(who, entry.key, va, n, inner, depth + 1, budget, piece)
                })
            }
            (Translation::None, _) => {
                if len == 0 {
                    Ok(())
                } else {
                    Err(MkeyFault::Bounds)
                }
            }
        }
    }
}

/// Called for each entry of an indirect key: work budget, entry, offset in it, bytes.
type EntryStep<'a> = dyn FnMut(&mut u32, &Klm, u64, u64) -> Result<(), MkeyFault> + 'a;

/// Entries of an indirect key.
struct KlmList<'a> {
    entries: &'a [Klm],
    mode: AccessMode,
}

/// An indirect key was checked for remote rights; its pieces need the local counterpart.
fn need_of_pieces(need: Rights) -> Rights {
    let write = need.contains(Rights::REMOTE_WRITE)
        || need.contains(Rights::ATOMIC)
        || need.contains(Rights::LOCAL_WRITE);
    if write {
        Rights::LOCAL_WRITE
    } else {
        Rights::NONE
    }
}

impl Mkey {
    fn admit(&self, who: Accessor, need: Rights) -> Result<(), MkeyFault> {
        if who.pd.is_some_and(|pd| pd != self.pd) {
            return Err(MkeyFault::Protection);
        }
        if self.qpn != 0xff_ffff && self.qpn != who.qpn {
            return Err(MkeyFault::Protection);
        }
        if !self.rights.contains(need) {
            return Err(MkeyFault::Access);
        }
        Ok(())
    }

    fn bounds(&self, va: u64, len: u64) -> Result<(), MkeyFault> {
        if self.length64 {
            return if va.checked_add(len).is_some() {
                Ok(())
            } else {
                Err(MkeyFault::Bounds)
            };
        }
        let offset = va.checked_sub(self.start).ok_or(MkeyFault::Bounds)?;
        match offset.checked_add(len) {
            Some(end) if end <= self.len => Ok(()),
            _ => Err(MkeyFault::Bounds),
        }
    }

    /// Index of the page that `va` lies in, where in it, and how many bytes follow there.
    #[inline]
    fn locate(&self, va: u64) -> Result<(usize, u64, u64), MkeyFault> {
        let shift = self.log_page_size.min(62);
        let page_size = 1u64 << shift;
        let position = va.wrapping_sub(self.start & !(page_size - 1));
        let index = usize::try_from(position >> shift).map_err(|_| MkeyFault::Bounds)?;
        let in_page = position & (page_size - 1);
        Ok((index, in_page, page_size - in_page))
    }

    #[inline]
    fn walk_pages(
        &self,
        pages: &[u64],
        mut va: u64,
        len: u64,
        budget: &mut u32,
        piece: &mut dyn FnMut(u64, u64),
    ) -> Result<(), MkeyFault> {
        let mut left = len;
        while left > 0 {
            *budget = budget.checked_sub(1).ok_or(MkeyFault::Depth)?;
            let (index, in_page, room) = self.locate(va)?;
            let page = *pages.get(index).ok_or(MkeyFault::Bounds)?;
            let n = left.min(room);
            piece((page & !7).wrapping_add(in_page), n);
            va = va.wrapping_add(n);
            left -= n;
        }
        Ok(())
    }

    fn walk_entries(
        &self,
        list: &KlmList<'_>,
        va: u64,
        len: u64,
        budget: &mut u32,
        step: &mut EntryStep<'_>,
    ) -> Result<(), MkeyFault> {
        let KlmList { entries, mode } = *list;
        let mut offset = va.wrapping_sub(self.start);
        let mut left = len;
        let mut index = 0;
        if mode == AccessMode::Ksm {
            // Entities are of one size, the first starts at the aligned-down start address.
            let size = 1u64 << self.log_page_size.min(62);
            offset = va.wrapping_sub(self.start & !(size - 1));
            index = usize::try_from(offset >> self.log_page_size.min(62))
                .map_err(|_| MkeyFault::Bounds)?;
            offset &= size - 1;
        }
        while left > 0 {
            // Entries that are passed over cost as much as those that are used.
            *budget = budget.checked_sub(1).ok_or(MkeyFault::Depth)?;
            let entry = entries.get(index).ok_or(MkeyFault::Bounds)?;
            let size = match mode {
                AccessMode::Ksm => 1u64 << self.log_page_size.min(62),
                _ => u64::from(entry.len),
            };
            index += 1;
            if offset >= size {
                offset -= size;
                continue;
            }
            let n = left.min(size - offset);
            step(budget, entry, offset, n)?;
            offset = 0;
            left -= n;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
