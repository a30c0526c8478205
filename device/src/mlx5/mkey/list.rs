//! Translation lists as commands and UMR work requests write them: bounded by what a key was made for, and by what
//! all keys may hold together.

use super::{AccessMode, Klm, MAX_STORED_OCTWORDS, Mkey, Mkeys, Translation, UNMAPPED};

/// The translation list cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListFault {
    /// All keys together hold too much.
    Budget,
    /// The key takes no list, or not there.
    Refused,
}

impl Mkeys {
    /// Replaces entries of a key's list by `bytes` (8 bytes per MTT entry, 16 per KLM) from octword
    /// `offset` on, or (`None`) the whole list. What is beyond the key's capacity is ignored: lists
    /// come padded.
    pub fn write_list(
        &mut self,
        index: u32,
        offset: Option<u64>,
        bytes: &[u8],
    ) -> Result<(), ListFault> {
        let mkey = self.table.get_mut(index).ok_or(ListFault::Refused)?;
        let capacity = u64::from(mkey.octwords);
        let first = offset.unwrap_or(0).min(capacity);
        let n = (bytes.len() as u64 / 16).min(capacity - first);
        if n == 0 && offset.is_some() {
            return Ok(());
        }
        let bytes = &bytes[..n as usize * 16];
        let before = mkey.list.octwords();
        let after = if offset.is_none() {
            n
        } else {
            before.max(first + n)
        };
        if self.stored_octwords - before + after > MAX_STORED_OCTWORDS {
            return Err(ListFault::Budget);
        }
        match (&mut mkey.list, mkey.mode) {
            (list, AccessMode::Mtt) => {
                if !matches!(list, Translation::Mtt(_)) {
                    *list = Translation::Mtt(Vec::new());
                }
                if let Translation::Mtt(entries) = list {
                    entries.resize(after as usize * 2, UNMAPPED);
                    let place = entries.iter_mut().skip(first as usize * 2);
                    for (entry, bytes) in place.zip(bytes.chunks_exact(8)) {
                        *entry = be64(bytes);
                    }
                }
            }
            (list, AccessMode::Klm | AccessMode::Ksm) => {
                if !matches!(list, Translation::Klm(_)) {
                    *list = Translation::Klm(Vec::new());
                }
                if let Translation::Klm(entries) = list {
                    entries.resize(after as usize, Klm::default());
                    let place = entries.iter_mut().skip(first as usize);
                    for (entry, bytes) in place.zip(bytes.chunks_exact(16)) {
                        let head = be64(bytes);
                        *entry = Klm {
                            len: (head >> 32) as u32,
                            key: head as u32,
                            va: be64(&bytes[8..]),
                        };
                    }
                }
            }
            (_, AccessMode::Pa) => {
                return if n == 0 {
                    Ok(())
                } else {
                    Err(ListFault::Refused)
                };
            }
        }
        self.stored_octwords = self.stored_octwords - before + after;
        Ok(())
    }

    /// Removes a key and its list.
    pub fn remove(&mut self, index: u32) -> Option<Box<Mkey>> {
        let mkey = self.table.remove(index)?;
        self.stored_octwords = self.stored_octwords.saturating_sub(mkey.list.octwords());
        Some(mkey)
    }
}

fn be64(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |chunk| u64::from_be_bytes(*chunk))
}

impl Translation {
    /// Entries held, in octwords.
    fn octwords(&self) -> u64 {
        match self {
            Translation::None => 0,
            Translation::Mtt(entries) => entries.len().div_ceil(2) as u64,
            Translation::Klm(entries) => entries.len() as u64,
        }
    }
}
